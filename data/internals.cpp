#include "data/internals.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "data/files.h"
#include "data/hdf5_file.h"

namespace graft {
namespace {

constexpr const char* kInternalsFormat = "graft-internals";
constexpr std::int64_t kInternalsFormatVersion = 1;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// Calls visit(path, width, values) for every dataset that has a row per record.
template <class Records, class Visit>
void visit_rows(Records& records, std::int64_t parameters, std::int64_t norms, const Visit& visit) {
  visit("/step", 0, records.step);
  visit("/epoch", 0, records.epoch);
  visit("/lr", 0, records.lr);
  visit("/loss", 0, records.loss);
  for (std::size_t i = 0; i < kParameterNorms.size(); ++i)
    visit(std::string("/parameters/") + kParameterNorms[i], parameters, records.norms[i]);
  if (norms == 0) return;  // a VGG may have none
  visit("/batch_norms/mean_drift", norms, records.mean_drift);
  visit("/batch_norms/variance_drift", norms, records.variance_drift);
}

void write_members(Hdf5File& file, const std::string& group, const std::vector<InternalsHeader::Member>& members) {
  std::vector<std::string> names;
  std::vector<double> blocks, sizes;
  for (const InternalsHeader::Member& m : members) {
    names.push_back(m.name);
    blocks.push_back(double(m.block)), sizes.push_back(double(m.size));
  }
  file.create_group(group);
  file.write_texts(group, "names", names);
  file.write_numbers(group, "blocks", blocks);
  file.write_numbers(group, "sizes", sizes);
}

std::vector<InternalsHeader::Member> read_members(const Hdf5File& file, const std::string& group, std::size_t blocks,
                                                  const std::string& source) {
  const std::vector<std::string> names = file.read_texts(group, "names");
  const std::vector<double> block_of = file.read_numbers(group, "blocks"), sizes = file.read_numbers(group, "sizes");
  const auto is_block = [&](double b) { return b >= 0 && b < double(blocks); };
  if (block_of.size() != names.size() || sizes.size() != names.size() || !std::ranges::all_of(block_of, is_block))
    throw Error(
        fmt::format("{}: the names, blocks and sizes of {} do not fit each other; the file is damaged", source, group));
  std::vector<InternalsHeader::Member> members;
  for (std::size_t i = 0; i < names.size(); ++i)
    members.push_back({names[i], std::int64_t(block_of[i]), std::int64_t(sizes[i])});
  return members;
}

InternalsHeader read_header(const Hdf5File& file, const std::string& source) {
  if (!file.has_attribute("/", "format") || file.read_text("/", "format") != kInternalsFormat)
    throw Error(
        fmt::format("{}: not a file of graft's recorder; name a run that was trained with --record-internals", source));
  if (const std::int64_t version = file.read_integer("/", "format_version"); version > kInternalsFormatVersion)
    throw Error(fmt::format("{}: format version {} is newer than this program reads ({}); update graft", source,
                            version, kInternalsFormatVersion));
  InternalsHeader header;
  header.architecture = file.read_text("/", "architecture");
  header.strategy = file.read_text("/", "strategy");
  header.record_every = file.read_integer("/", "record_every");
  header.blocks = file.read_texts("/", "blocks");
  header.parameters = read_members(file, "/parameters", header.blocks.size(), source);
  header.norms = read_members(file, "/batch_norms", header.blocks.size(), source);
  return header;
}

/// How many records all datasets have: a writer that was killed may have left some longer than others.
std::int64_t whole_records(const Hdf5File& file, const InternalsHeader& header) {
  std::int64_t rows = std::numeric_limits<std::int64_t>::max();
  const InternalsRecords none;
  visit_rows(none, std::ssize(header.parameters), std::ssize(header.norms),
             [&](const std::string& path, std::int64_t width, const auto&) {
               const Dimensions shape = file.dataset_info(path).shape;
               if (shape.size() != (width > 0 ? 2u : 1u) || (width > 0 && shape[1] != width))
                 throw Error(fmt::format("internals: dataset {} {} does not fit the {} names; the file is damaged",
                                         path, dimensions_text(shape), width));
               rows = std::min(rows, shape[0]);
             });
  return rows;
}

template <class T>
std::vector<T> read_rows(const Hdf5File& file, const std::string& path, std::size_t count) {
  NumberArray array = file.read_array(path);
  if (!std::holds_alternative<std::vector<T>>(array))
    throw Error("internals: dataset " + path + " holds numbers of another type; the file is damaged");
  std::vector<T> values = std::get<std::vector<T>>(std::move(array));
  values.resize(count);
  return values;
}

/// Calls change(file) with a copy that then takes the file's place. HDF5 changes a file in many writes and marks it as
/// open meanwhile: a program killed between them would leave a file that no one opens again.
template <class Change>
void change_copy(const std::filesystem::path& path, const Change& change) {
  Hdf5File::open(path).close();  // damage is named with the file's own name
  AtomicFile target(path);
  std::error_code error;
  std::filesystem::copy_file(path, target.temporary(), error);
  if (error) throw Error(fmt::format("{}: cannot be copied ({}); check free space", path.string(), error.message()));
  Hdf5File file = Hdf5File::open_to_append(target.temporary());
  change(file);
  file.close();
  target.commit();
}

InternalsSeries make_series(std::string level, std::string name, std::int64_t size, std::size_t records) {
  const std::vector<double> none(records, kNaN);
  return {std::move(level), std::move(name), size, none, none, none, none, none, none, none};
}

void fill_ratios(InternalsSeries& series, const std::vector<double>& update_norm) {
  for (std::size_t r = 0; r < update_norm.size(); ++r) {
    series.relative_gradient_norm[r] = series.gradient_norm[r] / series.weight_norm[r];
    series.update_ratio[r] = update_norm[r] / series.weight_norm[r];
  }
}

/// Record by record the root of the sum of squares of some parameters' norms, without those that did not train.
std::vector<double> joint_norm(const Internals& internals, ParameterNorm which, std::span<const std::size_t> members) {
  const std::size_t width = internals.header.parameters.size();
  const std::vector<double>& values = internals.records.norms[std::size_t(which)];
  std::vector<double> joint;
  for (std::size_t begin = 0; begin < values.size(); begin += width) {
    double squares = 0;
    bool has_any = false;
    for (std::size_t m : members) {
      const double norm = values[begin + m];
      if (std::isnan(norm)) continue;
      squares += norm * norm, has_any = true;
    }
    joint.push_back(has_any ? std::sqrt(squares) : kNaN);
  }
  return joint;
}

/// Record by record the mean over the channels of some batch norms.
std::vector<double> joint_drift(const Internals& internals, const std::vector<double>& drifts,
                                std::span<const std::size_t> members) {
  const std::size_t width = internals.header.norms.size();
  std::vector<double> joint;
  for (std::size_t begin = 0; begin < drifts.size(); begin += width) {
    double sum = 0, channels = 0;
    for (std::size_t m : members) {
      const double size = double(internals.header.norms[m].size);
      sum += drifts[begin + m] * size, channels += size;
    }
    joint.push_back(sum / channels);
  }
  return joint;
}

InternalsSeries series_of(const Internals& internals, InternalsSeries series, std::span<const std::size_t> parameters,
                          std::span<const std::size_t> norms) {
  if (!parameters.empty()) {
    series.gradient_norm = joint_norm(internals, ParameterNorm::gradient, parameters);
    series.weight_norm = joint_norm(internals, ParameterNorm::weight, parameters);
    series.anchor_distance = joint_norm(internals, ParameterNorm::anchor_distance, parameters);
    fill_ratios(series, joint_norm(internals, ParameterNorm::update, parameters));
  }
  if (!norms.empty()) {
    series.mean_drift = joint_drift(internals, internals.records.mean_drift, norms);
    series.variance_drift = joint_drift(internals, internals.records.variance_drift, norms);
  }
  return series;
}

}  // namespace

void create_internals(const std::filesystem::path& path, const InternalsHeader& header,
                      std::span<const double> initial_statistics) {
  AtomicFile target(path);
  Hdf5File file = Hdf5File::create(target.temporary());
  file.write_text("/", "format", kInternalsFormat);
  file.write_integer("/", "format_version", kInternalsFormatVersion);
  file.write_text("/", "architecture", header.architecture);
  file.write_text("/", "strategy", header.strategy);
  file.write_integer("/", "record_every", header.record_every);
  file.write_texts("/", "blocks", header.blocks);
  write_members(file, "/parameters", header.parameters);
  write_members(file, "/batch_norms", header.norms);
  if (!header.norms.empty())
    file.write_array("/batch_norms/initial", {std::ssize(initial_statistics)}, initial_statistics);
  const InternalsRecords none;
  visit_rows(none, std::ssize(header.parameters), std::ssize(header.norms),
             [&](const std::string& dataset, std::int64_t width, const auto& values) {
               constexpr bool kIsInteger = std::is_same_v<decltype(values), const std::vector<std::int64_t>&>;
               file.create_rows(dataset, width, kIsInteger);
             });
  file.close();
  target.commit();
}

std::vector<double> resume_internals(const std::filesystem::path& path, const InternalsHeader& header,
                                     std::int64_t last_step) {
  std::vector<double> initial;
  change_copy(path, [&](Hdf5File& file) {
    if (read_header(file, path.string()) != header)
      throw Error(path.string() + ": it records another network or other settings; start again with --overwrite");
    const std::int64_t whole = whole_records(file, header);
    const auto steps = read_rows<std::int64_t>(file, "/step", std::size_t(whole));
    const std::int64_t kept = std::ranges::upper_bound(steps, last_step) - steps.begin();
    const InternalsRecords none;
    visit_rows(none, std::ssize(header.parameters), std::ssize(header.norms),
               [&](const std::string& dataset, std::int64_t, const auto&) { file.cut_rows(dataset, kept); });
    if (!header.norms.empty()) initial = std::get<std::vector<double>>(file.read_array("/batch_norms/initial"));
  });
  return initial;
}

void append_internals(const std::filesystem::path& path, const InternalsRecords& records) {
  if (records.count() == 0) return;
  change_copy(path, [&](Hdf5File& file) {
    visit_rows(records, std::ssize(records.norms[0]) / records.count(),
               std::ssize(records.mean_drift) / records.count(),
               [&](const std::string& dataset, std::int64_t, const auto& values) {
                 file.append_rows(dataset, std::span(values));
               });
  });
}

Internals read_internals(const std::filesystem::path& path) {
  const Hdf5File file = Hdf5File::open(path);
  Internals internals{read_header(file, path.string()), {}};
  const InternalsHeader& header = internals.header;
  const auto rows = std::size_t(whole_records(file, header));
  visit_rows(internals.records, std::ssize(header.parameters), std::ssize(header.norms),
             [&](const std::string& dataset, std::int64_t width, auto& values) {
               using T = typename std::remove_reference_t<decltype(values)>::value_type;
               values = read_rows<T>(file, dataset, rows * std::size_t(std::max<std::int64_t>(1, width)));
             });
  return internals;
}

std::vector<InternalsSeries> block_series(const Internals& internals) {
  const InternalsHeader& header = internals.header;
  std::vector<InternalsSeries> all;
  for (std::size_t b = 0; b < header.blocks.size(); ++b) {
    std::vector<std::size_t> parameters, norms;
    std::int64_t size = 0;
    for (std::size_t i = 0; i < header.parameters.size(); ++i)
      if (header.parameters[i].block == std::int64_t(b)) parameters.push_back(i), size += header.parameters[i].size;
    for (std::size_t i = 0; i < header.norms.size(); ++i)
      if (header.norms[i].block == std::int64_t(b)) norms.push_back(i);
    all.push_back(series_of(internals,
                            make_series("block", header.blocks[b], size, std::size_t(internals.records.count())),
                            parameters, norms));
  }
  return all;
}

std::vector<InternalsSeries> member_series(const Internals& internals) {
  const InternalsHeader& header = internals.header;
  const auto records = std::size_t(internals.records.count());
  std::vector<InternalsSeries> all;
  for (std::size_t i = 0; i < header.parameters.size(); ++i)
    all.push_back(series_of(internals,
                            make_series("parameter", header.parameters[i].name, header.parameters[i].size, records),
                            std::span(&i, 1), {}));
  for (std::size_t i = 0; i < header.norms.size(); ++i)
    all.push_back(series_of(internals, make_series("batch_norm", header.norms[i].name, header.norms[i].size, records),
                            {}, std::span(&i, 1)));
  return all;
}

}  // namespace graft
