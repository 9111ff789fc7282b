// The bits of a token do not depend on its company.
#include <gtest/gtest.h>

#include "paged_attention_test_support.h"

namespace naiad::testing {
namespace {

// One token after the other, in chunks beside a neighbour, on many threads: always the bits of one long prefill.
template <typename CacheElement>
void ExpectSameBitsHoweverComputed() {
  const std::vector<Case> cases = {{{9, 3, 64, 1.0F, 0.0F, -1}, 16},
                                   {{4, 4, 20, 1.0F, 3.0F, 12}, 16},
                                   {{8, 1, 72, 1.0F, 0.0F, -1}, 48},
                                   {{9, 3, 64, 1.0F, 0.0F, -1}, 16, 32, true},
                                   {{7, 7, 33, 1.0F, 0.0F, -1}, 16, 3, true}};
  for (const SimdLevel level : AvailableLevels()) {
    for (const Case& shape : cases) {
      World<CacheElement> world(shape, {60, 45}, 22);
      ASSERT_TRUE(world.Step(level, ThreadedFor, {60, 45}, {0, 1}).ok());
      const std::vector<std::vector<float>> prefilled = world.outputs();
      world.Forget();
      for (int i = 0; i < 60; ++i) ASSERT_TRUE(world.Step(level, SerialFor, {1}, {0}).ok());
      for (int i = 0; i < 5; ++i) ASSERT_TRUE(world.Step(level, SerialFor, {9}, {1}).ok());
      EXPECT_EQ(world.outputs(), prefilled);
      world.Forget();
      for (const int32_t count : {7, 1, 13, 24}) {
        ASSERT_TRUE(world.Step(level, ThreadedFor, {count, count}, {1, 0}).ok());
      }
      ASSERT_TRUE(world.Step(level, ThreadedFor, {15}, {0}).ok());
      EXPECT_EQ(world.outputs(), prefilled);
    }
  }
}

TEST(PagedAttentionBitsTest, TokenGetsTheSameBitsDecodedPrefilledChunkedOrPacked) {
  ExpectSameBitsHoweverComputed<float>();
}

TEST(PagedAttentionBitsTest, TokenGetsTheSameBitsOverAnEightBitCacheToo) { ExpectSameBitsHoweverComputed<uint8_t>(); }

// Histories of several chunks, which one thread takes one after the other in a prefill, and several threads share when
// a token is decoded alone. The windows begin and end in the midst of chunks.
template <typename CacheElement>
void ExpectSameBitsAcrossChunks() {
  const std::vector<Case> cases = {{{16, 1, 64, 1.0F, 0.0F, -1}, 16},
                                   {{16, 1, 20, 1.0F, 4.0F, 530}, 16},
                                   {{32, 2, 16, 1.0F, 0.0F, 500}, 5},
                                   {{3, 1, 64, 1.0F, 0.0F, -1}, 48}};
  const int32_t length = 2 * kChunkTokens + 90;
  for (const SimdLevel level : AvailableLevels()) {
    for (const Case& shape : cases) {
      World<CacheElement> world(shape, {length, 40}, 28);
      world.RoundHistoriesToEightBits();
      ASSERT_TRUE(world.Step(level, SerialFor, {length, 40}, {0, 1}).ok());
      if (level == AvailableLevels().back()) {
        EXPECT_LT(world.Error(), (std::is_same_v<CacheElement, float> ? 2e-5 : kWeightRounding))
            << shape.layer.num_heads << " heads";
      }
      const std::vector<std::vector<float>> prefilled = world.outputs();
      world.Forget();
      ASSERT_TRUE(world.Step(level, ThreadedFor, {kChunkTokens - 2}, {0}).ok());
      for (int i = 0; i < 4; ++i) ASSERT_TRUE(world.Step(level, ThreadedFor, {1, 1}, {1, 0}).ok());
      ASSERT_TRUE(world.Step(level, ThreadedFor, {36, kChunkTokens + 80}, {1, 0}).ok());
      for (int i = 0; i < 8; ++i) ASSERT_TRUE(world.Step(level, ThreadedFor, {1}, {0}).ok());
      EXPECT_EQ(world.outputs(), prefilled) << shape.layer.num_heads << " heads of " << shape.layer.head_size;
    }
  }
}

TEST(PagedAttentionBitsTest, TokenGetsTheSameBitsWhoeverSharesItsChunks) { ExpectSameBitsAcrossChunks<float>(); }

TEST(PagedAttentionBitsTest, TokenGetsTheSameBitsWhoeverSharesItsChunksOverAnEightBitCacheToo) {
  ExpectSameBitsAcrossChunks<uint8_t>();
}

// Past what one thread writes alone: the bits of small steps.
template <typename CacheElement>
void ExpectLargeRotatedStepsToHaveTheBitsOfSmallOnes() {
  for (const bool is_packed : {false, true}) {
    World<CacheElement> world({{8, 2, 64, 1.0F, 0.0F, -1}, 16, 16, is_packed}, {70, 90, 1}, 28);
    ASSERT_TRUE(world.Step(AvailableLevels().back(), ThreadedFor, {70, 0, 90, 1}, {0, 1, 1, 2}).ok());
    const std::vector<std::vector<float>> at_once = world.outputs();
    world.Forget();
    for (int i = 0; i < 70; ++i) ASSERT_TRUE(world.Step(AvailableLevels().back(), SerialFor, {1, 1}, {1, 0}).ok());
    ASSERT_TRUE(world.Step(AvailableLevels().back(), SerialFor, {20, 1}, {1, 2}).ok());
    EXPECT_EQ(world.outputs(), at_once);
  }
}

TEST(PagedAttentionBitsTest, LargeRotatedStepsHaveTheBitsOfSmallOnes) {
  ExpectLargeRotatedStepsToHaveTheBitsOfSmallOnes<float>();
  ExpectLargeRotatedStepsToHaveTheBitsOfSmallOnes<uint8_t>();
}

// Integers are summed exactly, and the float steps are the same.
TEST(PagedAttentionBitsTest, EveryLevelGivesTheSameBitsOverAnEightBitCache) {
  const std::vector<Case> cases = {{{9, 3, 64, 1.0F, 0.0F, -1}, 16}, {{7, 1, 80, 1.0F, 20.0F, -1}, 16},
                                   {{4, 4, 33, 1.0F, 0.0F, 40}, 5},  {{9, 1, 100, 1.0F, 2.0F, 270}, 16},
                                   {{5, 1, 7, 1.0F, 0.0F, -1}, 16},  {{4, 1, 200, 1.0F, 0.0F, -1}, 16}};
  for (const Case& shape : cases) {
    std::vector<std::vector<float>> of_lowest;
    for (const SimdLevel level : AvailableLevels()) {
      World<uint8_t> world(shape, {kChunkTokens + 60, 33}, 31);
      ASSERT_TRUE(world.Step(level, SerialFor, {kChunkTokens + 60, 33}, {0, 1}).ok());
      if (level == AvailableLevels().front()) of_lowest = world.outputs();
      EXPECT_EQ(world.outputs(), of_lowest) << LevelName(level) << ", heads of " << shape.layer.head_size;
    }
  }
}

}  // namespace
}  // namespace naiad::testing
