#include "data/folds.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "kernels/core.h"

namespace graft {
namespace {

/// `counts` images per class; groups of `group` images each, 1: none.
std::vector<Sample> samples_of(const std::vector<int>& counts, int group) {
  std::vector<Sample> samples;
  for (std::size_t c = 0; c < counts.size(); ++c)
    for (int i = 0; i < counts[c]; ++i)
      samples.push_back({.path = std::to_string(c) + "/" + std::to_string(i),
                         .label = std::int32_t(c),
                         .split = Split::train,
                         .group = group > 1 ? std::to_string(c) + "-" + std::to_string(i / group) : ""});
  return samples;
}

TEST(Folds, EveryClassIsDealtEvenly) {
  const std::vector<Sample> samples = samples_of({13, 22, 5}, 1);
  const std::vector<std::int64_t> folds =
      assign_folds(samples, {.folds = 5, .seed = 3, .class_count = 3}, {"a", "b", "c"});
  std::map<std::pair<std::int32_t, std::int64_t>, int> counts;
  for (std::size_t i = 0; i < samples.size(); ++i) ++counts[{samples[i].label, folds[i]}];
  for (std::int64_t fold = 0; fold < 5; ++fold) {
    EXPECT_GE((counts[{0, fold}]), 2);
    EXPECT_LE((counts[{0, fold}]), 3);
    EXPECT_GE((counts[{1, fold}]), 4);
    EXPECT_LE((counts[{1, fold}]), 5);
    EXPECT_EQ((counts[{2, fold}]), 1);
  }
}

TEST(Folds, GroupsStayWholeAndTheSeedDecides) {
  const std::vector<Sample> samples = samples_of({40, 36}, 4);
  const auto folds = [&](std::uint64_t seed) {
    return assign_folds(samples, {.folds = 3, .seed = seed, .class_count = 2}, {"a", "b"});
  };
  const std::vector<std::int64_t> one = folds(1);
  std::map<std::string, std::set<std::int64_t>> of_group;
  std::map<std::int64_t, int> sizes;
  for (std::size_t i = 0; i < samples.size(); ++i) of_group[samples[i].group].insert(one[i]), ++sizes[one[i]];
  for (const auto& [group, in] : of_group) EXPECT_EQ(in.size(), 1U) << group;
  for (const auto& [fold, size] : sizes) EXPECT_NEAR(size, 76 / 3.0, 4) << fold;
  EXPECT_EQ(one, folds(1));
  EXPECT_NE(one, folds(2));
}

TEST(Folds, TooFewGroupsAreAnError) {
  const auto error = [](const std::vector<Sample>& samples, std::int64_t folds) -> std::string {
    try {
      assign_folds(samples, {.folds = folds, .seed = 0, .class_count = 2}, {"healthy", "ill"});
    } catch (const Error& e) {
      return e.what();
    }
    return "none";
  };
  EXPECT_NE(error(samples_of({9, 9}, 3), 4).find("'healthy' has 3 groups of images, and 4 folds need at least 4"),
            std::string::npos);
  EXPECT_NE(error(samples_of({9, 9}, 1), 1).find("at least 2"), std::string::npos);
}

TEST(Folds, SubsetsTakeWholeGroupsUpToANumber) {
  std::vector<Sample> samples = samples_of({21, 12}, 3);
  for (Sample& sample : samples) sample.split = sample.group.ends_with("-0") ? Split::test : Split::train;
  const std::vector<Sample> left = subset_per_class(samples, {.per_class = {7, 0, 2}, .seed = 5, .class_count = 2});
  std::map<std::pair<Split, std::int32_t>, int> counts;
  std::map<std::string, int> groups;
  for (const Sample& sample : left) ++counts[{sample.split, sample.label}], ++groups[sample.group];
  EXPECT_EQ((counts[{Split::train, 0}]), 6);  // two groups of three: a third would exceed 7
  EXPECT_EQ((counts[{Split::train, 1}]), 6);
  EXPECT_EQ((counts[{Split::test, 0}]), 3);  // the smallest group, where none fits
  for (const auto& [group, count] : groups) EXPECT_EQ(count, 3) << group;
}

TEST(Folds, LargerSubsetsHoldTheSmaller) {
  const std::vector<Sample> samples = samples_of({50, 40}, 1);
  const auto paths = [&](std::int64_t n) {
    std::set<std::string> found;
    for (const Sample& s : subset_per_class(samples, {.per_class = {n, 0, 0}, .seed = 1, .class_count = 2}))
      found.insert(s.path);
    return found;
  };
  const std::set<std::string> small = paths(5), large = paths(12);
  EXPECT_EQ(small.size(), 10U);
  EXPECT_EQ(large.size(), 24U);
  EXPECT_TRUE(std::includes(large.begin(), large.end(), small.begin(), small.end()));
}

}  // namespace
}  // namespace graft
