#include "kernels/attention_math.h"

#include <gtest/gtest.h>

#include <algorithm>
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
  std::array<float, kScoreStride> scores{0.0F, -distance};
  math.weights(scores.data(), 2, 1.0F, softcap);
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

// Pointers to consecutive rows.
template <typename Element>
std::vector<const Element*> RowsIn(const std::vector<Element>& rows, size_t size) {
  std::vector<const Element*> pointers;
  for (size_t at = 0; at + size <= rows.size(); at += size) pointers.push_back(rows.data() + at);
  return pointers;
}

std::vector<float*> RowsIn(std::vector<float>* rows, size_t size) {
  std::vector<float*> pointers;
  for (size_t at = 0; at + size <= rows->size(); at += size) pointers.push_back(rows->data() + at);
  return pointers;
}

TEST_P(AttentionMathTest, WeightsAndTheirSumAgreeWithDoublePrecisionForEveryCount) {
  std::mt19937 random(2);
  for (int32_t count = 1; count <= kChunkTokens; count += count < 70 ? 1 : 31) {
    std::vector<float> scores = RandomFloats(random, kScoreStride);
    const std::vector<float> given = scores;
    const SoftmaxState state = math_.weights(scores.data(), count, 2.0F, 0.0F);
    const float max = *std::max_element(given.begin(), given.begin() + count) * 2.0F;
    EXPECT_EQ(state.max, max);
    double sum = 0.0;
    for (size_t j = 0; j < static_cast<size_t>(count); ++j) {
      const double weight = std::exp(2.0 * static_cast<double>(given[j]) - static_cast<double>(max));
      ASSERT_NEAR(static_cast<double>(scores[j]), weight, 1e-6) << count;
      sum += weight;
    }
    EXPECT_NEAR(static_cast<double>(state.sum), sum, 1e-5 * sum) << count;
    for (size_t j = static_cast<size_t>(count) + 15; j < scores.size(); ++j) ASSERT_EQ(scores[j], given[j]) << count;
  }
}

TEST_P(AttentionMathTest, LoopsAgreeWithTheReferenceForAllStripsAndHeadSizes) {
  std::mt19937 random(3);
  const AttentionMath& reference = AttentionMathFor(SimdLevel::kScalar);
  for (const int32_t head_size : {1, 7, 8, 16, 20, 32, 64, 72, 80, 100, 128, 250, 256}) {
    const auto size = static_cast<size_t>(head_size);
    for (const int32_t count : {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 70, 256}) {
      const std::vector<float> queries = RandomFloats(random, kMaxStripRows * size);
      const std::vector<float> keys = RandomFloats(random, static_cast<size_t>(count) * size);
      const std::vector<float> weights = RandomFloats(random, kMaxStripRows * kScoreStride);
      const std::vector<float> sums_before = RandomFloats(random, kMaxStripRows * size);
      for (int32_t strip = 1; strip <= kMaxStripRows; ++strip) {
        // What lies behind the scores stays.
        std::vector<float> scores(kMaxStripRows * kScoreStride, 7.0F);
        std::vector<float> expected = scores;
        std::vector<float> sums = sums_before;
        std::vector<float> expected_sums = sums;
        math_.scores(RowsIn(queries, size).data(), strip, RowsIn(keys, size).data(), nullptr, count, head_size,
                     scores.data());
        reference.scores(RowsIn(queries, size).data(), strip, RowsIn(keys, size).data(), nullptr, count, head_size,
                         expected.data());
        math_.accumulate(weights.data(), strip, RowsIn(keys, size).data(), nullptr, count, head_size,
                         RowsIn(&sums, size).data());
        reference.accumulate(weights.data(), strip, RowsIn(keys, size).data(), nullptr, count, head_size,
                             RowsIn(&expected_sums, size).data());
        for (size_t i = 0; i < scores.size(); ++i) ASSERT_NEAR(scores[i], expected[i], 1e-4F) << head_size;
        for (size_t i = 0; i < sums.size(); ++i) ASSERT_NEAR(sums[i], expected_sums[i], 1e-4F) << head_size;
      }
    }
  }
}

TEST_P(AttentionMathTest, RowsOfAStripDoNotChangeEachOthersBits) {
  std::mt19937 random(1);
  for (const int32_t head_size : {1, 7, 8, 20, 64, 100}) {
    const auto size = static_cast<size_t>(head_size);
    for (const int32_t count : {1, 3, 8, 17, 32, 100}) {
      const std::vector<float> query_floats = RandomFloats(random, kMaxStripRows * size);
      const std::vector<float> key_floats = RandomFloats(random, static_cast<size_t>(count) * size);
      const std::vector<float> sums_before = RandomFloats(random, kMaxStripRows * size);
      const std::vector<const float*> queries = RowsIn(query_floats, size);
      const std::vector<const float*> keys = RowsIn(key_floats, size);
      for (int32_t strip = 1; strip <= kMaxStripRows; ++strip) {
        std::vector<float> together(kMaxStripRows * kScoreStride);
        std::vector<float> alone = together;
        std::vector<float> sums = sums_before;
        std::vector<float> sums_alone = sums;
        math_.scores(queries.data(), strip, keys.data(), nullptr, count, head_size, together.data());
        math_.accumulate(together.data(), strip, keys.data(), nullptr, count, head_size, RowsIn(&sums, size).data());
        for (size_t r = 0; r < static_cast<size_t>(strip); ++r) {
          float* const scores = alone.data() + r * kScoreStride;
          float* const output = sums_alone.data() + r * size;
          math_.scores(&queries[r], 1, keys.data(), nullptr, count, head_size, scores);
          math_.accumulate(scores, 1, keys.data(), nullptr, count, head_size, &output);
        }
        ASSERT_EQ(together, alone);
        ASSERT_EQ(sums, sums_alone);
      }
    }
  }
}

// A key's score must not depend on its place among the keys of a call, nor a sum on how a history is cut into calls.
TEST_P(AttentionMathTest, PlaceOfAKeyDoesNotChangeBits) {
  std::mt19937 random(4);
  for (const int32_t head_size : {20, 64, 100}) {
    const auto size = static_cast<size_t>(head_size);
    const std::vector<float> query = RandomFloats(random, size);
    const std::vector<float> key_floats = RandomFloats(random, 70 * size);
    const float* const queries = query.data();
    const std::vector<const float*> keys = RowsIn(key_floats, size);
    std::vector<float> scores(kScoreStride);
    math_.scores(&queries, 1, keys.data(), nullptr, 70, head_size, scores.data());
    std::vector<float> sums(size), sums_of_pieces(size);
    float* output = sums.data();
    math_.accumulate(scores.data(), 1, keys.data(), nullptr, 70, head_size, &output);
    output = sums_of_pieces.data();
    for (int32_t at = 0, count = 1; at < 70; at += count, count = std::min(count + 1, 70 - at)) {
      std::vector<float> piece(kScoreStride);
      math_.scores(&queries, 1, keys.data() + at, nullptr, count, head_size, piece.data());
      math_.accumulate(scores.data() + at, 1, keys.data() + at, nullptr, count, head_size, &output);
      for (int32_t j = 0; j < count; ++j) {
        ASSERT_EQ(piece[static_cast<size_t>(j)], scores[static_cast<size_t>(at + j)]);
      }
    }
    EXPECT_EQ(sums, sums_of_pieces);
  }
}

}  // namespace
}  // namespace naiad::testing
