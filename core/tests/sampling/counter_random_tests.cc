#include <gtest/gtest.h>

#include <array>
#include <set>

#include "sampling/counter_random.h"

namespace naiad {
namespace {

TEST(CounterRandomTest, DrawsAreUniformOverCountersAndOverSeeds) {
  constexpr int32_t kDraws = 100'000;
  constexpr size_t kBins = 20;
  for (const bool vary_seed : {false, true}) {
    std::array<int32_t, kBins> bins{};
    for (uint64_t i = 0; i < kDraws; ++i) {
      const double draw = vary_seed ? UniformAt(i, 3) : UniformAt(3, i);
      ASSERT_GE(draw, 0.0);
      ASSERT_LT(draw, 1.0);
      ++bins[static_cast<size_t>(draw * kBins)];
    }
    // Each bin's count has a standard deviation of 69; six of them.
    for (const int32_t count : bins) EXPECT_NEAR(count, kDraws / static_cast<int32_t>(kBins), 414);
  }
}

TEST(CounterRandomTest, NeighbouringSeedsDoNotShareDraws) {
  std::set<double> draws;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    for (uint64_t counter = 0; counter < 100; ++counter) draws.insert(UniformAt(seed, counter));
  }
  EXPECT_EQ(draws.size(), 10'000U);
}

}  // namespace
}  // namespace naiad
