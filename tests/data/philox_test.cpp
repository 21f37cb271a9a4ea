#include "kernels/philox.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace graft {
namespace {

TEST(Philox, EqualsRandom123KnownAnswers) {
  // kat_vectors of Random123, philox4x32 10.
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, EveryPartOfThePlaceMatters) {
  const RandomPlace place{.seed = 1, .stream = RandomStream::order, .epoch = 2, .index = 3};
  std::set<std::uint64_t> seen{Random(place).bits64()};
  for (RandomPlace other : std::vector<RandomPlace>{{2, RandomStream::order, 2, 3},
                                                    {1 + (std::uint64_t{1} << 32), RandomStream::order, 2, 3},
                                                    {1, RandomStream::augment, 2, 3},
                                                    {1, RandomStream::order, 3, 3},
                                                    {1, RandomStream::order, 2, 4},
                                                    {1, RandomStream::order, 2, 3 + (std::uint64_t{1} << 32)}}) {
    EXPECT_TRUE(seen.insert(Random(other).bits64()).second);
  }
  EXPECT_EQ(Random(place).bits64(), Random(place).bits64());
}

TEST(Philox, UniformNumbersFillTheirRangeEvenly) {
  Random random({.seed = 9});
  std::vector<int> histogram(10), faces(7);
  constexpr int kDraws = 100000;
  for (int i = 0; i < kDraws; ++i) {
    const double x = random.uniform();
    ASSERT_GE(x, 0.0);
    ASSERT_LT(x, 1.0);
    ++histogram[static_cast<std::size_t>(x * 10)];
    const std::int64_t face = random.below(7);
    ASSERT_GE(face, 0);
    ASSERT_LT(face, 7);
    ++faces[static_cast<std::size_t>(face)];
  }
  // Five standard deviations of a binomial count.
  for (const int count : histogram) EXPECT_NEAR(count, kDraws / 10, 5 * 95);
  for (const int count : faces) EXPECT_NEAR(count, kDraws / 7.0, 5 * 111);
  EXPECT_LT(uniform_float(0xffffffff), 1.0F);
  EXPECT_EQ(uniform_float(0), 0.0F);
}

static_assert(philox4x32({0, 0, 0, 0}, {0, 0}).v0 == 0x6627e8d5, "usable at compile time, so in device code");

}  // namespace
}  // namespace graft
