#include "strategies/study/budget.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

namespace graft {
namespace {

std::int64_t epochs_of(const StudySpec& spec) {
  TrainSettings s;
  for (const auto& [key, value] : spec.train)
    if (key == "train.epochs") set_by_key(s, key, value);
  return s.epochs;
}

StudySpec with_seeds(StudySpec spec, std::int64_t count) {
  spec.seeds.resize(std::size_t(count));
  return spec;
}
StudySpec with_trials(StudySpec spec, std::int64_t count) {
  spec.tuning.trials = count;
  return spec;
}
/// Also of the strategies that have their own number, in proportion.
StudySpec with_epochs(StudySpec spec, std::int64_t epochs) {
  const double share = double(epochs) / double(epochs_of(spec));
  spec.train.emplace_back("train.epochs", epochs);
  for (StudyStrategy& strategy : spec.strategies)
    for (auto& [key, value] : strategy.settings)
      if (key == "train.epochs" && std::holds_alternative<std::int64_t>(value))
        value = std::max<std::int64_t>(1, std::llround(share * double(std::get<std::int64_t>(value))));
  return spec;
}
StudySpec without_strategy(StudySpec spec, std::size_t index) {
  spec.strategies.erase(spec.strategies.begin() + std::ptrdiff_t(index));
  return spec;
}

std::string seeds_text(const StudySpec& spec, std::int64_t count) {
  const std::vector<std::int64_t> some(spec.seeds.begin(), spec.seeds.begin() + count);
  return fmt::format("seeds = [{}] instead of {}", fmt::join(some, ", "), spec.seeds.size());
}

class Reducer {
 public:
  Reducer(const StudySpec& whole, const StudyRates& rates, const StudyBudget& budget)
      : whole_(whole), rates_(rates), budget_(budget) {}

  std::vector<StudyReduction> singles() const;
  StudyReduction combination() const;

 private:
  std::set<std::string> kept_in(const StudySpec& smaller) const;
  /// Of what is then still to train; empty if it cannot be run.
  std::optional<double> seconds(const StudySpec& smaller) const {
    try {
      return seconds_left(smaller, estimate_study(smaller, rates_, budget_.jobs), kept_in(smaller));
    } catch (const UsageError&) {
      return std::nullopt;
    }
  }
  /// The largest number in [1, most) with which the study fits.
  template <class Change, class Text>
  void try_fewer(std::int64_t most, const Change& change, const Text& text, std::vector<StudyReduction>& found) const {
    for (std::int64_t count = most - 1; count >= 1; count -= std::max<std::int64_t>(1, most / 20)) {
      const std::optional<double> left = seconds(change(count));
      if (!left) return;
      if (*left > budget_.seconds) continue;
      found.push_back({{text(count)}, *left, true});
      return;
    }
  }

  const StudySpec& whole_;
  const StudyRates& rates_;
  const StudyBudget& budget_;
};

/// Finished tasks that would not begin anew: other epochs change all, other trials those whose rate is tuned.
std::set<std::string> Reducer::kept_in(const StudySpec& smaller) const {
  if (epochs_of(smaller) != epochs_of(whole_)) return {};
  if (smaller.tuning.trials == whole_.tuning.trials) return budget_.finished;
  std::set<std::string> kept;
  for (const StudyTask& task : tasks_of(smaller))
    if (!is_tuned(smaller, strategy_of(smaller, task.cell.strategy)) && budget_.finished.contains(task.id()))
      kept.insert(task.id());
  return kept;
}

std::vector<StudyReduction> Reducer::singles() const {
  const StudySpec& spec = whole_;
  std::vector<StudyReduction> found;
  try_fewer(
      std::ssize(spec.seeds), [&](std::int64_t n) { return with_seeds(spec, n); },
      [&](std::int64_t n) { return seeds_text(spec, n); }, found);
  try_fewer(
      spec.tuning.trials, [&](std::int64_t n) { return with_trials(spec, n); },
      [&](std::int64_t n) { return fmt::format("tuning.trials = {} instead of {}", n, spec.tuning.trials); }, found);
  const std::int64_t epochs = epochs_of(spec);
  try_fewer(
      epochs, [&](std::int64_t n) { return with_epochs(spec, n); },
      [&](std::int64_t n) { return fmt::format("epochs = {} instead of {}", n, epochs); }, found);
  for (std::size_t i = 0; i < spec.strategies.size() && spec.strategies.size() > 1; ++i)
    if (const std::optional<double> left = seconds(without_strategy(spec, i)); left && *left <= budget_.seconds)
      found.push_back({{"without " + spec.strategies[i].name}, *left, true});
  return found;
}

/// Trials down to 2, seeds to 3, epochs to two thirds; then the strategies that take longest; then one seed, one trial.
StudyReduction Reducer::combination() const {
  StudySpec spec = whole_;
  StudyReduction all{.seconds = seconds(spec).value_or(0)};
  const auto apply = [&](StudySpec smaller, const std::string& change) {
    const std::optional<double> left = seconds(smaller);
    if (!left) return;
    spec = std::move(smaller);
    all.changes.push_back(change);
    all.seconds = *left, all.fits = *left <= budget_.seconds;
  };
  const auto fewer_trials = [&](std::int64_t n) {
    if (!all.fits && spec.tuning.trials > n)
      apply(with_trials(spec, n), fmt::format("tuning.trials = {} instead of {}", n, spec.tuning.trials));
  };
  const auto fewer_seeds = [&](std::int64_t n) {
    if (!all.fits && std::ssize(spec.seeds) > n) apply(with_seeds(spec, n), seeds_text(spec, n));
  };
  fewer_trials(2);
  fewer_seeds(3);
  const std::int64_t epochs = epochs_of(spec), less = std::max<std::int64_t>(1, epochs * 2 / 3);
  if (!all.fits && less < epochs)
    apply(with_epochs(spec, less), fmt::format("epochs = {} instead of {}", less, epochs));
  while (!all.fits && spec.strategies.size() > 2) {
    std::size_t best = 0;
    double least = std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < spec.strategies.size(); ++i)
      if (const double left = seconds(without_strategy(spec, i)).value_or(least); left < least) best = i, least = left;
    apply(without_strategy(spec, best), "without " + spec.strategies[best].name);
  }
  fewer_seeds(1);
  fewer_trials(1);
  return all;
}

}  // namespace

double seconds_left(const StudySpec& spec, const StudyEstimate& estimate, const std::set<std::string>& finished) {
  if (finished.empty()) return estimate.seconds;
  double sum = 0, longest = 0;
  for (const StudyTask& task : tasks_of(spec)) {
    if (finished.contains(task.id())) continue;
    const double seconds = std::ranges::find(estimate.kinds, kind_of(task), &KindEstimate::kind)->each.total();
    sum += seconds, longest = std::max(longest, seconds);
  }
  return std::max(longest, sum / double(estimate.jobs));
}

std::vector<StudyReduction> reductions_for(const StudySpec& spec, const StudyRates& rates, const StudyBudget& budget) {
  const Reducer reducer(spec, rates, budget);
  std::vector<StudyReduction> found = reducer.singles();
  if (found.empty()) found.push_back(reducer.combination());
  return found;
}

double parse_duration(std::string_view text) {
  double seconds = 0;
  const char* at = text.data();
  const char* const end = at + text.size();
  bool is_good = at < end;
  while (is_good && at < end) {
    double number = 0;
    const auto [stop, error] = std::from_chars(at, end, number);
    const char unit = stop < end ? *stop : '\0';
    const double scale = unit == 'd' ? 86400 : unit == 'h' ? 3600 : unit == 'm' ? 60 : unit == 's' ? 1 : 0;
    is_good = error == std::errc{} && scale > 0;
    seconds += number * scale;
    at = stop < end ? stop + 1 : end;
  }
  if (!is_good || !(seconds > 0))
    throw UsageError(fmt::format("--budget: expects a time such as 8h, 90m or 1h30m, got '{}'", text));
  return seconds;
}

}  // namespace graft
