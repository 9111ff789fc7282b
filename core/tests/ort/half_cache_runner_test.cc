// The runner with a cache in half precision, as a model for a GPU has it, on the CPU; and a GPU that is not there.
#include <gtest/gtest.h>

#include <algorithm>

#include "ort/decoder_runner.h"
#include "ort/ort_api.h"
#include "ort_test_support.h"

namespace naiad::testing {
namespace {

DecoderGraph HalfGraph() { return {ModelsFolder() + "/half_cache.onnx", 2, 2, 8, 16, 64, 512, KvCacheType::kFloat16}; }

constexpr int64_t kBlockBytes = 2 * 2 * 2 * 8 * 16 * 2;
constexpr DecoderSessionOptions kOptions{20 * kBlockBytes, 64, kThreads};

class HalfCacheRunnerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const Status status = CreateDecoderRunner(LoadRuntime(), HalfGraph(), kOptions, &runner_);
    ASSERT_TRUE(status.ok()) << status.message();
  }

  // Writes `token` into block `to`; returns what block `from` then holds of: layer 0's keys and values, layer 1's.
  std::vector<int32_t> Step(int64_t token, int32_t to, int32_t from) {
    const std::vector<int64_t> ids(4, token);
    const std::vector<int64_t> positions = {0, 1, 0, 1};
    const std::vector<int64_t> rows = {0, 1, 2, 3};
    const std::vector<int32_t> cu_seqlens = {0, 2, 4};
    const std::vector<int32_t> past(2, 0);
    const std::vector<int32_t> table = {to, from};
    std::span<float> logits;
    const Status status = runner_->Run({ids, positions, cu_seqlens, past, table, 1, rows}, &logits);
    EXPECT_TRUE(status.ok()) << status.message();
    std::vector<int32_t> best;
    for (size_t row = 0; row < 4 && status.ok(); ++row) {
      const auto values = logits.subspan(row * 64, 64);
      best.push_back(static_cast<int32_t>(std::max_element(values.begin(), values.end()) - values.begin()));
    }
    return best;
  }

  std::unique_ptr<ModelRunner> runner_;
};

TEST_F(HalfCacheRunnerTest, PoolHoldsTwiceTheBlocksOfFloats) { EXPECT_EQ(runner_->shape().num_blocks, 20); }

TEST_F(HalfCacheRunnerTest, BlocksKeepWhatTheGraphWroteFromStepToStep) {
  EXPECT_EQ(Step(5, 3, 3), (std::vector<int32_t>{5, 6, 15, 16}));
  EXPECT_EQ(Step(8, 4, 3), (std::vector<int32_t>{5, 6, 15, 16}));
  EXPECT_EQ(Step(9, 6, 11), (std::vector<int32_t>{0, 0, 0, 0})) << "a block that nobody wrote to";
}

TEST_F(HalfCacheRunnerTest, CopiedBlocksHoldTheirSourcesKeysAndValuesOfAllLayers) {
  Step(5, 3, 3);
  const std::vector<BlockCopy> copies = {{3, 7}, {7, 9}};
  ASSERT_TRUE(runner_->CopyBlocks(copies).ok());
  EXPECT_EQ(Step(8, 3, 9), (std::vector<int32_t>{5, 6, 15, 16}));
  EXPECT_EQ(Step(8, 4, 3), (std::vector<int32_t>{8, 9, 18, 19}));
}

TEST(HalfCacheGraphTest, GraphOfAnotherPrecisionOrLayoutIsRefusedAndTheDifferenceNamed) {
  struct Case {
    void (*change)(DecoderGraph&);
    std::string message;
  };
  const std::vector<Case> cases = {
      {[](DecoderGraph& g) { g.kv_cache_type = KvCacheType::kBfloat16; },
       "input key_cache.0 has type float16; expected bfloat16"},
      {[](DecoderGraph& g) { g.kv_cache_type = KvCacheType::kFloat; },
       "input key_cache.0 has type float16; expected float"},
      {[](DecoderGraph& g) { g.kv_block_tokens = 32; },
       "input key_cache.0 has shape [?, 16, 2, 8]; expected [?, 32, 2, 8]"},
  };
  for (const Case& mismatch : cases) {
    DecoderGraph graph = HalfGraph();
    mismatch.change(graph);
    std::unique_ptr<ModelRunner> runner;
    const Status status = CreateDecoderRunner(LoadRuntime(), graph, kOptions, &runner);
    EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument);
    EXPECT_EQ(status.message(), graph.graph_path + ": " + mismatch.message);
  }
}

TEST(CudaProviderTest, WithoutTheProviderTheModelFailsToLoadWithOneLine) {
  const std::shared_ptr<OrtRuntime> runtime = LoadRuntime();
  const std::vector<std::string> providers = Ort::GetAvailableProviders();
  DecoderSessionOptions options = kOptions;
  options.cuda_gpu = 1'000;  // No machine has this one, should the library know CUDA.
  std::unique_ptr<ModelRunner> runner;
  const Status status = CreateDecoderRunner(runtime, HalfGraph(), options, &runner);
  EXPECT_EQ(status.code(), ErrorCode::kInternal);
  EXPECT_EQ(status.message().find('\n'), std::string::npos) << status.message();
  if (std::find(providers.begin(), providers.end(), "CUDAExecutionProvider") == providers.end()) {
    EXPECT_EQ(status.message(),
              "ONNX Runtime: version " + runtime->version() +
                  " as loaded has no CUDA provider, which this model needs; load that of onnxruntime-gpu");
  } else {
    EXPECT_TRUE(status.message().starts_with("ONNX Runtime: cannot start the CUDA provider on GPU 1000: "));
  }
}

}  // namespace
}  // namespace naiad::testing
