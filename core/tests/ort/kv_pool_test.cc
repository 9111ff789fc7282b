#include "ort/kv_pool.h"

#include <gtest/gtest.h>

#include <limits>

namespace naiad {
namespace {

constexpr KvPoolShape kShape{3, 2, 4, 16};
constexpr int64_t kBlockBytes = 2 * 3 * 2 * 4 * 16 * 4;

TEST(KvPoolTest, TakesAsManyWholeBlocksAsFit) {
  std::unique_ptr<KvPool> pool;
  ASSERT_TRUE(KvPool::Create(kShape, 10 * kBlockBytes + kBlockBytes - 1, &pool).ok());
  EXPECT_EQ(pool->num_blocks(), 10);
}

TEST(KvPoolTest, TensorsOfAllLayersAreApartAndWritable) {
  std::unique_ptr<KvPool> pool;
  ASSERT_TRUE(KvPool::Create(kShape, 2 * kBlockBytes, &pool).ok());
  for (int32_t layer = 0; layer < kShape.num_layers; ++layer) {
    for (float& value : pool->keys(layer)) value += static_cast<float>(layer + 1);
    for (float& value : pool->values(layer)) value -= static_cast<float>(layer + 1);
  }
  for (int32_t layer = 0; layer < kShape.num_layers; ++layer) {
    EXPECT_EQ(pool->keys(layer).size(), 2U * 2 * 16 * 4);
    for (const float value : pool->keys(layer)) ASSERT_EQ(value, static_cast<float>(layer + 1));
    for (const float value : pool->values(layer)) ASSERT_EQ(value, static_cast<float>(-layer - 1));
  }
}

TEST(KvPoolTest, LessThanOneBlockIsRefused) {
  std::unique_ptr<KvPool> pool;
  const Status status = KvPool::Create(kShape, kBlockBytes - 1, &pool);
  EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "kv_cache_bytes is 3071; one block needs 3072");
}

}  // namespace
}  // namespace naiad
