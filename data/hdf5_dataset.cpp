// The datasets of Hdf5File: shapes and types, reading with conversion, writing in one checksummed chunk.
#include <fmt/format.h>
#include <hdf5.h>

#include <algorithm>
#include <utility>

#include "data/fletcher32.h"
#include "data/hdf5_file.h"

namespace graft {

Hdf5Handle Hdf5File::open_dataset(const std::string& path) const {
  Hdf5Handle dataset(H5Dopen2(file_.id(), path.c_str(), H5P_DEFAULT), H5Dclose);
  if (dataset.id() < 0) fail(fmt::format("dataset {} is missing or damaged", path));
  return dataset;
}

Hdf5DatasetInfo Hdf5File::info_of(const Hdf5Handle& dataset, const std::string& path) const {
  const Hdf5Handle space(H5Dget_space(dataset.id()), H5Sclose);
  const Hdf5Handle type(H5Dget_type(dataset.id()), H5Tclose);
  if (space.id() < 0 || type.id() < 0) fail(fmt::format("dataset {}", path));
  Hdf5DatasetInfo info;
  const int rank = H5Sget_simple_extent_ndims(space.id());
  if (rank < 0 || rank > H5S_MAX_RANK) fail(fmt::format("dataset {} has no shape", path));
  std::vector<hsize_t> sizes(static_cast<std::size_t>(rank));
  if (rank > 0) H5Sget_simple_extent_dims(space.id(), sizes.data(), nullptr);
  for (const hsize_t size : sizes)
    info.shape.push_back(size > (hsize_t{1} << 40) ? -1 : static_cast<std::int64_t>(size));
  const std::int64_t count = element_count(info.shape, fmt::format("hdf5 {}: dataset {}", name_, path));
  info.element_bytes = static_cast<std::int64_t>(H5Tget_size(type.id()));
  info.stored_bytes = static_cast<std::int64_t>(H5Dget_storage_size(dataset.id()));
  switch (H5Tget_class(type.id())) {
    case H5T_FLOAT:
      info.type = Hdf5Type::floating;
      break;
    case H5T_INTEGER:
      info.type = Hdf5Type::integer;
      break;
    case H5T_STRING:
      info.type = Hdf5Type::text;
      break;
    default:
      info.type = Hdf5Type::other;
  }
  if (info.type == Hdf5Type::floating) {
    info.dtype = info.element_bytes == 2 ? DType::f16 : info.element_bytes == 4 ? DType::f32 : DType::f64;
    if (info.element_bytes > 8) info.type = Hdf5Type::other;
  }
  // Deflate shrinks at most about 1032-fold: more is a hole filled with a default, or a hostile header.
  if (count > 0 && count > info.stored_bytes * 1100 / std::max<std::int64_t>(info.element_bytes, 1)) {
    throw Error(fmt::format("hdf5 {}: dataset {} {} has only {} bytes in the file; it is damaged or was never written",
                            name_, path, dimensions_text(info.shape), info.stored_bytes));
  }
  return info;
}

Hdf5DatasetInfo Hdf5File::dataset_info(const std::string& path) const { return info_of(open_dataset(path), path); }

NumberArray Hdf5File::read_array(const std::string& path) const {
  const Hdf5Handle dataset = open_dataset(path);
  const Hdf5DatasetInfo info = info_of(dataset, path);
  const auto count = static_cast<std::size_t>(element_count(info.shape, path));
  const auto read = [&](auto values, hid_t type) -> NumberArray {
    values.resize(count);
    if (count > 0 && H5Dread(dataset.id(), type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) < 0) {
      fail(fmt::format("dataset {} cannot be read; the file is damaged", path));
    }
    return values;
  };
  if (info.type == Hdf5Type::integer) return read(std::vector<std::int64_t>{}, H5T_NATIVE_INT64);
  if (info.type != Hdf5Type::floating) throw Error(fmt::format("hdf5 {}: dataset {} holds no numbers", name_, path));
  if (info.dtype == DType::f64) return read(std::vector<double>{}, H5T_NATIVE_DOUBLE);
  return read(std::vector<float>{}, H5T_NATIVE_FLOAT);
}

WeightTensor Hdf5File::read_tensor(const std::string& path, std::string name) const {
  const Hdf5DatasetInfo info = dataset_info(path);
  if (info.type != Hdf5Type::floating)
    throw Error(fmt::format("hdf5 {}: dataset {} holds no floating-point values", name_, path));
  WeightTensor tensor{std::move(name), info.shape, info.dtype, {}, {}};
  NumberArray array = read_array(path);
  if (auto* exact = std::get_if<std::vector<double>>(&array)) {
    tensor.values.assign(exact->begin(), exact->end());
    tensor.exact = std::move(*exact);
  } else {
    tensor.values = std::move(std::get<std::vector<float>>(array));
  }
  return tensor;
}

void Hdf5File::write_raw(const std::string& path, const Dimensions& shape, std::int64_t file_type,
                         std::int64_t memory_type, const void* values, std::int64_t item_bytes) {
  const std::vector<hsize_t> sizes(shape.begin(), shape.end());
  const std::int64_t count = element_count(shape, path);
  const Hdf5Handle space(
      shape.empty() ? H5Screate(H5S_SCALAR) : H5Screate_simple(static_cast<int>(sizes.size()), sizes.data(), nullptr),
      H5Sclose);
  const Hdf5Handle plan(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  bool is_one_chunk = false;
  if (!shape.empty() && count > 0) {  // a scalar or empty dataset cannot be chunked
    std::vector<hsize_t> chunk = sizes;
    constexpr std::int64_t kMaxChunkBytes = 0xffff0000;  // the library's limit is 2^32 - 1
    if (count * item_bytes > kMaxChunkBytes) {
      const std::int64_t row_bytes = count / shape[0] * item_bytes;
      if (row_bytes > kMaxChunkBytes) throw Error(fmt::format("hdf5 {}: dataset {} has rows over 4 GB", name_, path));
      chunk[0] = static_cast<hsize_t>(kMaxChunkBytes / row_bytes);
    }
    is_one_chunk = chunk[0] == sizes[0];
    H5Pset_chunk(plan.id(), static_cast<int>(chunk.size()), chunk.data());
    H5Pset_fletcher32(plan.id());
  }
  const Hdf5Handle dataset(
      H5Dcreate2(file_.id(), path.c_str(), file_type, space.id(), H5P_DEFAULT, plan.id(), H5P_DEFAULT), H5Dclose);
  if (dataset.id() < 0) fail(fmt::format("dataset {} cannot be created", path));
  if (count == 0) return;
  if (is_one_chunk && H5Tequal(file_type, memory_type) > 0)
    return write_chunk(dataset, path, sizes.size(), values, count * item_bytes);
  if (H5Dwrite(dataset.id(), memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0) {
    fail(fmt::format("dataset {} cannot be written; check free space", path));
  }
}

/// As the library's filter would have it, without its copies: values, then their checksum.
void Hdf5File::write_chunk(const Hdf5Handle& dataset, const std::string& path, std::size_t rank, const void* values,
                           std::int64_t bytes) {
  const auto* const begin = static_cast<const std::uint8_t*>(values);
  const std::uint32_t checksum = fletcher32({begin, std::size_t(bytes)});
  chunk_.resize(std::max(chunk_.size(), std::size_t(bytes) + sizeof checksum));
  std::memcpy(chunk_.data(), begin, std::size_t(bytes));
  std::memcpy(chunk_.data() + bytes, &checksum, sizeof checksum);
  const std::vector<hsize_t> origin(rank);
  if (H5Dwrite_chunk(dataset.id(), H5P_DEFAULT, 0, origin.data(), std::size_t(bytes) + sizeof checksum, chunk_.data()) <
      0)
    fail(fmt::format("dataset {} cannot be written; check free space", path));
}

namespace {

void check_count(const std::string& path, const Dimensions& shape, std::size_t count) {
  if (element_count(shape, path) != static_cast<std::int64_t>(count)) {
    throw Error(fmt::format("hdf5: dataset {} {} was given {} values", path, dimensions_text(shape), count));
  }
}

}  // namespace

void Hdf5File::write_array(const std::string& path, const Dimensions& shape, std::span<const float> values) {
  check_count(path, shape, values.size());
  write_raw(path, shape, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, values.data(), 4);
}

void Hdf5File::write_array(const std::string& path, const Dimensions& shape, std::span<const double> values) {
  check_count(path, shape, values.size());
  write_raw(path, shape, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, values.data(), 8);
}

void Hdf5File::write_array(const std::string& path, const Dimensions& shape, std::span<const std::int64_t> values) {
  check_count(path, shape, values.size());
  write_raw(path, shape, H5T_STD_I64LE, H5T_NATIVE_INT64, values.data(), 8);
}

void Hdf5File::create_rows(const std::string& path, std::int64_t width, bool is_integer) {
  constexpr hsize_t kChunkRows = 64;
  const int rank = width > 0 ? 2 : 1;
  const hsize_t columns = static_cast<hsize_t>(width);
  const hsize_t sizes[] = {0, columns}, most[] = {H5S_UNLIMITED, columns}, chunk[] = {kChunkRows, columns};
  const Hdf5Handle space(H5Screate_simple(rank, sizes, most), H5Sclose);
  const Hdf5Handle plan(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_chunk(plan.id(), rank, chunk);
  H5Pset_fletcher32(plan.id());
  const Hdf5Handle dataset(H5Dcreate2(file_.id(), path.c_str(), is_integer ? H5T_STD_I64LE : H5T_IEEE_F64LE, space.id(),
                                      H5P_DEFAULT, plan.id(), H5P_DEFAULT),
                           H5Dclose);
  if (dataset.id() < 0) fail(fmt::format("dataset {} cannot be created", path));
}

void Hdf5File::append_raw(const std::string& path, std::int64_t memory_type, const void* values, std::int64_t count) {
  if (count == 0) return;
  const Hdf5Handle dataset = open_dataset(path);
  const Dimensions before = info_of(dataset, path).shape;
  const std::int64_t width = before.size() == 2 ? before[1] : 1;
  if (before.empty() || before.size() > 2 || count % width != 0)
    throw Error(fmt::format("hdf5 {}: dataset {} {} was given {} values, not whole rows", name_, path,
                            dimensions_text(before), count));
  const int rank = static_cast<int>(before.size());
  const hsize_t first[] = {static_cast<hsize_t>(before[0]), 0};
  const hsize_t added[] = {static_cast<hsize_t>(count / width), static_cast<hsize_t>(width)};
  const hsize_t sizes[] = {first[0] + added[0], added[1]};
  if (H5Dset_extent(dataset.id(), sizes) < 0) fail(fmt::format("dataset {} cannot be lengthened", path));
  const Hdf5Handle space(H5Dget_space(dataset.id()), H5Sclose);
  const Hdf5Handle memory(H5Screate_simple(rank, added, nullptr), H5Sclose);
  if (H5Sselect_hyperslab(space.id(), H5S_SELECT_SET, first, nullptr, added, nullptr) < 0 ||
      H5Dwrite(dataset.id(), memory_type, memory.id(), space.id(), H5P_DEFAULT, values) < 0) {
    fail(fmt::format("dataset {} cannot be written; check free space", path));
  }
}

void Hdf5File::append_rows(const std::string& path, std::span<const double> values) {
  append_raw(path, H5T_NATIVE_DOUBLE, values.data(), std::ssize(values));
}

void Hdf5File::append_rows(const std::string& path, std::span<const std::int64_t> values) {
  append_raw(path, H5T_NATIVE_INT64, values.data(), std::ssize(values));
}

void Hdf5File::cut_rows(const std::string& path, std::int64_t rows) {
  const Hdf5Handle dataset = open_dataset(path);
  const Dimensions before = info_of(dataset, path).shape;
  if (before.empty() || before[0] < rows)
    throw Error(
        fmt::format("hdf5 {}: dataset {} {} cannot be cut to {} rows", name_, path, dimensions_text(before), rows));
  std::vector<hsize_t> sizes(before.begin(), before.end());
  sizes[0] = static_cast<hsize_t>(rows);
  if (H5Dset_extent(dataset.id(), sizes.data()) < 0) fail(fmt::format("dataset {} cannot be cut", path));
}

Hdf5File::Chunk Hdf5File::single_chunk(const std::string& path, const Hdf5DatasetInfo& info) const {
  const Hdf5Handle dataset = open_dataset(path);
  const Hdf5Handle plan(H5Dget_create_plist(dataset.id()), H5Pclose);
  const Hdf5Handle type(H5Dget_type(dataset.id()), H5Tclose);
  const bool is_native = H5Tequal(type.id(), H5T_IEEE_F32LE) > 0 || H5Tequal(type.id(), H5T_IEEE_F64LE) > 0;
  if (!is_native || H5Pget_layout(plan.id()) != H5D_CHUNKED || H5Pget_nfilters(plan.id()) != 1) return {};
  unsigned flags = 0;
  std::size_t parameters = 0;
  if (H5Pget_filter2(plan.id(), 0, &flags, &parameters, nullptr, 0, nullptr, nullptr) != H5Z_FILTER_FLETCHER32)
    return {};
  std::vector<hsize_t> chunk(info.shape.size());
  if (H5Pget_chunk(plan.id(), static_cast<int>(chunk.size()), chunk.data()) != static_cast<int>(chunk.size()) ||
      !std::equal(chunk.begin(), chunk.end(), info.shape.begin(),
                  [](hsize_t a, std::int64_t b) { return a == static_cast<hsize_t>(b); })) {
    return {};
  }
  const Hdf5Handle space(H5Dget_space(dataset.id()), H5Sclose);
  std::vector<hsize_t> origin(info.shape.size());
  unsigned mask = 0;
  haddr_t address = HADDR_UNDEF;
  hsize_t bytes = 0;
  if (H5Dget_chunk_info(dataset.id(), space.id(), 0, origin.data(), &mask, &address, &bytes) < 0) {
    fail(fmt::format("dataset {} cannot be located; the file is damaged", path));
  }
  const std::int64_t expected = element_count(info.shape, path) * info.element_bytes;
  if (mask != 0 || address == HADDR_UNDEF || bytes != static_cast<hsize_t>(expected) + 4) return {};
  return {static_cast<std::int64_t>(address), expected};
}

}  // namespace graft
