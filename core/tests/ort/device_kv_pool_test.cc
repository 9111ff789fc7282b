// The device pool in host memory: allocation, layout and the graphs that move blocks are the same on a GPU, which these
// tests do not have.
#include "ort/device_kv_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "ort/session.h"
#include "ort_test_support.h"

namespace naiad::testing {
namespace {

constexpr KvPoolShape kShape{3, 2, 4, 16, KvCacheType::kFloat16};
constexpr int64_t kBlockElements = 2 * 4 * 16;
constexpr int64_t kBlockBytes = 2 * 3 * kBlockElements * 2;

class DeviceKvPoolTest : public ::testing::TestWithParam<KvCacheType> {
 protected:
  Status Create(int64_t bytes) {
    KvPoolShape shape = kShape;
    shape.cache_type = GetParam();
    return DeviceKvPool::Create(*runtime_, owner_, std::nullopt, shape, bytes, &pool_);
  }

  // All tensors' elements, tensor after tensor.
  std::vector<std::span<uint16_t>> Tensors() {
    std::vector<std::span<uint16_t>> tensors;
    for (int32_t layer = 0; layer < kShape.num_layers; ++layer) {
      for (Ort::Value& value : std::array{pool_->keys(layer), pool_->values(layer)}) {
        tensors.emplace_back(static_cast<uint16_t*>(value.GetTensorMutableRawData()),
                             value.GetTensorTypeAndShapeInfo().GetElementCount());
      }
    }
    return tensors;
  }

  // A number that tells blocks and tensors apart, in every element.
  void MarkBlocks() {
    uint16_t mark = 1;
    for (const std::span<uint16_t> tensor : Tensors()) {
      for (int64_t block = 0; block < pool_->num_blocks(); ++block, ++mark) {
        std::fill_n(tensor.begin() + block * kBlockElements, kBlockElements, mark);
      }
    }
  }

  // What `block` of the first tensor holds, after checking that all tensors hold the same block's marks.
  int32_t BlockAt(int32_t block) {
    int32_t found = -1;
    uint16_t first_mark = 1;
    for (const std::span<uint16_t> tensor : Tensors()) {
      const auto elements = tensor.subspan(static_cast<size_t>(block * kBlockElements), kBlockElements);
      EXPECT_TRUE(std::all_of(elements.begin(), elements.end(), [&](uint16_t e) { return e == elements[0]; }));
      const int32_t here = elements[0] - first_mark;
      EXPECT_TRUE(found < 0 || found == here) << found << " and " << here;
      found = here;
      first_mark = static_cast<uint16_t>(first_mark + pool_->num_blocks());
    }
    return found;
  }

  std::shared_ptr<OrtRuntime> runtime_ = LoadRuntime();
  Ort::Session owner_ = OpenSession(*runtime_, ModelsFolder() + "/half_cache.onnx", 1);
  std::unique_ptr<DeviceKvPool> pool_;
};

INSTANTIATE_TEST_SUITE_P(HalfTypes, DeviceKvPoolTest, ::testing::Values(KvCacheType::kFloat16, KvCacheType::kBfloat16),
                         [](const auto& which) {
                           return which.param == KvCacheType::kFloat16 ? std::string("Float16")
                                                                       : std::string("Bfloat16");
                         });

TEST_P(DeviceKvPoolTest, TakesAsManyWholeBlocksOfTwoBytesAnElementAsFitAndZeroesThem) {
  ASSERT_TRUE(Create(10 * kBlockBytes + kBlockBytes - 1).ok());
  EXPECT_EQ(pool_->num_blocks(), 10);
  for (const std::span<uint16_t> tensor : Tensors()) {
    EXPECT_EQ(tensor.size(), 10U * kBlockElements);
    EXPECT_TRUE(std::all_of(tensor.begin(), tensor.end(), [](uint16_t element) { return element == 0; }));
  }
}

TEST_P(DeviceKvPoolTest, TensorsHaveTheTypeOfTheModelAndPositionsBeforeHeads) {
  ASSERT_TRUE(Create(3 * kBlockBytes).ok());
  const Ort::Value keys = pool_->keys(2);
  const auto info = keys.GetTensorTypeAndShapeInfo();
  EXPECT_EQ(info.GetElementType(), KvElementType(GetParam()));
  EXPECT_EQ(info.GetShape(), (std::vector<int64_t>{3, 16, 2, 4}));
}

TEST_P(DeviceKvPoolTest, LessThanOneBlockIsRefused) {
  const Status status = Create(kBlockBytes - 1);
  EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "kv_cache_bytes is 1535; one block needs 1536");
}

TEST_P(DeviceKvPoolTest, CopiesHappenInTheirOrderAndTouchNoOtherBlock) {
  ASSERT_TRUE(Create(6 * kBlockBytes).ok());
  MarkBlocks();
  // A copy of a copy, a source that is overwritten later, and a target that is written twice.
  const std::vector<BlockCopy> copies = {{0, 1}, {1, 2}, {3, 0}, {4, 2}};
  ASSERT_TRUE(pool_->CopyBlocks(copies).ok());
  EXPECT_EQ(BlockAt(0), 3);
  EXPECT_EQ(BlockAt(1), 0);
  EXPECT_EQ(BlockAt(2), 4);
  for (const int32_t untouched : {3, 4, 5}) EXPECT_EQ(BlockAt(untouched), untouched);
}

TEST_P(DeviceKvPoolTest, AnyListOfCopiesGivesWhatCopyingOneByOneGives) {
  constexpr int32_t kBlocks = 7;
  ASSERT_TRUE(Create(kBlocks * kBlockBytes).ok());
  std::mt19937 random(3);
  std::uniform_int_distribution<int32_t> any_block(0, kBlocks - 1);
  for (int trial = 0; trial < 50; ++trial) {
    MarkBlocks();
    std::vector<int32_t> expected = {0, 1, 2, 3, 4, 5, 6};
    std::vector<BlockCopy> copies;
    for (int i = 0; i < 5; ++i) {
      copies.push_back({any_block(random), any_block(random)});
      expected[static_cast<size_t>(copies.back().target)] = expected[static_cast<size_t>(copies.back().source)];
    }
    ASSERT_TRUE(pool_->CopyBlocks(copies).ok());
    for (int32_t block = 0; block < kBlocks; ++block) ASSERT_EQ(BlockAt(block), expected[static_cast<size_t>(block)]);
  }
}

TEST_P(DeviceKvPoolTest, NoCopiesAreNoWork) {
  ASSERT_TRUE(Create(2 * kBlockBytes).ok());
  EXPECT_TRUE(pool_->CopyBlocks({}).ok());
}

// Not under a sanitizer: its operator new ends the process where the real one throws.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_P(DeviceKvPoolTest, MoreMemoryThanThereIsSaysThatMemoryRanOut) {
  const Status status = Create(int64_t{1} << 50);
  EXPECT_EQ(status.code(), ErrorCode::kResourceExhausted) << status.message();
}
#endif

}  // namespace
}  // namespace naiad::testing
