#include "strategies/study/directory.h"

#include <fmt/format.h>

#include "strategies/study/splits.h"

namespace graft {

StudyDirectory::StudyDirectory(const std::filesystem::path& path)
    : path_(std::filesystem::absolute(path).lexically_normal()) {}

std::filesystem::path StudyDirectory::data(const StudySpec& spec, const StudyCell& cell, bool is_trial) const {
  const StudyDataset& dataset = dataset_of(spec, cell.dataset);
  if (is_npz(dataset)) return dataset.path;
  return split(cell.dataset, cell.fold, is_trial);
}

std::filesystem::path StudyDirectory::split_key(std::string_view dataset) const {
  return path_ / "splits" / (std::string(dataset) + ".key");
}

std::filesystem::path StudyDirectory::split(std::string_view dataset, std::int64_t fold, bool for_tuning) const {
  return path_ / "splits" /
         fmt::format("{}{}{}.csv", dataset, fold >= 0 ? fmt::format("-fold-{}", fold) : "",
                     for_tuning ? ".tuning" : "");
}

}  // namespace graft
