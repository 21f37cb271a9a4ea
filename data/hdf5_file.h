// HDF5 files as this project uses them: groups, attributes of texts and numbers, datasets of numbers. It wraps the C
// library's handles and turns its errors into graft::Error; what the names mean is model_file.h's and keras_h5.h's
// business. Object paths are absolute ("/weights/conv1.weight").
#pragma once

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "data/weight_table.h"

namespace graft {

/// Owns one HDF5 identifier; move-only, and its destructor closes without throwing.
class Hdf5Handle {
 public:
  using Close = int (*)(std::int64_t);
  Hdf5Handle() = default;
  Hdf5Handle(std::int64_t id, Close close) : id_(id), close_(close) {}
  ~Hdf5Handle();
  Hdf5Handle(Hdf5Handle&& other) noexcept;
  Hdf5Handle& operator=(Hdf5Handle&& other) noexcept;
  Hdf5Handle(const Hdf5Handle&) = delete;
  Hdf5Handle& operator=(const Hdf5Handle&) = delete;

  std::int64_t id() const { return id_; }
  void close();  // Errors: the library reports that buffered data could not be written

 private:
  std::int64_t id_ = -1;
  Close close_ = nullptr;
};

enum class Hdf5Type : std::uint8_t { floating, integer, text, other };

struct Hdf5DatasetInfo {
  Dimensions shape;
  Hdf5Type type = Hdf5Type::other;
  DType dtype = DType::f32;  // of floating ones
  std::int64_t element_bytes = 0;
  std::int64_t stored_bytes = 0;  // in the file, after compression
};

/// A dataset's values: float16 and float32 read as float.
using NumberArray = std::variant<std::vector<float>, std::vector<double>, std::vector<std::int64_t>>;

/// One open file. Reading calls take any HDF5 file; writing calls need `create`, those of rows also `open_to_append`.
/// The library serves one thread at a time: another that opens a file waits until this one is closed.
class Hdf5File {
 public:
  /// Errors: missing, not HDF5, truncated.
  static Hdf5File open(const std::filesystem::path& path);
  /// An existing file, to read and to lengthen its rows. Errors: as open(); it is read-only, or a writer left it half
  /// done.
  static Hdf5File open_to_append(const std::filesystem::path& path);
  /// Errors: the folder cannot be written. An existing file is replaced.
  static Hdf5File create(const std::filesystem::path& path);

  Hdf5File(Hdf5File&&) = default;  // stays with its thread
  Hdf5File& operator=(Hdf5File&&) = delete;

  void close();  // Errors: the data could not be written

  bool has_group(const std::string& path) const;
  std::vector<std::string> children(
      const std::string& group) const;  // in order of creation if the file keeps it, else of names

  bool has_attribute(const std::string& object, const std::string& name) const;
  std::vector<std::string> attribute_names(const std::string& object) const;
  /// Fixed-length or variable-length strings, a scalar or a list. An empty list of any type reads as empty.
  std::vector<std::string> read_texts(const std::string& object, const std::string& name) const;
  std::string read_text(const std::string& object, const std::string& name) const;
  std::vector<double> read_numbers(const std::string& object, const std::string& name) const;
  std::int64_t read_integer(const std::string& object, const std::string& name) const;

  Hdf5DatasetInfo dataset_info(const std::string& path) const;
  NumberArray read_array(const std::string& path) const;
  /// A floating-point dataset as a tensor of that name; float64 keeps its exact values.
  WeightTensor read_tensor(const std::string& path, std::string name) const;

  void create_group(const std::string& path);
  void write_text(const std::string& object, const std::string& name, const std::string& text);
  void write_texts(const std::string& object, const std::string& name, const std::vector<std::string>& texts);
  void write_numbers(const std::string& object, const std::string& name, const std::vector<double>& numbers);
  void write_number(const std::string& object, const std::string& name, double number);
  void write_integer(const std::string& object, const std::string& name, std::int64_t number);
  /// One chunk per dataset with a Fletcher-32 checksum: a single read and a single check for each (see single_chunk).
  void write_array(const std::string& path, const Dimensions& shape, std::span<const float> values);
  void write_array(const std::string& path, const Dimensions& shape, std::span<const double> values);
  void write_array(const std::string& path, const Dimensions& shape, std::span<const std::int64_t> values);

  /// A dataset without rows that append_rows lengthens: of shape [rows] if `width` is 0, else [rows, width]; float64,
  /// or int64 if `is_integer`. Chunks of 64 rows with a Fletcher-32 checksum.
  void create_rows(const std::string& path, std::int64_t width, bool is_integer = false);
  /// Whole rows at the end. Errors: not whole rows; no space.
  void append_rows(const std::string& path, std::span<const double> values);
  void append_rows(const std::string& path, std::span<const std::int64_t> values);
  /// Drops all rows from `rows` on. Errors: there are fewer.
  void cut_rows(const std::string& path, std::int64_t rows);

  /// Where a dataset written by write_array lies in the file: `bytes` of values, then 4 bytes of checksum.
  struct Chunk {
    std::int64_t offset = -1;  // -1: another layout, to be read with read_array
    std::int64_t bytes = 0;
  };
  Chunk single_chunk(const std::string& path, const Hdf5DatasetInfo& info) const;

 private:
  using Lock = std::unique_lock<std::recursive_mutex>;
  Hdf5File(Lock library, Hdf5Handle file, std::string name)
      : library_(std::move(library)), file_(std::move(file)), name_(std::move(name)) {}
  static Lock lock_library();
  static Hdf5File open_as(Lock library, const std::filesystem::path& path, unsigned access);
  Hdf5Handle open_object(const std::string& path) const;
  Hdf5Handle open_attribute(const std::string& object, const std::string& name) const;
  Hdf5Handle open_dataset(const std::string& path) const;
  [[noreturn]] void fail(const std::string& what) const;
  Hdf5DatasetInfo info_of(const Hdf5Handle& dataset, const std::string& path) const;
  void write_raw(const std::string& path, const Dimensions& shape, std::int64_t file_type, std::int64_t memory_type,
                 const void* values, std::int64_t item_bytes);
  void write_chunk(const Hdf5Handle& dataset, const std::string& path, std::size_t rank, const void* values,
                   std::int64_t bytes);
  void append_raw(const std::string& path, std::int64_t memory_type, const void* values, std::int64_t count);
  void write_attribute(const std::string& object, const std::string& name, std::int64_t type, std::int64_t count,
                       const void* values);

  Lock library_;  // released after the file
  Hdf5Handle file_;
  std::string name_;
  std::vector<std::uint8_t> chunk_;  // being written
};

}  // namespace graft
