#include "data/split.h"

#include <map>
#include <set>

#include "data_testing.h"
#include "kernels/philox.h"

namespace graft {
namespace {

using testing::error_of;

std::vector<Sample> samples(const std::vector<std::int64_t>& per_class) {
  std::vector<Sample> result;
  for (std::size_t c = 0; c < per_class.size(); ++c) {
    for (std::int64_t i = 0; i < per_class[c]; ++i) {
      result.push_back({.path = std::to_string(i), .label = static_cast<std::int32_t>(c)});
    }
  }
  return result;
}

std::vector<std::int64_t> held(const std::vector<Sample>& all, std::size_t classes, Split split) {
  std::vector<std::int64_t> counts(classes);
  for (const Sample& sample : all) counts[static_cast<std::size_t>(sample.label)] += sample.split == split ? 1 : 0;
  return counts;
}

std::vector<Split> splits(const std::vector<Sample>& all) {
  std::vector<Split> result;
  for (const Sample& sample : all) result.push_back(sample.split);
  return result;
}

TEST(Split, EachClassGivesItsShare) {
  auto all = samples({100, 33, 7, 2, 1});
  hold_out(all, {.fraction = 0.2, .seed = 1, .class_count = 5});
  EXPECT_EQ(held(all, 5, Split::val), (std::vector<std::int64_t>{20, 7, 1, 1, 0}));
  EXPECT_EQ(held(all, 5, Split::test), (std::vector<std::int64_t>(5, 0)));
}

TEST(Split, TheSeedDecidesAndNothingElse) {
  auto first = samples({60, 60}), again = first, other = first;
  hold_out(first, {.fraction = 0.25, .seed = 1, .class_count = 2});
  hold_out(again, {.fraction = 0.25, .seed = 1, .class_count = 2});
  hold_out(other, {.fraction = 0.25, .seed = 2, .class_count = 2});
  EXPECT_EQ(splits(first), splits(again));
  EXPECT_NE(splits(first), splits(other));
}

TEST(Split, ASecondSplitTakesFromWhatIsLeft) {
  auto all = samples({100, 50});
  hold_out(all, {.fraction = 0.2, .into = Split::test, .seed = 3, .class_count = 2});
  const auto before = splits(all);
  hold_out(all, {.fraction = 0.25, .into = Split::val, .seed = 3, .class_count = 2});
  EXPECT_EQ(held(all, 2, Split::test), (std::vector<std::int64_t>{20, 10}));
  EXPECT_EQ(held(all, 2, Split::val), (std::vector<std::int64_t>{20, 10}));
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(before[i] == Split::test, all[i].split == Split::test);
}

TEST(Split, AGroupNeverCrosses) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    auto all = samples({200, 120, 40});
    Random random({.seed = seed});
    for (Sample& sample : all) {
      // Groups mix classes; a fifth of the samples has none.
      const std::int64_t group = random.below(75);
      if (group >= 15) sample.group = "patient " + std::to_string(group);
    }
    hold_out(all, {.fraction = 0.2, .into = Split::test, .seed = seed, .class_count = 3});
    hold_out(all, {.fraction = 0.2, .into = Split::val, .seed = seed, .class_count = 3});
    std::map<std::string, std::set<Split>> seen;
    for (const Sample& sample : all) {
      if (!sample.group.empty()) seen[sample.group].insert(sample.split);
    }
    for (const auto& [group, in] : seen) EXPECT_EQ(in.size(), 1U) << group;
    const auto test = held(all, 3, Split::test), val = held(all, 3, Split::val), train = held(all, 3, Split::train);
    const std::vector<double> wanted{40, 24, 8};
    for (std::size_t c = 0; c < 3; ++c) {
      EXPECT_NEAR(static_cast<double>(test[c]), wanted[c], 4.0) << "class " << c << ", seed " << seed;
      EXPECT_NEAR(static_cast<double>(val[c]), wanted[c] * 0.8, 4.0) << "class " << c << ", seed " << seed;
      EXPECT_GT(train[c], 0);
    }
  }
}

TEST(Split, OneGroupPerClassStaysInTraining) {
  auto all = samples({10, 10});
  for (Sample& sample : all) sample.group = std::to_string(sample.label);
  hold_out(all, {.fraction = 0.5, .seed = 1, .class_count = 2});
  EXPECT_EQ(held(all, 2, Split::train), (std::vector<std::int64_t>{10, 10}));
}

TEST(Split, RefusesImpossibleFractions) {
  auto all = samples({4, 4});
  error_of([&] { hold_out(all, {.fraction = 1.0, .class_count = 2}); });
  error_of([&] { hold_out(all, {.fraction = -0.1, .class_count = 2}); });
  hold_out(all, {.fraction = 0.0, .class_count = 2});
  EXPECT_EQ(held(all, 2, Split::train), (std::vector<std::int64_t>{4, 4}));
}

}  // namespace
}  // namespace graft
