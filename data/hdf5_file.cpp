#include "data/hdf5_file.h"

#include <fmt/format.h>
#include <hdf5.h>

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>

#include "data/hdf5_heap_check.h"
#include "data/mapped_file.h"

namespace graft {
namespace {

static_assert(std::is_same_v<hid_t, std::int64_t> && std::is_same_v<herr_t, int>, "Hdf5Handle stores these types");

/// The library prints every error to stderr unless told otherwise; ours carry its text instead. It also closes at exit
/// what was left open, and crashes there over a file that could not be written: every file here has its owner.
void silence_library() {
  [[maybe_unused]] static const herr_t done = (H5dont_atexit(), H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr));
}

/// The innermost message of the library's error stack: usually the reason, such as "bad checksum".
std::string library_reason() {
  std::string reason;
  H5Ewalk2(
      H5E_DEFAULT, H5E_WALK_UPWARD,
      [](unsigned index, const H5E_error2_t* error, void* out) -> herr_t {
        if (index == 0 && error->desc != nullptr) *static_cast<std::string*>(out) = error->desc;
        return 0;
      },
      &reason);
  H5Eclear2(H5E_DEFAULT);
  // A failed write says time, file, descriptor, addresses, and among them "error message = 'No space left on device'".
  constexpr std::string_view kSystem = "error message = '";
  if (const std::size_t at = reason.find(kSystem); at != std::string::npos) {
    reason.erase(0, at + kSystem.size());
    reason.erase(std::min(reason.find('\''), reason.size()));
  }
  reason.erase(std::min(reason.find('\n'), reason.size()));
  return reason.empty() ? "no reason given" : reason;
}

/// Fixed-length strings end at the first NUL or, padded with spaces, at the last other character.
std::string trimmed(const char* data, std::size_t size, H5T_str_t padding) {
  std::string text(data, ::strnlen(data, size));
  if (padding == H5T_STR_SPACEPAD) text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

Hdf5Handle utf8_type() {
  Hdf5Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type.id(), H5T_VARIABLE);
  H5Tset_cset(type.id(), H5T_CSET_UTF8);
  return type;
}

}  // namespace

Hdf5Handle::~Hdf5Handle() {
  if (id_ >= 0) close_(id_);
}

Hdf5Handle::Hdf5Handle(Hdf5Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}

Hdf5Handle& Hdf5Handle::operator=(Hdf5Handle&& other) noexcept {
  std::swap(id_, other.id_);
  std::swap(close_, other.close_);
  return *this;
}

void Hdf5Handle::close() {
  const std::int64_t id = std::exchange(id_, -1);
  if (id >= 0 && close_(id) < 0)
    throw Error(fmt::format("hdf5: closing failed: {}; check free space", library_reason()));
}

void Hdf5File::fail(const std::string& what) const {
  throw Error(fmt::format("hdf5 {}: {}: {}", name_, what, library_reason()));
}

Hdf5File::Lock Hdf5File::lock_library() {
  static std::recursive_mutex library;
  Lock lock(library);
  silence_library();  // the library's constants start it, with its work at exit
  return lock;
}

Hdf5File Hdf5File::open(const std::filesystem::path& path) {
  Lock library = lock_library();
  return open_as(std::move(library), path, H5F_ACC_RDONLY);
}

Hdf5File Hdf5File::open_to_append(const std::filesystem::path& path) {
  Lock library = lock_library();
  return open_as(std::move(library), path, H5F_ACC_RDWR);
}

Hdf5File Hdf5File::open_as(Lock library, const std::filesystem::path& path, unsigned mode) {
  const std::string name = path.string();
  std::error_code failure;
  if (!std::filesystem::is_regular_file(path, failure)) {
    throw Error(fmt::format("hdf5 {}: no such file; check the path", name));
  }
  {
    // Writers put texts first: the heaps lie in the file's beginning.
    constexpr std::size_t kScannedBytes = 4 << 20;
    const MappedFile mapped(path);
    if (!has_sound_global_heaps(mapped.bytes().first(std::min(mapped.bytes().size(), kScannedBytes)))) {
      throw Error(fmt::format("hdf5 {}: the heap that holds its texts is damaged; download or copy it again", name));
    }
  }
  if (H5Fis_hdf5(name.c_str()) <= 0) {
    H5Eclear2(H5E_DEFAULT);
    throw Error(
        fmt::format("hdf5 {}: not an HDF5 file, or its beginning is damaged; published weights (.pth, .safetensors) "
                    "are converted by graft weights import",
                    name));
  }
  Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_fclose_degree(access.id(), H5F_CLOSE_STRONG);
  if (mode == H5F_ACC_RDWR) H5Pset_libver_bounds(access.id(), H5F_LIBVER_V110, H5F_LIBVER_V110);
  Hdf5Handle file(H5Fopen(name.c_str(), mode, access.id()), H5Fclose);
  if (file.id() < 0) {
    throw Error(fmt::format("hdf5 {}: cannot be opened ({}); it is damaged or truncated", name, library_reason()));
  }
  return Hdf5File(std::move(library), std::move(file), name);
}

Hdf5File Hdf5File::create(const std::filesystem::path& path) {
  Lock library = lock_library();
  const std::string name = path.string();
  Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  // The 1.10 format has checksummed metadata, attributes beyond 64 KB, and a plain index for datasets of one chunk.
  H5Pset_libver_bounds(access.id(), H5F_LIBVER_V110, H5F_LIBVER_V110);
  H5Pset_fclose_degree(access.id(), H5F_CLOSE_STRONG);
  Hdf5Handle file(H5Fcreate(name.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.id()), H5Fclose);
  if (file.id() < 0) {
    throw Error(fmt::format("hdf5 {}: cannot be created ({}); choose a writable place", name, library_reason()));
  }
  return Hdf5File(std::move(library), std::move(file), name);
}

void Hdf5File::close() {
  if (file_.id() >= 0 && H5Fflush(file_.id(), H5F_SCOPE_LOCAL) < 0) fail("writing failed; check free space");
  file_.close();
  if (library_) library_.unlock();
}

Hdf5Handle Hdf5File::open_object(const std::string& path) const {
  Hdf5Handle object(H5Oopen(file_.id(), path.c_str(), H5P_DEFAULT), H5Oclose);
  if (object.id() < 0) fail(fmt::format("{} is missing or damaged", path));
  return object;
}

bool Hdf5File::has_group(const std::string& path) const {
  const Hdf5Handle object(H5Oopen(file_.id(), path.c_str(), H5P_DEFAULT), H5Oclose);
  H5Eclear2(H5E_DEFAULT);
  return object.id() >= 0 && H5Iget_type(object.id()) == H5I_GROUP;
}

std::vector<std::string> Hdf5File::children(const std::string& group) const {
  const Hdf5Handle object(H5Gopen2(file_.id(), group.c_str(), H5P_DEFAULT), H5Gclose);
  if (object.id() < 0) fail(fmt::format("group {} is missing or damaged", group));
  const Hdf5Handle plan(H5Gget_create_plist(object.id()), H5Pclose);
  unsigned order = 0;
  H5Pget_link_creation_order(plan.id(), &order);
  const H5_index_t index = (order & H5P_CRT_ORDER_INDEXED) != 0 ? H5_INDEX_CRT_ORDER : H5_INDEX_NAME;
  std::vector<std::string> names;
  const herr_t done = H5Literate(
      object.id(), index, H5_ITER_INC, nullptr,
      [](hid_t, const char* name, const H5L_info_t*, void* out) -> herr_t {
        static_cast<std::vector<std::string>*>(out)->emplace_back(name);
        return 0;
      },
      &names);
  if (done < 0) fail(fmt::format("cannot list {}", group));
  return names;
}

bool Hdf5File::has_attribute(const std::string& object, const std::string& name) const {
  return H5Aexists_by_name(file_.id(), object.c_str(), name.c_str(), H5P_DEFAULT) > 0;
}

std::vector<std::string> Hdf5File::attribute_names(const std::string& object) const {
  const Hdf5Handle owner = open_object(object);
  std::vector<std::string> names;
  const herr_t done = H5Aiterate2(
      owner.id(), H5_INDEX_NAME, H5_ITER_INC, nullptr,
      [](hid_t, const char* name, const H5A_info_t*, void* out) -> herr_t {
        static_cast<std::vector<std::string>*>(out)->emplace_back(name);
        return 0;
      },
      &names);
  if (done < 0) fail(fmt::format("cannot list the attributes of {}", object));
  return names;
}

Hdf5Handle Hdf5File::open_attribute(const std::string& object, const std::string& name) const {
  Hdf5Handle attribute(H5Aopen_by_name(file_.id(), object.c_str(), name.c_str(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  if (attribute.id() < 0) fail(fmt::format("attribute {} of {} is missing or damaged", name, object));
  return attribute;
}

std::vector<std::string> Hdf5File::read_texts(const std::string& object, const std::string& name) const {
  const Hdf5Handle attribute = open_attribute(object, name);
  const Hdf5Handle space(H5Aget_space(attribute.id()), H5Sclose);
  const Hdf5Handle type(H5Aget_type(attribute.id()), H5Tclose);
  const std::string what = fmt::format("attribute {} of {}", name, object);
  if (space.id() < 0 || type.id() < 0) fail(what);
  const hssize_t count = H5Sget_simple_extent_npoints(space.id());
  if (count == 0 || H5Sget_simple_extent_type(space.id()) == H5S_NULL) return {};
  if (count < 0 || count > 10'000'000) fail(what + " has an impossible size");
  if (H5Tget_class(type.id()) != H5T_STRING) {
    throw Error(fmt::format("hdf5 {}: {}: expected text, found numbers", name_, what));
  }
  std::vector<std::string> texts;
  if (H5Tis_variable_str(type.id()) > 0) {
    std::vector<char*> pointers(static_cast<std::size_t>(count), nullptr);
    if (H5Aread(attribute.id(), type.id(), pointers.data()) < 0) fail(what);
    for (const char* text : pointers) texts.emplace_back(text == nullptr ? "" : text);
    H5Dvlen_reclaim(type.id(), space.id(), H5P_DEFAULT, pointers.data());
    return texts;
  }
  const std::size_t size = H5Tget_size(type.id());
  if (size == 0 || size > (std::size_t{1} << 28) / static_cast<std::size_t>(count))
    fail(what + " has an impossible size");
  std::vector<char> data(size * static_cast<std::size_t>(count));
  if (H5Aread(attribute.id(), type.id(), data.data()) < 0) fail(what);
  const H5T_str_t padding = H5Tget_strpad(type.id());
  for (hssize_t i = 0; i < count; ++i)
    texts.push_back(trimmed(data.data() + static_cast<std::size_t>(i) * size, size, padding));
  return texts;
}

std::string Hdf5File::read_text(const std::string& object, const std::string& name) const {
  const auto texts = read_texts(object, name);
  if (texts.size() != 1)
    throw Error(
        fmt::format("hdf5 {}: attribute {} of {}: expected one text, got {}", name_, name, object, texts.size()));
  return texts[0];
}

std::vector<double> Hdf5File::read_numbers(const std::string& object, const std::string& name) const {
  const Hdf5Handle attribute = open_attribute(object, name);
  const Hdf5Handle space(H5Aget_space(attribute.id()), H5Sclose);
  const std::string what = fmt::format("attribute {} of {}", name, object);
  const hssize_t count = space.id() < 0 ? -1 : H5Sget_simple_extent_npoints(space.id());
  if (count < 0 || count > 10'000'000) fail(what);
  std::vector<double> numbers(static_cast<std::size_t>(count));
  if (count > 0 && H5Aread(attribute.id(), H5T_NATIVE_DOUBLE, numbers.data()) < 0) fail(what + " holds no numbers");
  return numbers;
}

std::int64_t Hdf5File::read_integer(const std::string& object, const std::string& name) const {
  const Hdf5Handle attribute = open_attribute(object, name);
  const Hdf5Handle space(H5Aget_space(attribute.id()), H5Sclose);
  std::int64_t number = 0;
  if (space.id() < 0 || H5Sget_simple_extent_npoints(space.id()) != 1 ||
      H5Aread(attribute.id(), H5T_NATIVE_INT64, &number) < 0) {
    fail(fmt::format("attribute {} of {}: expected one whole number", name, object));
  }
  return number;
}

void Hdf5File::create_group(const std::string& path) {
  const Hdf5Handle plan(H5Pcreate(H5P_GROUP_CREATE), H5Pclose);
  H5Pset_link_creation_order(plan.id(), H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
  const Hdf5Handle group(H5Gcreate2(file_.id(), path.c_str(), H5P_DEFAULT, plan.id(), H5P_DEFAULT), H5Gclose);
  if (group.id() < 0) fail(fmt::format("group {} cannot be created", path));
}

void Hdf5File::write_attribute(const std::string& object, const std::string& name, std::int64_t type,
                               std::int64_t count, const void* values) {
  const auto size = static_cast<hsize_t>(std::max<std::int64_t>(count, 0));
  // count < 0 asks for a scalar.
  const Hdf5Handle space(count < 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &size, nullptr), H5Sclose);
  const Hdf5Handle owner = open_object(object);
  const Hdf5Handle attribute(H5Acreate2(owner.id(), name.c_str(), type, space.id(), H5P_DEFAULT, H5P_DEFAULT),
                             H5Aclose);
  if (attribute.id() < 0 || (count != 0 && H5Awrite(attribute.id(), type, values) < 0)) {
    fail(fmt::format("attribute {} of {} cannot be written", name, object));
  }
}

void Hdf5File::write_text(const std::string& object, const std::string& name, const std::string& text) {
  const Hdf5Handle type = utf8_type();
  const char* pointer = text.c_str();
  write_attribute(object, name, type.id(), -1, &pointer);
}

void Hdf5File::write_texts(const std::string& object, const std::string& name, const std::vector<std::string>& texts) {
  const Hdf5Handle type = utf8_type();
  std::vector<const char*> pointers;
  for (const std::string& text : texts) pointers.push_back(text.c_str());
  write_attribute(object, name, type.id(), static_cast<std::int64_t>(texts.size()), pointers.data());
}

void Hdf5File::write_numbers(const std::string& object, const std::string& name, const std::vector<double>& numbers) {
  write_attribute(object, name, H5T_NATIVE_DOUBLE, static_cast<std::int64_t>(numbers.size()), numbers.data());
}

void Hdf5File::write_number(const std::string& object, const std::string& name, double number) {
  write_attribute(object, name, H5T_NATIVE_DOUBLE, -1, &number);
}

void Hdf5File::write_integer(const std::string& object, const std::string& name, std::int64_t number) {
  write_attribute(object, name, H5T_NATIVE_INT64, -1, &number);
}

}  // namespace graft
