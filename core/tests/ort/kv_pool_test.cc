#include "ort/kv_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace naiad {
namespace {

constexpr KvPoolShape kShape{3, 2, 4, 16};
constexpr int64_t kBlockBytes = 2 * 3 * 2 * 4 * 16 * 4;
constexpr int64_t kInt8BlockBytes = 2 * 3 * 2 * (4 + 4) * 16;

TEST(KvPoolTest, TakesAsManyWholeBlocksAsFit) {
  std::unique_ptr<KvPool> pool;
  ASSERT_TRUE(KvPool::Create(kShape, 10 * kBlockBytes + kBlockBytes - 1, &pool).ok());
  EXPECT_EQ(pool->num_blocks(), 10);
}

// The pools of both types of cache.
std::vector<std::unique_ptr<KvPool>> Pools(int32_t num_blocks) {
  std::vector<std::unique_ptr<KvPool>> pools(2);
  KvPoolShape shape = kShape;
  EXPECT_TRUE(KvPool::Create(shape, num_blocks * kBlockBytes, &pools[0]).ok());
  shape.cache_type = KvCacheType::kInt8;
  EXPECT_TRUE(KvPool::Create(shape, num_blocks * kInt8BlockBytes, &pools[1]).ok());
  return pools;
}

std::vector<std::span<std::byte>> Tensors(KvPool& pool) {
  std::vector<std::span<std::byte>> tensors;
  for (int32_t layer = 0; layer < kShape.num_layers; ++layer) {
    tensors.push_back(pool.keys(layer));
    tensors.push_back(pool.values(layer));
  }
  return tensors;
}

TEST(KvPoolTest, TensorsOfAllLayersAreApartAndWritable) {
  for (const std::unique_ptr<KvPool>& pool : Pools(2)) {
    const std::vector<std::span<std::byte>> tensors = Tensors(*pool);
    for (size_t i = 0; i < tensors.size(); ++i) {
      for (std::byte& byte : tensors[i]) byte = static_cast<std::byte>(std::to_integer<size_t>(byte) + i + 1);
    }
    for (size_t i = 0; i < tensors.size(); ++i) {
      for (const std::byte byte : tensors[i]) ASSERT_EQ(std::to_integer<size_t>(byte), i + 1);
    }
  }
  EXPECT_EQ(Pools(2)[0]->keys(1).size(), 2U * 2 * 16 * 4 * 4);
  EXPECT_EQ(Pools(2)[1]->keys(1).size(), 2U * 2 * 16 * (4 + 4));
}

TEST(KvPoolTest, CopiedBlockEqualsItsSourceInEveryLayerAndItsNeighboursStay) {
  for (const std::unique_ptr<KvPool>& pool : Pools(4)) {
    std::mt19937 random(3);
    const std::vector<std::span<std::byte>> tensors = Tensors(*pool);
    std::vector<std::vector<std::byte>> expected;
    for (const std::span<std::byte> tensor : tensors) {
      for (std::byte& byte : tensor) byte = static_cast<std::byte>(random() % 256);
      expected.emplace_back(tensor.begin(), tensor.end());
      const auto block_bytes = static_cast<std::ptrdiff_t>(tensor.size() / 4);
      std::copy_n(tensor.begin() + 2 * block_bytes, block_bytes, expected.back().begin() + block_bytes);
    }
    pool->CopyBlock(2, 1);
    for (size_t i = 0; i < tensors.size(); ++i) EXPECT_TRUE(std::ranges::equal(tensors[i], expected[i])) << i;
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
