#include "data/pth.h"

#include <fmt/format.h>
#include <zip.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/mapped_file.h"
#include "data/pickle.h"
#include "data/zip_handles.h"

namespace graft {
namespace {

using pickle::Document;
using pickle::Kind;
using pickle::Ref;

constexpr std::uint64_t kMaxPickleBytes = 64 << 20;
constexpr std::array<std::uint8_t, 10> kLegacyMagic = {0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
constexpr std::array<std::uint8_t, 4> kLegacyStart = {0x80, 0x02, 0x8a,
                                                      0x0a};  // PROTO 2, LONG1 of ten bytes: the magic

struct StorageType {
  std::string_view name;
  std::int64_t bytes;
  std::optional<DType> dtype;  // none: integers, which are skipped
};

constexpr StorageType kStorageTypes[] = {
    {"FloatStorage", 4, DType::f32},     {"DoubleStorage", 8, DType::f64}, {"HalfStorage", 2, DType::f16},
    {"BFloat16Storage", 2, DType::bf16}, {"LongStorage", 8, std::nullopt}, {"IntStorage", 4, std::nullopt},
    {"ByteStorage", 1, std::nullopt},    {"BoolStorage", 1, std::nullopt},
};

/// Where each storage's bytes lie, by key; views share them.
using StorageBytes = std::map<std::string, std::span<const std::uint8_t>, std::less<>>;

const StorageType& storage_type(const std::string& name, const std::string& file) {
  for (const StorageType& type : kStorageTypes) {
    if (type.name == name) return type;
  }
  throw Error(fmt::format("pth {}: storage type {} is not supported; convert the file to float32", file, name));
}

/// Copies a strided tensor into row-major bytes.
std::vector<std::uint8_t> gather(std::span<const std::uint8_t> source, const pickle::Tensor& tensor, std::int64_t count,
                                 std::int64_t offset, std::size_t item) {
  std::vector<std::uint8_t> out(static_cast<std::size_t>(count) * item);
  std::vector<std::int64_t> index(tensor.shape.size(), 0);
  std::int64_t at = offset;
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    std::memcpy(out.data() + i * item, source.data() + static_cast<std::size_t>(at) * item, item);
    for (std::size_t d = index.size(); d-- > 0;) {
      at += tensor.strides[d];
      if (++index[d] < tensor.shape[d]) break;
      at -= tensor.strides[d] * tensor.shape[d];
      index[d] = 0;
    }
  }
  return out;
}

void add_tensor(WeightTable& table, const std::string& name, const Document& document, const pickle::Tensor& tensor,
                const StorageBytes& storages, const std::string& file) {
  const std::string what = fmt::format("pth {}: tensor {}", file, name);
  const pickle::Storage& storage = document.storages[static_cast<std::size_t>(tensor.storage)];
  const StorageType& type = storage_type(storage.type, file);
  if (!type.dtype) {
    table.skipped.push_back({name, tensor.shape, storage.type});
    return;
  }
  const auto found = storages.find(storage.key);
  if (found == storages.end())
    throw Error(fmt::format("{}: its storage {} is missing; the file is damaged", what, storage.key));
  const auto available = static_cast<std::int64_t>(found->second.size()) / type.bytes;
  const std::int64_t count = element_count(tensor.shape, what);
  const auto out_of_bounds = [&] {
    return Error(
        fmt::format("{}: reaches beyond its storage of {} values; the file is damaged or truncated", what, available));
  };
  // Every term is below 2^40 * 2^40 / size, so the bound is checked in steps that cannot overflow.
  if (storage.view_offset < 0 || storage.view_offset > available || tensor.offset < 0 || tensor.offset > available) {
    throw out_of_bounds();
  }
  const std::int64_t offset = storage.view_offset + tensor.offset;
  std::int64_t last = offset;
  std::int64_t dense_stride = 1;
  bool is_dense = true;
  for (std::size_t d = tensor.shape.size(); d-- > 0 && count > 0;) {
    const std::int64_t size = tensor.shape[d], stride = tensor.strides[d];
    if (stride < 0 || (size > 1 && stride > available)) throw out_of_bounds();
    if (size > 1 && stride > 0 && size - 1 > (available - std::min(last, available)) / stride) throw out_of_bounds();
    if (size > 1) last += (size - 1) * stride;
    if (size > 1 && stride != dense_stride) is_dense = false;
    dense_stride *= size;
  }
  if (count > 0 && last >= available) throw out_of_bounds();
  // A stride of zero repeats one value: allowed, but not as a bomb.
  if (count > available && count > (std::int64_t{1} << 31)) {
    throw Error(fmt::format("{}: {} values out of a storage of {}; this is not a weight", what, count, available));
  }
  const auto item = static_cast<std::size_t>(type.bytes);
  if (count == 0) return table.add(decode_tensor(name, tensor.shape, *type.dtype, {}));
  if (is_dense) {
    const auto part =
        found->second.subspan(static_cast<std::size_t>(offset) * item, static_cast<std::size_t>(count) * item);
    return table.add(decode_tensor(name, tensor.shape, *type.dtype, part));
  }
  table.add(decode_tensor(name, tensor.shape, *type.dtype, gather(found->second, tensor, count, offset, item)));
}

bool has_tensors(const Document& document, Ref ref) {
  const auto& items = document.at(ref).items;
  for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
    if (document.at(items[i]).kind == Kind::text && document.at(items[i + 1]).kind == Kind::tensor) return true;
  }
  return false;
}

/// The dictionary of tensors inside the root: the root itself, or under a usual key, at most four levels deep.
Ref find_state_dict(const Document& document, const std::string& file) {
  Ref ref = document.root;
  for (int depth = 0; depth < 4; ++depth) {
    if (document.at(ref).kind != Kind::dict) break;
    if (has_tensors(document, ref)) return ref;
    Ref inner = -1;
    for (const std::string_view key : {"state_dict", "model", "model_state_dict"}) {
      if (inner < 0) inner = document.find(ref, key);
    }
    if (inner < 0) break;
    ref = inner;
  }
  throw Error(
      fmt::format("pth {}: no dictionary of tensors at the top or under state_dict or model; "
                  "save it with torch.save(model.state_dict(), path)",
                  file));
}

WeightTable table_from(const Document& document, const StorageBytes& storages, const std::string& file) {
  const Ref state = find_state_dict(document, file);
  const auto& items = document.at(state).items;
  struct Entry {
    std::string_view name;
    const pickle::Tensor* tensor;
  };
  std::vector<Entry> entries;
  for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
    const auto &key = document.at(items[i]), &value = document.at(items[i + 1]);
    if (key.kind != Kind::text || value.kind != Kind::tensor) continue;  // e.g. a version number beside the weights
    entries.push_back({key.text, &document.tensors[static_cast<std::size_t>(value.integer)]});
  }
  constexpr std::string_view kPrefix = "module.";
  const bool is_wrapped = std::ranges::all_of(entries, [&](const Entry& e) { return e.name.starts_with(kPrefix); });
  WeightTable table;
  // Tensors that share a storage are rare and small; a file that repeats one large storage under many names is not.
  std::int64_t total = 0, stored = 0;
  for (const auto& [key, bytes] : storages) stored += static_cast<std::int64_t>(bytes.size());
  for (const Entry& entry : entries) {
    total += std::min(element_count(entry.tensor->shape, entry.name), std::int64_t{1} << 40);
    if (total > (std::int64_t{1} << 28) && total > 8 * stored) {
      throw Error(fmt::format("pth {}: {} values come from {} bytes; this is not a weight file", file, total, stored));
    }
    add_tensor(table, std::string(is_wrapped ? entry.name.substr(kPrefix.size()) : entry.name), document, *entry.tensor,
               storages, file);
  }
  return table;
}

/// Reads a zip's stored entries; libzip verifies each one's CRC at its end.
class Archive {
 public:
  Archive(std::span<const std::uint8_t> bytes, const std::string& file) : file_(file), file_bytes_(bytes.size()) {
    zip_error_t reason;
    zip_error_init(&reason);
    zip_source_t* source = zip_source_buffer_create(bytes.data(), bytes.size(), 0, &reason);
    if (source != nullptr) archive_.reset(zip_open_from_source(source, ZIP_RDONLY | ZIP_CHECKCONS, &reason));
    if (archive_ == nullptr) {
      if (source != nullptr) zip_source_free(source);
      const std::string text = zip_error_strerror(&reason);
      zip_error_fini(&reason);
      throw Error(fmt::format("pth {}: the zip cannot be opened ({}); it is damaged or truncated, download it again",
                              file, text));
    }
    zip_error_fini(&reason);
  }

  std::vector<std::string> names() const {
    std::vector<std::string> all;
    const zip_int64_t count = zip_get_num_entries(archive_.get(), 0);
    for (zip_int64_t i = 0; i < count; ++i) {
      const char* name = zip_get_name(archive_.get(), static_cast<zip_uint64_t>(i), ZIP_FL_ENC_RAW);
      all.emplace_back(name == nullptr ? "" : name);
    }
    return all;
  }

  std::vector<std::uint8_t> read(const std::string& name) const {
    zip_stat_t status;
    if (zip_stat(archive_.get(), name.c_str(), ZIP_FL_ENC_RAW, &status) != 0) {
      throw Error(fmt::format("pth {}: the entry {} is missing; the file is damaged", file_, name));
    }
    if (status.comp_method != ZIP_CM_STORE || status.encryption_method != ZIP_EM_NONE) {
      throw Error(
          fmt::format("pth {}: the entry {} is compressed or encrypted, which PyTorch never writes; "
                      "save the file again with torch.save",
                      file_, name));
    }
    if (status.size > file_bytes_)
      throw Error(fmt::format("pth {}: the entry {} is larger than the file", file_, name));
    const ZipEntry entry(zip_fopen(archive_.get(), name.c_str(), ZIP_FL_ENC_RAW));
    std::vector<std::uint8_t> contents(status.size + 1);  // one more: reaching the end triggers the CRC check
    std::size_t filled = 0;
    while (entry != nullptr && filled < contents.size()) {
      const zip_int64_t got = zip_fread(entry.get(), contents.data() + filled, contents.size() - filled);
      if (got == 0) break;
      if (got < 0) {
        throw Error(fmt::format("pth {}: the entry {} is damaged ({}); download the file again", file_, name,
                                zip_file_strerror(entry.get())));
      }
      filled += static_cast<std::size_t>(got);
    }
    if (filled != status.size)
      throw Error(fmt::format("pth {}: the entry {} is truncated; download the file again", file_, name));
    contents.resize(filled);
    return contents;
  }

 private:
  const std::string& file_;
  std::size_t file_bytes_;
  Zip archive_;
};

WeightTable read_zip(std::span<const std::uint8_t> bytes, const std::string& file) {
  const Archive archive(bytes, file);
  const std::vector<std::string> names = archive.names();
  const auto ends_in = [&](std::string_view end) {
    return std::ranges::find_if(
        names, [&](const std::string& n) { return n.ends_with(end) && std::ranges::count(n, '/') == 1; });
  };
  const auto pickle_name = ends_in("/data.pkl");
  if (pickle_name == names.end()) {
    throw Error(fmt::format("pth {}: this zip holds no data.pkl; expected a file written by torch.save", file));
  }
  if (ends_in("/constants.pkl") != names.end()) {
    throw Error(fmt::format(
        "pth {}: this is a TorchScript archive; save its weights with torch.save(model.state_dict(), path)", file));
  }
  const std::string root = pickle_name->substr(0, pickle_name->size() - std::string_view("data.pkl").size());
  if (std::ranges::find(names, root + "byteorder") != names.end()) {
    const auto order = archive.read(root + "byteorder");
    if (std::string(order.begin(), order.end()) != "little") {
      throw Error(fmt::format("pth {}: its values are big-endian; save it on a little-endian machine", file));
    }
  }
  const auto program = archive.read(*pickle_name);
  if (program.size() > kMaxPickleBytes)
    throw Error(fmt::format("pth {}: data.pkl passes 64 MB; this is not a state dict", file));
  const Document document = pickle::parse(program, file);

  std::map<std::string, std::vector<std::uint8_t>, std::less<>> contents;
  std::size_t total_bytes = 0;
  for (const pickle::Storage& storage : document.storages) {
    const StorageType& type = storage_type(storage.type, file);
    auto [entry, is_first] = contents.try_emplace(storage.key);
    if (is_first) {
      entry->second = archive.read(root + "data/" + storage.key);
      total_bytes += entry->second.size();  // entries of a hostile zip may overlap
      if (total_bytes > bytes.size())
        throw Error(fmt::format("pth {}: its entries overlap; the file is damaged", file));
    }
    if (storage.size < 0 || static_cast<std::int64_t>(entry->second.size()) / type.bytes != storage.size ||
        static_cast<std::int64_t>(entry->second.size()) % type.bytes != 0) {
      throw Error(fmt::format("pth {}: storage {} expects {} values of {} bytes, the entry has {} bytes", file,
                              storage.key, storage.size, type.bytes, entry->second.size()));
    }
  }
  StorageBytes storages;
  for (const auto& [key, values] : contents) storages[key] = values;
  return table_from(document, storages, file);
}

/// magic, protocol, sys_info, the object, the list of keys (five pickles), then per key int64 count and raw values.
WeightTable read_legacy(std::span<const std::uint8_t> bytes, const std::string& file) {
  std::size_t at = 0;
  const auto next = [&] {
    const std::size_t limit = std::min<std::size_t>(bytes.size() - at, kMaxPickleBytes);
    Document document = pickle::parse(bytes.subspan(at, limit), file);
    at += document.bytes_read;
    return document;
  };
  const Document magic = next();
  if (magic.at(magic.root).kind != Kind::big_integer ||
      !std::equal(kLegacyMagic.begin(), kLegacyMagic.end(),
                  reinterpret_cast<const std::uint8_t*>(magic.at(magic.root).text.data()))) {
    throw Error(fmt::format("pth {}: the magic number is wrong; not a file of torch.save", file));
  }
  const Document protocol = next();
  if (protocol.at(protocol.root).kind != Kind::integer || protocol.at(protocol.root).integer != 1001) {
    throw Error(fmt::format("pth {}: expected protocol 1001; the file is damaged", file));
  }
  const Document system = next();
  const Ref little = system.find(system.root, "little_endian");
  if (little < 0 || system.at(little).kind != Kind::boolean || system.at(little).integer != 1) {
    throw Error(fmt::format("pth {}: its values are big-endian; save it on a little-endian machine", file));
  }
  const Document document = next();
  const Document keys = next();
  if (keys.at(keys.root).kind != Kind::list) throw Error(fmt::format("pth {}: the list of storages is missing", file));

  std::map<std::string, const pickle::Storage*, std::less<>> by_key;
  for (const pickle::Storage& storage : document.storages) {
    const auto [entry, is_first] = by_key.try_emplace(storage.key, &storage);
    if (!is_first && (entry->second->type != storage.type || entry->second->size != storage.size)) {
      throw Error(fmt::format("pth {}: storage {} has two descriptions; the file is damaged", file, storage.key));
    }
  }
  StorageBytes storages;
  for (const Ref ref : keys.at(keys.root).items) {
    const std::string& key = keys.at(ref).text;
    const auto found = by_key.find(key);
    if (keys.at(ref).kind != Kind::text || found == by_key.end()) {
      throw Error(fmt::format("pth {}: a storage is listed that no tensor uses; the file is damaged", file));
    }
    const StorageType& type = storage_type(found->second->type, file);
    const auto truncated = [&] {
      return Error(fmt::format("pth {}: the values of storage {} end early; the file is truncated, download it again",
                               file, key));
    };
    if (bytes.size() - at < 8) throw truncated();
    std::int64_t count = 0;
    std::memcpy(&count, bytes.data() + at, 8);
    at += 8;
    if (count != found->second->size || count < 0) {
      throw Error(
          fmt::format("pth {}: storage {} expects {} values, the file says {}", file, key, found->second->size, count));
    }
    if (count > static_cast<std::int64_t>(bytes.size() - at) / type.bytes) throw truncated();
    const auto size = static_cast<std::size_t>(count * type.bytes);
    storages[key] = bytes.subspan(at, size);
    at += size;
  }
  if (at != bytes.size())
    throw Error(fmt::format("pth {}: {} bytes follow the last storage; the file is damaged", file, bytes.size() - at));
  return table_from(document, storages, file);
}

bool begins_with(std::span<const std::uint8_t> bytes, std::span<const std::uint8_t> start) {
  return bytes.size() >= start.size() && std::equal(start.begin(), start.end(), bytes.begin());
}

bool is_zip(std::span<const std::uint8_t> bytes) {
  constexpr std::array<std::uint8_t, 4> kZipStart = {'P', 'K', 3, 4};
  return begins_with(bytes, kZipStart);
}

bool is_tar(std::span<const std::uint8_t> bytes) {
  return bytes.size() >= 512 && std::memcmp(bytes.data() + 257, "ustar", 5) == 0;
}

}  // namespace

bool looks_like_pth(std::span<const std::uint8_t> bytes) {
  return is_zip(bytes) || is_tar(bytes) || begins_with(bytes, kLegacyStart);
}

WeightTable read_pth(const std::filesystem::path& path) {
  const std::string file = path.string();
  const MappedFile mapped(path);
  const auto bytes = mapped.bytes();
  if (is_zip(bytes)) return read_zip(bytes, file);
  if (begins_with(bytes, kLegacyStart)) return read_legacy(bytes, file);
  if (is_tar(bytes)) {
    throw Error(
        fmt::format("pth {}: the tar format before PyTorch 0.1.10 is not read; load it in PyTorch 1.13 or older and "
                    "save it again with torch.save(state_dict, path)",
                    file));
  }
  if (!bytes.empty() && bytes[0] == 0x80) {
    throw Error(
        fmt::format("pth {}: a plain Python pickle, not a file of torch.save, and it is not executed; "
                    "save it again with torch.save(model.state_dict(), path)",
                    file));
  }
  throw Error(fmt::format(
      "pth {}: neither a zip nor a legacy stream of torch.save; the file is damaged or of another format", file));
}

}  // namespace graft
