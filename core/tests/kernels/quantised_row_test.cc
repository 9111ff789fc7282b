#include "kernels/quantised_row.h"

#include <gtest/gtest.h>

#include <algorithm>
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

TEST(QuantisedRowTest, RowThatIsNotFiniteGetsAScaleThatIsNoNumber) {
  for (const SimdLevel level : AvailableLevels()) {
    for (const float bad : {kNan, kInfinity, -kInfinity}) {
      for (const size_t place : {size_t{0}, size_t{8}, size_t{18}}) {
        std::vector<float> row(19, 1.0F);
        row[place] = bad;
        EXPECT_TRUE(std::isnan(RowScale(Quantised(level, row).data(), 19))) << bad << " at " << place;
      }
    }
  }
}

}  // namespace
}  // namespace naiad::testing
