#include "kernels/quantised_row.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "kernel_test_support.h"

namespace naiad::testing {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The row in 8 bits, with a byte behind it that must not change.
std::vector<uint8_t> Quantised(SimdLevel level, const std::vector<float>& row) {
  constexpr uint8_t kGuard = 0xA5;
  std::vector<uint8_t> bytes(row.size() + kRowScaleBytes + 1, kGuard);
  AttentionMathFor(level).quantise_row(row.data(), static_cast<int32_t>(row.size()), bytes.data());
  EXPECT_EQ(bytes.back(), kGuard);
  return bytes;
}

// Rows of 1 to 256 values, of all magnitudes that keys and values may have and many that they never have.
std::vector<std::vector<float>> RandomRows() {
  std::mt19937 random(11);
  std::vector<std::vector<float>> rows;
  for (size_t size = 1; size <= 256; size += size < 40 ? 1 : 9) {
    for (const float magnitude : {1e-45F, 1e-38F, 2e-36F, 1e-3F, 1.0F, 300.0F, 1e38F}) {
      rows.push_back(RandomFloats(random, size));
      for (float& value : rows.back()) value = std::clamp(value, -3.0F, 3.0F) * magnitude;
    }
  }
  return rows;
}

TEST(QuantisedRowTest, EveryValueIsWithinHalfAStepOfTheScaleOfItsRow) {
  for (const std::vector<float>& row : RandomRows()) {
    float magnitude = 0.0F;
    for (const float value : row) magnitude = std::max(magnitude, std::abs(value));
    const double half_step = std::max(static_cast<double>(magnitude) / 127.0 * 0.5 * (1.0 + 1e-4), 1e-36);
    const std::vector<float> back = ThroughEightBits(row);
    for (size_t d = 0; d < row.size(); ++d) {
      ASSERT_NEAR(static_cast<double>(back[d]), static_cast<double>(row[d]), half_step) << row.size();
    }
  }
}

TEST(QuantisedRowTest, AllLevelsWriteTheSameBytes) {
  for (const std::vector<float>& row : RandomRows()) {
    for (const SimdLevel level : AvailableLevels()) {
      ASSERT_EQ(Quantised(level, row), Quantised(SimdLevel::kScalar, row)) << row.size();
    }
  }
}

TEST(QuantisedRowTest, LargestMagnitudeUsesTheWholeRangeAndZerosStayZeros) {
  for (const SimdLevel level : AvailableLevels()) {
    const std::vector<uint8_t> bytes = Quantised(level, {0.0F, -2.54F, 1.27F, 0.0F, 2.54F});
    EXPECT_EQ(static_cast<int8_t>(bytes[1]), -127);
    EXPECT_EQ(static_cast<int8_t>(bytes[4]), 127);
    EXPECT_EQ(bytes[0], 0);
    EXPECT_FLOAT_EQ(RowScale(bytes.data(), 5), 0.02F);
    const std::vector<uint8_t> zeros = Quantised(level, std::vector<float>(19, 0.0F));
    EXPECT_TRUE(std::all_of(zeros.begin(), zeros.end() - 1, [](uint8_t byte) { return byte == 0; }));
  }
}

TEST(QuantisedRowTest, RowThatIsNotFiniteShowsInEveryScoreAgainstIt) {
  for (const SimdLevel level : AvailableLevels()) {
    for (const float bad : {kNan, kInfinity, -kInfinity}) {
      for (const size_t place : {size_t{0}, size_t{8}, size_t{18}}) {
        std::vector<float> row(19, 1.0F);
        row[place] = bad;
        const std::vector<uint8_t> bytes = Quantised(level, row);
        const std::vector<float> query(19, 0.0F);
        const float* const queries = query.data();
        const uint8_t* const key = bytes.data();
        std::array<float, kScoreStride> scores{};
        AttentionMathFor(level).scores_int8(&queries, 1, &key, nullptr, 1, 19, scores.data());
        EXPECT_TRUE(std::isnan(scores[0])) << bad << " at " << place;
      }
    }
  }
}

// The loops over 8-bit rows against those over the floats that the rows stand for: all strips, all lengths around those
// of vectors, sizes with and without a tail. The last row ends where the memory ends.
TEST(QuantisedRowTest, LoopsOverRowsAgreeWithLoopsOverTheFloatsThatTheyStandFor) {
  std::mt19937 random(12);
  for (const SimdLevel level : AvailableLevels()) {
    const AttentionMath& math = AttentionMathFor(level);
    for (const int32_t head_size : {1, 7, 8, 12, 16, 32, 64, 80, 100, 131, 256}) {
      const auto size = static_cast<size_t>(head_size);
      const std::vector<float> queries = RandomFloats(random, kMaxStripRows * size);
      const std::vector<float> weights = RandomFloats(random, kMaxStripRows * kScoreStride);
      for (size_t count = 1; count <= kChunkTokens; count += count < 34 ? 1 : 37) {
        const size_t row_bytes = size + kRowScaleBytes;
        std::vector<uint8_t> rows(count * row_bytes);
        std::vector<float> floats;
        for (size_t j = 0; j < count; ++j) {
          const std::vector<float> row = RandomFloats(random, size);
          math.quantise_row(row.data(), head_size, rows.data() + j * row_bytes);
          const std::vector<float> back = ThroughEightBits(row);
          floats.insert(floats.end(), back.begin(), back.end());
        }
        std::vector<const uint8_t*> row_pointers;
        std::vector<const float*> float_pointers;
        for (size_t j = 0; j < count; ++j) {
          row_pointers.push_back(rows.data() + j * row_bytes);
          float_pointers.push_back(floats.data() + j * size);
        }
        for (int32_t strip = 1; strip <= kMaxStripRows; ++strip) {
          std::array<const float*, kMaxStripRows> query_rows{};
          std::vector<float> sums(kMaxStripRows * size, 1.0F);
          std::vector<float> expected_sums = sums;
          std::array<float*, kMaxStripRows> outputs{};
          std::array<float*, kMaxStripRows> expected_outputs{};
          for (size_t r = 0; r < kMaxStripRows; ++r) {
            query_rows[r] = queries.data() + r * size;
            outputs[r] = sums.data() + r * size;
            expected_outputs[r] = expected_sums.data() + r * size;
          }
          std::vector<float> scores(kMaxStripRows * kScoreStride);
          std::vector<float> expected = scores;
          const auto keys = static_cast<int32_t>(count);
          math.scores_int8(query_rows.data(), strip, row_pointers.data(), nullptr, keys, head_size, scores.data());
          math.scores(query_rows.data(), strip, float_pointers.data(), nullptr, keys, head_size, expected.data());
          math.accumulate_int8(weights.data(), strip, row_pointers.data(), nullptr, keys, head_size, outputs.data());
          math.accumulate(weights.data(), strip, float_pointers.data(), nullptr, keys, head_size,
                          expected_outputs.data());
          for (size_t i = 0; i < scores.size(); ++i) ASSERT_NEAR(scores[i], expected[i], 1e-4F) << head_size;
          for (size_t i = 0; i < sums.size(); ++i) ASSERT_NEAR(sums[i], expected_sums[i], 1e-4F) << head_size;
        }
      }
    }
  }
}

}  // namespace
}  // namespace naiad::testing
