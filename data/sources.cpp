#include "data/sources.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "data/csv.h"
#include "data/decoders.h"
#include "data/files.h"
#include "kernels/core.h"

namespace graft {
namespace fs = std::filesystem;
namespace {

class FileSource : public ImageSource {
 public:
  FileSource(std::vector<fs::path> files, const std::optional<IntensityWindow>& window)
      : files_(std::move(files)), window_(window) {}
  Image load(std::int64_t i, ImageInfo* info) const override {
    return decode_image(files_[static_cast<std::size_t>(i)], info, window_);
  }

 private:
  std::vector<fs::path> files_;
  std::optional<IntensityWindow> window_;
};

/// Names of the folders in a folder, in byte order; hidden ones are passed over.
std::vector<std::string> folders_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_directory() && !name.starts_with('.')) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// How many files there are of each kind (".dcm", in small letters) that are no images by their names.
using OtherFiles = std::map<std::string, std::int64_t>;

/// Paths of the images below a folder, relative to it, in byte order; hidden files are passed over.
std::vector<std::string> images_below(const fs::path& folder, OtherFiles* others = nullptr) {
  std::vector<std::string> paths;
  for (const auto& entry : fs::recursive_directory_iterator(folder, fs::directory_options::follow_directory_symlink)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_regular_file() || name.starts_with('.')) continue;
    if (has_image_extension(entry.path())) {
      paths.push_back(entry.path().lexically_relative(folder).string());
    } else if (others != nullptr) {
      std::string kind = entry.path().extension().string();
      std::ranges::transform(kind, kind.begin(), [](unsigned char c) { return char(std::tolower(c)); });
      ++(*others)[kind.empty() ? "without an extension" : kind];
    }
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

bool has_dicom(const OtherFiles& others) { return others.contains(".dcm") || others.contains(".dicom"); }

/// Files among the images of classes that are none.
void note_other_files(const fs::path& folder, const OtherFiles& others, Listing& listing) {
  if (others.empty()) return;
  std::int64_t count = 0;
  std::vector<std::string> kinds;
  for (const auto& [kind, files] : others) count += files, kinds.push_back(fmt::format("{} {}", files, kind));
  constexpr std::size_t kMostKinds = 6;
  if (kinds.size() > kMostKinds) kinds.resize(kMostKinds), kinds.back() = "…";
  listing.notes.push_back(fmt::format("{}: left out of its class folders, no images by their names: {} ({}){}",
                                      folder.string(), count == 1 ? "a file" : fmt::format("{} files", count),
                                      fmt::join(kinds, ", "),
                                      has_dicom(others) ? fmt::format("; {}", decoders::kNoDicom) : ""));
}

/// What to do about a folder without images that holds these.
std::string advice_on(const OtherFiles& others) {
  if (has_dicom(others)) return decoders::kNoDicom;
  return !others.empty() ? "none of its files has the name of an image (.png, .jpg, .tif, …); rename or convert them"
                         : "add images or remove the folder";
}

/// Images that lie beside the class folders, where no class claims them.
void note_stray_images(const fs::path& folder, Listing& listing) {
  std::int64_t count = 0;
  std::string first;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_regular_file() || name.starts_with('.') || !has_image_extension(entry.path())) continue;
    if (count++ == 0 || name < first) first = name;
  }
  if (count == 0) return;
  listing.notes.push_back(fmt::format("{}: {} (such as {}) beside the class folders {} left out", folder.string(),
                                      count == 1 ? std::string("an image") : fmt::format("{} images", count), first,
                                      count == 1 ? "is" : "are"));
}

std::optional<Split> parse_split(std::string_view text) {
  if (text == "train" || text == "training") return Split::train;
  if (text == "val" || text == "valid" || text == "validation") return Split::val;
  if (text == "test" || text == "testing") return Split::test;
  return std::nullopt;
}

struct SplitFolder {
  Split split;
  std::string name;
};

/// The folders of a layout with splits, in order; none: there is no such layout. Beside a folder of training images
/// every usual spelling counts, "Training" and "valid" too; else a class may have such a name.
/// Errors: two folders of one split.
std::vector<SplitFolder> split_folders(const fs::path& folder) {
  std::vector<SplitFolder> found;
  for (const std::string& name : folders_in(folder)) {
    std::string lower = name;
    std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return char(std::tolower(c)); });
    if (const std::optional<Split> split = parse_split(lower)) found.push_back({*split, name});
  }
  if (std::ranges::find(found, Split::train, &SplitFolder::split) == found.end())
    std::erase_if(found, [](const SplitFolder& f) { return f.name != to_string(f.split); });
  std::ranges::stable_sort(found, {}, &SplitFolder::split);
  const auto twice = std::ranges::adjacent_find(found, {}, &SplitFolder::split);
  if (twice != found.end())
    throw Error(fmt::format("{}: the folders '{}' and '{}' name the same split; keep one of them, or rename the other",
                            folder.string(), twice->name, (twice + 1)->name));
  return found;
}

/// Errors: what would be a class is a data set of its own, so that a folder too high was named.
void refuse_sets_within(const fs::path& folder, const std::vector<std::string>& class_names) {
  for (const std::string& name : class_names) {
    for (const SplitFolder& part : split_folders(folder / name)) {
      throw Error(fmt::format(
          "{}: the class folder '{}' holds a folder '{}', as a data set does; did you mean {}? Within a class, folders "
          "need other names than train, val and test",
          folder.string(), name, part.name, (folder / name).string()));
    }
  }
}

/// Folders beside those of the splits.
void note_left_out_folders(const fs::path& folder, const std::vector<SplitFolder>& parts, Listing& listing) {
  std::vector<std::string> names = folders_in(folder);
  std::erase_if(names, [&](const std::string& name) {
    return std::ranges::find(parts, name, &SplitFolder::name) != parts.end();
  });
  if (names.empty()) return;
  listing.notes.push_back(fmt::format("{}: {} beside {}/ {} left out", folder.string(),
                                      names.size() == 1
                                          ? "the folder " + names.front()
                                          : fmt::format("{} folders (such as {})", names.size(), names.front()),
                                      parts.front().name, names.size() == 1 ? "is" : "are"));
}

std::optional<std::int64_t> as_integer(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// Sorted labels: by value if all are integers, else by bytes.
std::vector<std::string> sorted_labels(const std::set<std::string>& labels) {
  std::vector<std::string> names(labels.begin(), labels.end());
  if (std::all_of(names.begin(), names.end(), [](const auto& name) { return as_integer(name).has_value(); })) {
    std::stable_sort(names.begin(), names.end(),
                     [](const auto& a, const auto& b) { return *as_integer(a) < *as_integer(b); });
  }
  return names;
}

/// Where every image has at most one label, and one has a comma or a semicolon in it.
void note_other_separators(const std::vector<std::vector<std::string>>& names, Listing& listing) {
  if (std::ranges::any_of(names, [](const auto& of_row) { return of_row.size() > 1; })) return;
  const auto found = std::ranges::find_if(
      listing.class_names, [](const std::string& name) { return name.find_first_of(",;") != std::string::npos; });
  if (found != listing.class_names.end())
    listing.notes.push_back(
        fmt::format("'{}' is taken for one label: labels are separated by {}", *found, LabelSets::kSeparator));
}

/// The label of each row, and the classes behind them. Errors: an empty label in a column `label`, or within `labels`.
std::vector<std::int32_t> take_labels(const CsvTable& table, const std::string& file, std::size_t column,
                                      bool is_multi_label, Listing& listing) {
  const auto fail = [&](std::size_t row, const std::string& what) {
    throw Error(fmt::format("{}, line {}: {}", file, table.lines[row], what));
  };
  std::vector<std::vector<std::string>> names;
  std::set<std::string> all;
  for (std::size_t r = 0; r < table.rows.size(); ++r) {
    const std::string& field = table.rows[r][column];
    if (!is_multi_label && field.empty()) fail(r, "the label is empty");
    try {
      names.push_back(is_multi_label ? LabelSets::split(field) : std::vector{field});
    } catch (const Error& error) {
      fail(r, error.what());
    }
    all.insert(names.back().begin(), names.back().end());
  }
  listing.class_names = sorted_labels(all);
  std::map<std::string, std::int32_t> class_of;
  for (std::size_t c = 0; c < listing.class_names.size(); ++c) class_of[listing.class_names[c]] = std::int32_t(c);

  std::vector<std::int32_t> labels;
  LabelNumbers numbers;
  for (const std::vector<std::string>& of_row : names) {
    std::vector<std::int32_t> classes;
    for (const std::string& name : of_row) classes.push_back(class_of[name]);
    labels.push_back(is_multi_label ? numbers.label_of(std::move(classes)) : classes.front());
  }
  if (!is_multi_label) return labels;
  listing.label_sets = numbers.sets();
  note_other_separators(names, listing);
  if (listing.class_names.size() > 1 &&
      std::ranges::all_of(names, [](const auto& of_row) { return of_row.size() == 1; }))
    listing.notes.push_back(
        "every image has one label: the column labels is for several, with | between them; named label, the network "
        "would choose one class per image");
  return labels;
}

}  // namespace

Listing list_folder(const fs::path& folder, const std::optional<IntensityWindow>& window) {
  Listing listing;
  std::vector<SplitFolder> parts = split_folders(folder);
  listing.has_splits = !parts.empty();
  if (listing.has_splits)
    note_left_out_folders(folder, parts, listing);
  else
    parts.push_back({Split::train, ""});

  std::set<std::string> classes;
  for (const auto& [split, part] : parts) {
    for (const std::string& name : folders_in(folder / part)) classes.insert(name);
  }
  if (classes.empty()) {
    throw Error(
        fmt::format("{}: no class folders; expected train/<class>/<images> (and val/, test/), or <class>/<images>",
                    folder.string()));
  }
  listing.class_names.assign(classes.begin(), classes.end());
  if (!listing.has_splits) refuse_sets_within(folder, listing.class_names);

  std::vector<fs::path> files;
  OtherFiles others;
  note_stray_images(folder, listing);
  for (const auto& [split, part] : parts) {
    if (!part.empty()) note_stray_images(folder / part, listing);
    for (const std::string& name : folders_in(folder / part)) {
      const auto label = std::lower_bound(listing.class_names.begin(), listing.class_names.end(), name);
      OtherFiles of_class;
      const std::vector<std::string> images = images_below(folder / part / name, &of_class);
      if (images.empty()) {
        throw Error(fmt::format("{}: class '{}' is empty: no images in {}; {}", folder.string(), name,
                                (folder / part / name).string(), advice_on(of_class)));
      }
      for (const auto& [kind, found] : of_class) others[kind] += found;
      for (const std::string& image : images) {
        const fs::path relative = fs::path(part) / name / image;
        listing.samples.push_back({.path = relative.string(),
                                   .label = static_cast<std::int32_t>(label - listing.class_names.begin()),
                                   .split = split,
                                   .group = ""});
        files.push_back(folder / relative);
      }
    }
  }
  note_other_files(folder, others, listing);
  listing.source = std::make_shared<FileSource>(std::move(files), window);
  return listing;
}

Listing list_csv(const fs::path& file, const std::optional<IntensityWindow>& window) {
  const std::string name = file.string();
  const CsvTable table = parse_csv(read_text(file), name);
  const auto require = [&](std::string_view column) {
    const auto at = table.column(column);
    if (!at)
      throw Error(fmt::format(
          "{}: no column '{}' among {}; expected a header path,label[,split][,group], or labels for several per image",
          name, column, fmt::join(table.header, ", ")));
    return *at;
  };
  const std::size_t path_at = require("path");
  const bool is_multi_label = table.column("labels").has_value();
  if (is_multi_label && table.column("label"))
    throw Error(fmt::format(
        "{}: columns 'label' and 'labels'; keep label for one class per image, or labels for several", name));
  const std::size_t label_at = require(is_multi_label ? "labels" : "label");
  const auto split_at = table.column("split");
  auto group_at = table.column("group");
  if (!group_at) group_at = table.column("patient");
  if (table.rows.empty()) throw Error(fmt::format("{}: no images: the table has a header and no rows", name));

  Listing listing;
  listing.has_splits = split_at.has_value();
  const std::vector<std::int32_t> labels = take_labels(table, name, label_at, is_multi_label, listing);

  std::vector<fs::path> files;
  const fs::path folder = file.has_parent_path() ? file.parent_path() : fs::path(".");
  for (std::size_t r = 0; r < table.rows.size(); ++r) {
    const auto& row = table.rows[r];
    const auto fail = [&](const std::string& what) {
      throw Error(fmt::format("{}, line {}: {}", name, table.lines[r], what));
    };
    if (row[path_at].empty()) fail("the path is empty");
    std::optional<Split> split = Split::train;
    if (split_at) split = parse_split(row[*split_at]);
    if (!split) fail(fmt::format("unknown split '{}'; expected train, val or test", row[*split_at]));
    listing.samples.push_back({.path = row[path_at],
                               .label = labels[r],
                               .split = *split,
                               .group = group_at ? row[*group_at] : std::string()});
    files.push_back(folder / row[path_at]);  // an absolute path replaces the folder
  }
  listing.source = std::make_shared<FileSource>(std::move(files), window);
  return listing;
}

std::vector<fs::path> list_images(const fs::path& path) {
  if (!fs::exists(path)) throw Error(fmt::format("{}: no such file or folder", path.string()));
  if (!fs::is_directory(path)) return {path};
  std::vector<fs::path> files;
  OtherFiles others;
  for (const std::string& image : images_below(path, &others)) files.push_back(path / image);
  if (files.empty()) throw Error(fmt::format("{}: no images in this folder; {}", path.string(), advice_on(others)));
  return files;
}

}  // namespace graft
