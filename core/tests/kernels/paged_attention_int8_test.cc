#include <gtest/gtest.h>

#include "paged_attention_test_support.h"

namespace naiad::testing {
namespace {

// Head sizes 32 to 256, groups of 1 to 9, blocks of 1 to 40 positions.
TEST(PagedAttentionInt8Test, AgreesWithDoublePrecisionOverTheSameRoundedRows) {
  const std::vector<Case> cases = {
      {{9, 3, 64, 1.0F, 0.0F, -1}, 16}, {{4, 4, 32, 1.0F, 0.0F, -1}, 16},  {{9, 1, 100, 1.0F, 0.0F, -1}, 8},
      {{5, 5, 33, 1.0F, 5.0F, -1}, 5},  {{8, 1, 256, 1.0F, 30.0F, 7}, 16}, {{7, 1, 80, 1.0F, 0.0F, 1}, 40},
      {{4, 2, 96, 1.0F, 0.0F, 33}, 1},  {{2, 1, 7, 1.0F, 0.0F, -1}, 16},   {{6, 1, 47, 1.0F, 0.0F, 20}, 16}};
  for (const SimdLevel level : AvailableLevels()) {
    for (const Case& shape : cases) {
      World<uint8_t> world(shape, {70, 33, 16}, 25);
      world.RoundHistoriesToEightBits();
      ASSERT_TRUE(world.Step(level, SerialFor, {17}, {0}).ok());
      ASSERT_TRUE(world.Step(level, SerialFor, {1, 16, 33}, {0, 2, 1}).ok());
      ASSERT_TRUE(world.Step(level, SerialFor, {0, 52}, {1, 0}).ok());
      EXPECT_LT(world.Error(), kWeightRounding) << shape.layer.num_heads << " heads of " << shape.layer.head_size;
    }
  }
}

// Keys and values of variance 1 lie within 4 or so, steps are 4 / 127 and errors half of that; averages are no worse.
TEST(PagedAttentionInt8Test, RoundingToEightBitsMovesAnOutputByLittle) {
  World<uint8_t> world({{9, 3, 64, 1.0F, 0.0F, -1}, 16}, {70}, 26);
  ASSERT_TRUE(world.Step(AvailableLevels().back(), SerialFor, {70}, {0}).ok());
  EXPECT_LT(world.Error(), 0.05);
  EXPECT_GT(world.Error(), 1e-4);
}

TEST(PagedAttentionInt8Test, EightBitRowsAreWrittenByManyThreads) {
  World<uint8_t> world({{8, 8, 64, 1.0F, 0.0F, 4}, 16}, {80, 90}, 27);
  world.RoundHistoriesToEightBits();
  ASSERT_TRUE(world.Step(AvailableLevels().back(), ThreadedFor, {80, 90}, {0, 1}).ok());
  EXPECT_LT(world.Error(), kWeightRounding);
}

// A weight of 0 for what a row does not see must not meet a scale that is no number.
TEST(PagedAttentionInt8Test, ValueThatIsNotFiniteShowsInAllRowsThatSeeItAndInNoOther) {
  constexpr int32_t kBad = kChunkTokens + 20;
  constexpr int32_t kWindow = 30;
  const AttentionLayer layer{4, 2, 24, 1.0F, 0.0F, kWindow};
  for (const SimdLevel level : AvailableLevels()) {
    World<uint8_t> world({layer, 16}, {kBad + 60}, 29);
    world.SpoilValue(0, kBad);
    ASSERT_TRUE(world.Step(level, ThreadedFor, {kBad + 60}, {0}).ok());
    const std::vector<float>& output = world.outputs()[0];
    const auto width = static_cast<size_t>(layer.num_heads * layer.head_size);
    for (size_t i = 0; i < output.size(); ++i) {
      const auto token = static_cast<int32_t>(i / width);
      ASSERT_EQ(std::isfinite(output[i]), token < kBad || token >= kBad + kWindow) << token;
    }
  }
}

TEST(PagedAttentionInt8Test, AgreesWithDoublePrecisionOverManyHeadSizesAndGroups) {
  for (const SimdLevel level : AvailableLevels()) {
    uint32_t seed = 60;
    for (const int32_t head_size : {32, 48, 64, 80, 96, 100, 128, 200, 256}) {
      for (const int32_t group : {1, 2, 3, 4, 5, 6, 7, 8, 9}) {
        World<uint8_t> world({{group, 1, head_size, 1.0F, 0.0F, -1}, 16}, {70}, ++seed);
        world.RoundHistoriesToEightBits();
        ASSERT_TRUE(world.Step(level, SerialFor, {65}, {0}).ok());
        for (int i = 0; i < 5; ++i) ASSERT_TRUE(world.Step(level, SerialFor, {1}, {0}).ok());
        EXPECT_LT(world.Error(), kWeightRounding) << group << " heads of " << head_size;
      }
    }
  }
}

}  // namespace
}  // namespace naiad::testing
