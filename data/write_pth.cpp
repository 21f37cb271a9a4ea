// Writing PyTorch's .pth: a zip of stored entries, each at a multiple of 64 bytes, with the state dict as a pickle that
// names each tensor's storage. Declared in pth.h. Sources: torch/serialization.py `_save`, caffe2/serialize/
// inline_container.cc; for the zip PKWARE's APPNOTE 4.3.
#include <fmt/format.h>
#include <zlib.h>

#include <bit>
#include <string>
#include <vector>

#include "data/files.h"
#include "data/pth.h"

namespace graft {
namespace {

static_assert(std::endian::native == std::endian::little, "values are written as they lie in memory");

using Bytes = std::span<const std::uint8_t>;

Bytes bytes_of(std::string_view text) { return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}; }

template <class T>
Bytes bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const std::uint8_t*>(values.data()), values.size() * sizeof(T)};
}

/// Little-endian integers, one after another.
class Record {
 public:
  Record& u16(std::uint64_t v) { return put(v, 2); }
  Record& u32(std::uint64_t v) { return put(v, 4); }
  Record& text(std::string_view v) { return bytes_ += v, *this; }
  const std::string& bytes() const { return bytes_; }

 private:
  Record& put(std::uint64_t v, int n) {
    for (int i = 0; i < n; ++i) bytes_ += char(v >> (8 * i));
    return *this;
  }
  std::string bytes_;
};

/// Entries, stored as they are; the same contents give the same bytes, since no entry carries a time.
class StoredZip {
 public:
  /// `contents` must live until the file is written.
  void add(const std::string& name, Bytes contents) {
    constexpr std::uint64_t kLocalHeader = 0x04034b50, kCentralHeader = 0x02014b50, kAlignment = 64;
    const std::uint64_t crc = ::crc32_z(0, contents.data(), contents.size());
    const auto common = [&](Record& r, std::uint64_t extra) {
      r.u16(0).u16(0).u16(0).u16(kFirstDay).u32(crc).u32(contents.size()).u32(contents.size());
      r.u16(name.size()).u16(extra);
    };
    const std::uint64_t begin = size_ + 30 + name.size() + 4;  // of the contents without padding
    const std::uint64_t padding = (kAlignment - begin % kAlignment) % kAlignment;
    Record local, central;
    local.u32(kLocalHeader).u16(0), common(local, 4 + padding);
    local.text(name).text("FB").u16(padding).text(std::string(padding, 'Z'));
    central.u32(kCentralHeader).u16(0).u16(0), common(central, 0);
    central.u16(0).u16(0).u16(0).u32(0).u32(size_).text(name);
    central_ += central.bytes();
    ++count_;
    append(local.bytes());
    parts_.push_back({.other = contents});
    size_ += contents.size();
  }

  void write(const std::filesystem::path& path) {
    constexpr std::uint64_t kEnd = 0x06054b50, kMost = 0xfffffffe;
    const std::uint64_t directory = size_;
    if (directory + central_.size() > kMost || count_ > 0xfffe)
      throw Error(fmt::format("pth: {} bytes in {} entries do not fit this kind of file; export .safetensors instead",
                              directory, count_));
    Record end;
    end.u32(kEnd).u16(0).u16(0).u16(count_).u16(count_).u32(central_.size()).u32(directory).u16(0);
    append(central_ + end.bytes());
    std::vector<Bytes> parts;
    for (const Part& part : parts_) parts.push_back(part.own.empty() ? part.other : bytes_of(part.own));
    write_atomically(path, parts);
  }

 private:
  static constexpr std::uint64_t kFirstDay = 0x21;  // 1 January 1980
  struct Part {
    std::string own = {};
    Bytes other = {};
  };
  void append(const std::string& bytes) {
    size_ += bytes.size();
    parts_.push_back({.own = bytes});
  }
  std::vector<Part> parts_;
  std::string central_;
  std::uint64_t size_ = 0, count_ = 0;
};

/// Protocol 2, with the opcodes that PyTorch itself uses for a state dict.
class StateDictPickle {
 public:
  StateDictPickle() { out_.text("\x80\x02"), ordered_dict(), out_.text("("); }

  void add(const WeightTensor& tensor, std::int64_t key) {
    text(tensor.name);
    out_.text("ctorch._utils\n_rebuild_tensor_v2\n((");
    text("storage");
    out_.text(tensor.exact.empty() ? "ctorch\nFloatStorage\n" : "ctorch\nDoubleStorage\n");
    text(std::to_string(key)), text("cpu"), integer(std::int64_t(tensor.values.size()));
    out_.text("tQ");
    integer(0);  // its offset
    tuple(tensor.shape);
    Dimensions strides(tensor.shape.size(), 1);
    for (std::size_t d = strides.size(); d-- > 1;)
      strides[d - 1] = strides[d] * std::max<std::int64_t>(1, tensor.shape[d]);
    tuple(strides);
    out_.text("\x89");  // needs no gradient
    ordered_dict();     // no hooks
    out_.text("tR");
  }
  std::string finish() { return out_.text("u.").bytes(); }

 private:
  void ordered_dict() { out_.text("ccollections\nOrderedDict\n)R"); }
  void text(std::string_view value) { out_.text("X").u32(value.size()).text(value); }
  void integer(std::int64_t value) {
    if (value > 0x7fffffff)
      throw Error(fmt::format("pth: a size of {} does not fit; export .safetensors instead", value));
    out_.text("J").u32(std::uint64_t(value));
  }
  void tuple(const Dimensions& sizes) {
    out_.text("(");
    for (std::int64_t size : sizes) integer(size);
    out_.text("t");
  }
  Record out_;
};

}  // namespace

void write_pth(const std::filesystem::path& path, const WeightTable& weights) {
  StateDictPickle pickle;
  std::int64_t key = 0;
  for (const WeightTensor& tensor : weights.tensors()) pickle.add(tensor, key++);
  const std::string state_dict = pickle.finish();
  StoredZip zip;
  zip.add("archive/data.pkl", bytes_of(state_dict));
  zip.add("archive/byteorder", bytes_of("little"));
  key = 0;
  for (const WeightTensor& tensor : weights.tensors())
    zip.add(fmt::format("archive/data/{}", key++),
            tensor.exact.empty() ? bytes_of(tensor.values) : bytes_of(tensor.exact));
  zip.add("archive/version", bytes_of("3\n"));
  zip.write(path);
}

}  // namespace graft
