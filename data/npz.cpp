#include "data/npz.h"

#include <fmt/format.h>
#include <zip.h>

#include <charconv>
#include <cstring>
#include <optional>

#include "data/zip_handles.h"
#include "kernels/core.h"

namespace graft {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";

/// The text after 'key': in the header, a Python dict literal.
std::string_view value_of(std::string_view header, std::string_view key, std::string_view name) {
  const auto at = header.find(fmt::format("'{}':", key));
  if (at == std::string_view::npos) throw Error(fmt::format("{}: the .npy header has no '{}'", name, key));
  std::string_view rest = header.substr(at + key.size() + 3);
  return rest.substr(std::min(rest.find_first_not_of(' '), rest.size()));
}

std::vector<std::int64_t> parse_shape(std::string_view text, std::string_view name) {
  const auto fail = [&] { throw Error(fmt::format("{}: the .npy header's shape cannot be read", name)); };
  const auto close = text.find(')');
  if (!text.starts_with('(') || close == std::string_view::npos) fail();
  text = text.substr(1, close - 1);
  std::vector<std::int64_t> shape;
  while (true) {
    const auto digit = text.find_first_not_of(" ,");
    if (digit == std::string_view::npos) return shape;
    text.remove_prefix(digit);
    std::int64_t size = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), size);
    if (error != std::errc() || size < 0) fail();
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    shape.push_back(size);
  }
}

template <typename T>
std::vector<std::int64_t> widen(const std::vector<std::uint8_t>& bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return {values.begin(), values.end()};
}

Zip open_zip(const std::filesystem::path& path) {
  int code = 0;
  Zip archive(zip_open(path.c_str(), ZIP_RDONLY, &code));
  if (!archive) {
    zip_error_t error;
    zip_error_init_with_code(&error, code);
    const std::string message = zip_error_strerror(&error);
    zip_error_fini(&error);
    throw Error(fmt::format("cannot read {}: {}; expected a NumPy .npz archive", path.string(), message));
  }
  return archive;
}

/// Product of the sizes times the element's, unless it overflows.
std::optional<std::uint64_t> byte_count(const std::vector<std::int64_t>& shape, std::uint64_t element) {
  std::uint64_t count = element;
  for (const std::int64_t size : shape) {
    if (__builtin_mul_overflow(count, static_cast<std::uint64_t>(size), &count)) return std::nullopt;
  }
  return count;
}

}  // namespace

std::int64_t NpyArray::size() const {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) count *= extent;
  return count;
}

std::vector<std::int64_t> NpyArray::integers() const {
  if (dtype == "|u1" || dtype == "|b1") return widen<std::uint8_t>(bytes);
  if (dtype == "|i1") return widen<std::int8_t>(bytes);
  if (dtype == "<u2") return widen<std::uint16_t>(bytes);
  if (dtype == "<i2") return widen<std::int16_t>(bytes);
  if (dtype == "<u4") return widen<std::uint32_t>(bytes);
  if (dtype == "<i4") return widen<std::int32_t>(bytes);
  if (dtype == "<u8" || dtype == "<i8") return widen<std::int64_t>(bytes);
  throw Error(fmt::format("npy: expected integers, got NumPy type '{}'", dtype));
}

NpyArray parse_npy(std::span<const std::uint8_t> file, std::string_view name) {
  const auto fail = [&](std::string_view what) { throw Error(fmt::format("{}: {}", name, what)); };
  if (file.size() < 12 || std::memcmp(file.data(), kMagic.data(), kMagic.size()) != 0) fail("not a NumPy .npy array");
  const int version = file[6];
  if (version < 1 || version > 3) fail(fmt::format(".npy format version {} is unknown, expected 1 to 3", version));
  const std::size_t length_bytes = version == 1 ? 2 : 4;
  std::size_t header_size = 0;
  for (std::size_t i = 0; i < length_bytes; ++i) header_size |= std::size_t{file[8 + i]} << (8 * i);
  const std::size_t data_at = 8 + length_bytes + header_size;
  if (data_at > file.size()) fail("the .npy header is truncated");
  const std::string_view header(reinterpret_cast<const char*>(file.data()) + 8 + length_bytes, header_size);

  NpyArray array;
  const std::string_view type = value_of(header, "descr", name);
  const auto quote = type.find('\'', 1);
  if (!type.starts_with('\'') || quote == std::string_view::npos || quote < 3) {
    fail("expected an array of plain numbers, got a structured or unknown type");
  }
  array.dtype = std::string(type.substr(1, quote - 1));
  if (array.dtype[1] == 'O') fail("the array holds Python objects, which are never unpickled; save plain numbers");
  if (array.dtype.size() < 3) fail(fmt::format("unknown NumPy type '{}'", array.dtype));
  if (array.dtype[0] == '>') fail("the array is big-endian; save it in little-endian order");
  if (!value_of(header, "fortran_order", name).starts_with("False")) {
    fail("the array is in Fortran order; save numpy.ascontiguousarray(x)");
  }
  array.shape = parse_shape(value_of(header, "shape", name), name);
  std::uint64_t element = 0;
  const auto [end, error] = std::from_chars(array.dtype.data() + 2, array.dtype.data() + array.dtype.size(), element);
  if (error != std::errc() || *end != '\0') fail(fmt::format("unknown NumPy type '{}'", array.dtype));
  const auto expected = byte_count(array.shape, element);
  if (!expected || *expected != file.size() - data_at) {
    fail(fmt::format("the array holds {} bytes, its header promises another number; the file is damaged",
                     file.size() - data_at));
  }
  array.bytes.assign(file.begin() + static_cast<std::ptrdiff_t>(data_at), file.end());
  return array;
}

std::vector<std::string> npz_names(const std::filesystem::path& path) {
  const Zip archive = open_zip(path);
  std::vector<std::string> names;
  for (zip_int64_t i = 0; i < zip_get_num_entries(archive.get(), 0); ++i) {
    std::string name = zip_get_name(archive.get(), static_cast<zip_uint64_t>(i), 0);
    if (name.ends_with(".npy")) names.push_back(name.substr(0, name.size() - 4));
  }
  return names;
}

NpyArray read_npz(const std::filesystem::path& path, const std::string& array) {
  const Zip archive = open_zip(path);
  const std::string entry = array + ".npy";
  const std::string name = fmt::format("{}:{}", path.string(), array);
  zip_stat_t stat;
  if (zip_stat(archive.get(), entry.c_str(), 0, &stat) != 0) throw Error(fmt::format("{}: no such array", name));
  const ZipEntry file(zip_fopen(archive.get(), entry.c_str(), 0));
  if (!file) throw Error(fmt::format("cannot read {}: {}", name, zip_strerror(archive.get())));
  std::vector<std::uint8_t> bytes;
  // Grown as data comes: a damaged size field must not ask for all memory at once.
  while (bytes.size() < stat.size) {
    const std::size_t chunk = std::min<std::size_t>(stat.size - bytes.size(), std::size_t{64} << 20);
    const std::size_t filled = bytes.size();
    bytes.resize(filled + chunk);
    const zip_int64_t got = zip_fread(file.get(), bytes.data() + filled, chunk);
    if (got <= 0)
      throw Error(fmt::format("cannot read {}: {}; the archive is damaged", name, zip_file_strerror(file.get())));
    bytes.resize(filled + static_cast<std::size_t>(got));
  }
  // The checksum is compared when the end is read.
  std::uint8_t past = 0;
  if (zip_fread(file.get(), &past, 1) != 0) {
    throw Error(fmt::format("cannot read {}: {}; the archive is damaged", name, zip_file_strerror(file.get())));
  }
  return parse_npy(bytes, name);
}

}  // namespace graft
