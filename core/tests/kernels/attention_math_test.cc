#include "kernels/attention_math.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "kernel_test_support.h"

namespace naiad::testing {
namespace {

class AttentionMathTest : public ::testing::TestWithParam<SimdLevel> {
 protected:
  const AttentionMath& math_ = AttentionMathFor(GetParam());
};

INSTANTIATE_TEST_SUITE_P(Levels, AttentionMathTest, ::testing::ValuesIn(AvailableLevels()),
                         [](const auto& which) { return LevelName(which.param); });

// The weight of a score that lies `distance` below the largest one.
float WeightAt(const AttentionMath& math, float distance, float softcap = 0.0F) {
  std::array<float, kMaxTileTokens> scores{0.0F, -distance};
  SoftmaxState state;
  math.weights(scores.data(), 2, 1.0F, softcap, &state);
  return scores[1];
}

TEST_P(AttentionMathTest, ExpIsWithinTwoUlpDownToTheSmallestNormalNumber) {
  for (int step = 0; step <= 87'000; ++step) {
    const float distance = static_cast<float>(step) * 1e-3F;
    const double exact = std::exp(-static_cast<double>(distance));
    const double ulp = std::ldexp(1.0, std::ilogb(exact) - 23);
    ASSERT_NEAR(static_cast<double>(WeightAt(math_, distance)), exact, 2.0 * ulp) << distance;
  }
}

TEST_P(AttentionMathTest, ExpVanishesFarBelowTheMaximum) {
  EXPECT_EQ(WeightAt(math_, 200.0F), 0.0F);
  EXPECT_EQ(WeightAt(math_, 1e30F), 0.0F);
  EXPECT_EQ(WeightAt(math_, std::numeric_limits<float>::infinity()), 0.0F);
}

TEST_P(AttentionMathTest, SoftcapIsTanhOnBothSidesOfItsSwitch) {
  constexpr float kSoftcap = 8.0F;
  for (int step = 1; step < 4000; ++step) {
    const float score = static_cast<float>(step) * 0.01F;
    const double capped = 8.0 * std::tanh(static_cast<double>(score) / 8.0);
    ASSERT_NEAR(static_cast<double>(WeightAt(math_, score, kSoftcap)), std::exp(-capped), 3e-6) << score;
  }
}

TEST_P(AttentionMathTest, NanInAScoreIsNotHidden) {
  EXPECT_TRUE(std::isnan(WeightAt(math_, std::numeric_limits<float>::quiet_NaN())));
}

TEST_P(AttentionMathTest, RowsOfAStripDoNotChangeEachOthersBits) {
  std::mt19937 random(1);
  for (const int32_t head_size : {1, 7, 8, 20, 64, 100}) {
    for (const int32_t count : {1, 3, 8, 17, 32}) {
      const size_t size = static_cast<size_t>(head_size);
      const std::vector<float> queries = RandomFloats(random, kMaxStripRows * size);
      const std::vector<float> keys = RandomFloats(random, kMaxTileTokens * size);
      std::array<const float*, kMaxStripRows> rows{};
      for (size_t r = 0; r < rows.size(); ++r) rows[r] = queries.data() + r * size;
      for (int32_t strip = 1; strip <= kMaxStripRows; ++strip) {
        std::array<float, kMaxStripRows * kMaxTileTokens> together{};
        std::array<float, kMaxStripRows * kMaxTileTokens> alone{};
        std::vector<float> sums = RandomFloats(random, kMaxStripRows * size);
        std::vector<float> sums_alone = sums;
        const std::array<float, kMaxStripRows> corrections = {0.5F, 1.0F, 0.25F, 0.75F};
        std::array<float*, kMaxStripRows> outputs{};
        for (size_t r = 0; r < outputs.size(); ++r) outputs[r] = sums.data() + r * size;
        math_.scores(rows.data(), strip, keys.data(), head_size, count, head_size, together.data());
        math_.accumulate(together.data(), corrections.data(), strip, keys.data(), head_size, count, head_size,
                         outputs.data());
        for (size_t r = 0; r < static_cast<size_t>(strip); ++r) {
          float* const output = sums_alone.data() + r * size;
          math_.scores(&rows[r], 1, keys.data(), head_size, count, head_size, alone.data() + r * kMaxTileTokens);
          math_.accumulate(alone.data() + r * kMaxTileTokens, &corrections[r], 1, keys.data(), head_size, count,
                           head_size, &output);
        }
        ASSERT_EQ(together, alone);
        ASSERT_EQ(sums, sums_alone);
      }
    }
  }
}

}  // namespace
}  // namespace naiad::testing
