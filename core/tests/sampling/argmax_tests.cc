#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>
#include <vector>

#include "sampling/argmax.h"

namespace naiad {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(ArgMaxTest, AgreesWithTheFirstLargestAtEverySize) {
  std::mt19937 random(3);
  for (size_t size = 1; size < 5000; size += 1 + size / 7) {
    std::vector<float> values(size);
    // Few distinct values, so that ties are the rule.
    for (float& value : values) value = static_cast<float>(random() % 50) - 60.0F;
    EXPECT_EQ(ArgMax(values), std::ranges::max_element(values) - values.begin()) << size;
    EXPECT_EQ(MaxValue(values), std::ranges::max(values)) << size;
  }
}

TEST(ArgMaxTest, TheLowestIndexWinsATieAcrossBlocks) {
  std::vector<float> values(10'000, 0.0F);
  values[9'999] = values[5'000] = values[4'999] = 1.0F;
  EXPECT_EQ(ArgMax(values), 4'999);
}

TEST(ArgMaxTest, SkipsWhatIsNotANumberAndFindsNothingWhereNothingIs) {
  EXPECT_EQ(ArgMax(std::vector{kNan, -kInfinity, -3.0F, kNan, -2.0F}), 4);
  EXPECT_EQ(ArgMax(std::vector{kNan, kNan}), std::nullopt);
  EXPECT_EQ(ArgMax(std::vector{-kInfinity, -kInfinity}), std::nullopt);
  EXPECT_EQ(ArgMax({}), std::nullopt);
}

}  // namespace
}  // namespace naiad
