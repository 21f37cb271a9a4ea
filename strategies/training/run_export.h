// A finished run in the forms of two other tools: MedMNIST's score files, which its official evaluator reads, and an
// MLflow file store. Both are made from the run directory's plain files; weights are not copied.
// Sources: github.com/MedMNIST/MedMNIST, medmnist/evaluator.py; mlflow/store/tracking/file_store.py.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace graft {

/// DIR/{flag}{_size}_{split}_[AUC]0.xxx_[ACC]0.xxx@{run}.csv for validation and test: lines `index,score…`, one score
/// per class, in the order of the .npz. AUC and ACC are the evaluator's: two classes: of class 1 at a threshold of 0.5;
/// more: the mean of one-vs-rest, and the share of first largest scores; several labels per image: the means over the
/// classes, at 0.5. Returns the files.
/// Errors: no predictions.csv; a run on other data than a MedMNIST .npz; a split whose AUC is not defined.
std::vector<std::filesystem::path> export_medmnist(const std::filesystem::path& run, const std::filesystem::path& to);

/// DIR/<experiment>/<run id>/ with params (every setting), metrics (each epoch's, each update's loss and rate, the
/// test's scores), tags and artifacts (the run's texts). DIR is what MLflow calls mlruns. The experiment is "graft",
/// made at first use; the same run exported again replaces itself. Returns the run's folder. Errors: no config.toml;
/// environment.json or summary.json is damaged.
std::filesystem::path export_mlflow(const std::filesystem::path& run, const std::filesystem::path& to);

}  // namespace graft
