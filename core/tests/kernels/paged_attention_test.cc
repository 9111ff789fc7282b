#include "kernels/paged_attention.h"

#include <gtest/gtest.h>

#include "paged_attention_test_support.h"

namespace naiad::testing {
namespace {

using PagedWorld = World<float>;

TEST(PagedAttentionTest, AgreesWithDoublePrecisionOverOddShapesAndMixedSteps) {
  const std::vector<Case> cases = {
      {{9, 3, 64, 1.0F, 0.0F, -1}, 16},
      {{4, 4, 32, 1.0F, 0.0F, -1}, 16},
      {{9, 1, 100, 1.0F, 0.0F, -1}, 8},
      {{5, 5, 33, 1.0F, 5.0F, -1}, 5},
      {{8, 1, 256, 1.0F, 30.0F, 7}, 16},
      {{7, 1, 80, 1.0F, 0.0F, 1}, 40},
      {{2, 1, 8, 1.0F, 0.0F, 16}, 64},
      {{66, 1, 16, 1.0F, 0.0F, 33}, 1},
      {{9, 3, 64, 1.0F, 0.0F, -1}, 16, 32, true},
      {{5, 5, 33, 1.0F, 0.0F, -1}, 5, 0, true},
      {{9, 1, 100, 1.0F, 0.0F, -1}, 8, 50, false},
      {{8, 1, 256, 1.0F, 30.0F, 7}, 16, 64, true},
      {{6, 2, 80, 1.0F, 0.0F, -1}, 16, 10, true},
      {{4, 4, 35, 1.0F, 0.0F, -1}, 16, 17, true},
  };
  for (const SimdLevel level : AvailableLevels()) {
    for (const Case& shape : cases) {
      PagedWorld world(shape, {70, 33, 16}, 21);
      ASSERT_TRUE(world.Step(level, SerialFor, {17}, {0}).ok());
      ASSERT_TRUE(world.Step(level, SerialFor, {1, 16, 33}, {0, 2, 1}).ok());
      ASSERT_TRUE(world.Step(level, SerialFor, {0, 52}, {1, 0}).ok());
      EXPECT_LT(world.Error(), 1e-5) << shape.layer.num_heads << " heads of " << shape.layer.head_size;
    }
  }
}

TEST(PagedAttentionTest, AgreesWithDoublePrecisionOverManyHeadSizesAndGroups) {
  for (const SimdLevel level : AvailableLevels()) {
    uint32_t seed = 40;
    for (const int32_t head_size : {32, 48, 64, 80, 96, 100, 128, 200, 256}) {
      for (const int32_t group : {1, 2, 3, 5, 7, 9}) {
        PagedWorld world({{group, 1, head_size, 1.0F, 0.0F, -1}, 16}, {38}, ++seed);
        ASSERT_TRUE(world.Step(level, SerialFor, {33}, {0}).ok());
        for (int i = 0; i < 5; ++i) ASSERT_TRUE(world.Step(level, SerialFor, {1}, {0}).ok());
        EXPECT_LT(world.Error(), 1e-5) << group << " heads of " << head_size;
      }
    }
  }
}

// 0 times infinity is no number, so a weight of 0 would show.
TEST(PagedAttentionTest, ValueThatIsNotFiniteShowsInAllRowsThatSeeItAndInNoOther) {
  constexpr int32_t kBad = kChunkTokens + 20;
  constexpr int32_t kWindow = 30;
  const AttentionLayer layer{4, 2, 24, 1.0F, 0.0F, kWindow};
  for (const SimdLevel level : AvailableLevels()) {
    PagedWorld world({layer, 16}, {kBad + 60}, 29);
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

TEST(PagedAttentionTest, AnglesThatDoNotFitAHeadAreRefused) {
  PagedWorld world({{2, 1, 8, 1.0F, 0.0F, -1}, 16}, {5}, 29);
  world.shape().rotary_pairs = 5;
  EXPECT_EQ(world.Step(SimdLevel::kScalar, SerialFor, {5}, {0}).message(),
            "cos and sin are 5 wide; a head has 8 elements");
  world.shape().rotary_pairs = 4;
  EXPECT_EQ(world.Step(SimdLevel::kScalar, SerialFor, {5}, {0}).message(), "cos has 0 elements; expected 20");
}

TEST(PagedAttentionTest, LargeStepsAreWrittenToTheCacheByManyThreads) {
  PagedWorld world({{8, 8, 64, 1.0F, 0.0F, 4}, 16}, {80, 90}, 23);
  ASSERT_TRUE(world.Step(SimdLevel::kScalar, ThreadedFor, {80, 90}, {0, 1}).ok());
  EXPECT_LT(world.Error(), 1e-5);
}

TEST(PagedAttentionTest, BlocksOutsideThePoolAreRefusedBeforeAnythingIsWritten) {
  PagedWorld world({{2, 1, 8, 1.0F, 0.0F, -1}, 16}, {20, 20}, 24);
  const std::vector<int32_t> table = world.table();
  for (const int32_t block : {-1, 5}) {
    world.table() = table;
    world.table()[3] = block;
    EXPECT_EQ(world.Step(SimdLevel::kScalar, SerialFor, {20, 20}, {0, 1}).message(),
              "block_table names block " + std::to_string(block) + " for sequence 1; the pool has 5");
  }
  world.table()[3] = -1;  // Not needed by the first 16 tokens.
  EXPECT_TRUE(world.Step(SimdLevel::kScalar, SerialFor, {20, 16}, {0, 1}).ok());
}

TEST(PagedAttentionTest, TableWithTooFewColumnsIsRefused) {
  const AttentionLayer layer{1, 1, 1, 1.0F, 0.0F, -1};
  std::vector<float> row(3), cache(4);
  const std::vector<int32_t> cu_seqlens = {0, 3};
  const std::vector<int32_t> past_lens = {2};
  const std::vector<int32_t> table = {0, 1};
  std::vector<float> output(3);
  const PagedAttentionArgs<float> args{layer,     row,   row, row, cache, cache, cu_seqlens,
                                       past_lens, table, 2,   2,   2,     output};
  PagedAttentionScratch scratch;
  EXPECT_EQ(PagedAttention(args, AttentionMathFor(SimdLevel::kScalar), SerialFor, &scratch).message(),
            "block_table has 2 columns; sequence 0 needs 3");
}

}  // namespace
}  // namespace naiad::testing
