#include "ort/decoder_runner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "ort_test_support.h"

namespace naiad::testing {
namespace {

DecoderGraph SyntheticGraph() { return {ModelsFolder() + "/decoder/1/model.onnx", 2, 2, 8, 16, 64, 512}; }

// One block of the synthetic decoder: 2 layers, keys and values, 2 heads of 8, 16 positions.
constexpr int64_t kBlockBytes = 2 * 2 * 2 * 8 * 16 * 4;
constexpr DecoderSessionOptions kOptions{20 * kBlockBytes + 5, 64, kThreads};

// The same decoder over an 8-bit cache, which gives the same tokens.
DecoderGraph Int8Graph() {
  return {ModelsFolder() + "/decoder_int8/1/model.onnx", 2, 2, 8, 16, 64, 512, KvCacheType::kInt8};
}
constexpr int64_t kInt8BlockBytes = 2 * 2 * 2 * (8 + 4) * 16;
constexpr DecoderSessionOptions kInt8Options{20 * kInt8BlockBytes + 5, 64, kThreads};

// One sequence's part of a step.
struct Piece {
  std::vector<int32_t> tokens;
  int32_t past = 0;
  std::vector<int32_t> blocks;
};

class DecoderRunnerTest : public ::testing::TestWithParam<KvCacheType> {
 protected:
  void SetUp() override {
    const bool int8 = GetParam() == KvCacheType::kInt8;
    const Status status = CreateDecoderRunner(LoadRuntime(), int8 ? Int8Graph() : SyntheticGraph(),
                                              int8 ? kInt8Options : kOptions, &runner_);
    ASSERT_TRUE(status.ok()) << status.message();
  }

  // Runs the pieces as one step and returns the most probable token of each wanted packed row.
  std::vector<int32_t> Step(const std::vector<Piece>& pieces, const std::vector<int64_t>& rows) {
    constexpr int32_t kColumns = 8;
    std::vector<int64_t> ids, positions;
    std::vector<int32_t> cu_seqlens = {0}, past, table;
    for (const Piece& piece : pieces) {
      ids.insert(ids.end(), piece.tokens.begin(), piece.tokens.end());
      positions.resize(ids.size());
      std::iota(positions.end() - static_cast<std::ptrdiff_t>(piece.tokens.size()), positions.end(), piece.past);
      cu_seqlens.push_back(static_cast<int32_t>(ids.size()));
      past.push_back(piece.past);
      table.insert(table.end(), piece.blocks.begin(), piece.blocks.end());
      table.resize(past.size() * kColumns, -1);
    }
    std::span<float> logits;
    status_ = runner_->Run({ids, positions, cu_seqlens, past, table, kColumns, rows}, &logits);
    if (!status_.ok()) return {};
    EXPECT_EQ(logits.size(), rows.size() * 64);
    std::vector<int32_t> best;
    for (size_t row = 0; row < rows.size(); ++row) {
      const auto values = logits.subspan(row * 64, 64);
      best.push_back(static_cast<int32_t>(std::max_element(values.begin(), values.end()) - values.begin()));
    }
    return best;
  }

  std::unique_ptr<ModelRunner> runner_;
  Status status_;
};

INSTANTIATE_TEST_SUITE_P(CacheTypes, DecoderRunnerTest, ::testing::Values(KvCacheType::kFloat, KvCacheType::kInt8),
                         [](const auto& which) {
                           return which.param == KvCacheType::kFloat ? std::string("Float") : std::string("Int8");
                         });

TEST_P(DecoderRunnerTest, ShapeTellsThePoolThatFitsIntoTheBytes) {
  EXPECT_EQ(runner_->shape().num_blocks, 20);
  EXPECT_EQ(runner_->shape().block_tokens, 16);
  EXPECT_EQ(runner_->shape().vocabulary_size, 64);
  EXPECT_EQ(runner_->shape().context_length_tokens, 512);
}

TEST_P(DecoderRunnerTest, GeneratesTheClosedFormsTokensFromAChunkedPromptBesideANeighbour) {
  const std::vector<int32_t> prompt = ReadTokens(0);
  const std::vector<int32_t> expected = ReadTokens(1);
  const std::vector<int32_t> blocks = {19, 0, 7, 3, 12, 5, 1};
  const std::vector<int32_t> neighbour(30, 63);
  const std::vector<int32_t> neighbour_blocks = {2, 4};
  // No row is wanted of the first chunk.
  EXPECT_TRUE(Step({{{prompt.begin(), prompt.begin() + 17}, 0, blocks}}, {}).empty());
  ASSERT_TRUE(status_.ok()) << status_.message();
  auto best = Step({{neighbour, 0, neighbour_blocks}, {{prompt.begin() + 17, prompt.end()}, 17, blocks}}, {29, 52});
  ASSERT_EQ(best.size(), 2U) << status_.message();
  std::vector<int32_t> generated = {best[1]};
  while (generated.size() < expected.size()) {
    const auto past = static_cast<int32_t>(prompt.size() + generated.size() - 1);
    best = Step({{{generated.back()}, past, blocks}}, {0});
    ASSERT_EQ(best.size(), 1U) << status_.message();
    generated.push_back(best[0]);
  }
  EXPECT_EQ(generated, expected);
}

TEST_P(DecoderRunnerTest, SequenceGoesOnFromCopiedBlocksAfterItsOwnWereOverwritten) {
  const std::vector<int32_t> prompt = ReadTokens(0);
  const std::vector<int32_t> blocks = {4, 9, 2};
  const std::vector<int32_t> copies = {11, 0, 17};
  ASSERT_EQ(Step({{prompt, 0, blocks}}, {39}), std::vector<int32_t>{ReadTokens(1)[0]}) << status_.message();
  ASSERT_TRUE(runner_->CopyBlocks(std::vector<BlockCopy>{{4, 11}, {9, 0}, {2, 17}}).ok());
  Step({{std::vector<int32_t>(40, 63), 0, blocks}}, {});
  ASSERT_TRUE(status_.ok()) << status_.message();
  EXPECT_EQ(Step({{{ReadTokens(1)[0]}, 40, copies}}, {0}), std::vector<int32_t>{ReadTokens(1)[1]}) << status_.message();
}

TEST_P(DecoderRunnerTest, StepLargerThanDeclaredIsRefused) {
  Step({{std::vector<int32_t>(65, 1), 0, {0, 1, 2, 3, 4}}}, {0});
  EXPECT_EQ(status_.message(), "a step of 65 tokens; it must be 1 to 64");
}

TEST_P(DecoderRunnerTest, FailingOperatorBecomesAStatusAndTheNextStepWorks) {
  Step({{{1}, 0, {20}}}, {0});
  EXPECT_EQ(status_.code(), ErrorCode::kInternal);
  EXPECT_NE(status_.message().find("block_table names block 20 for sequence 0"), std::string::npos)
      << status_.message();
  Step({{{1}, 0, {19}}}, {0});
  EXPECT_TRUE(status_.ok()) << status_.message();
}

TEST(CreateDecoderRunnerTest, GraphThatDiffersFromTheManifestIsRefusedAndTheDifferenceNamed) {
  struct Case {
    void (*change)(DecoderGraph&);
    std::string message;
  };
  const std::vector<Case> cases = {
      {[](DecoderGraph& g) { g.num_layers = 3; }, "input key_cache.2 is missing"},
      {[](DecoderGraph& g) { g.num_layers = 1; }, "input key_cache.1 is not known"},
      {[](DecoderGraph& g) { g.num_kv_heads = 3; },
       "input key_cache.0 has shape [?, 2, 16, 8]; expected [?, 3, 16, 8]"},
      {[](DecoderGraph& g) { g.kv_block_tokens = 8; },
       "input key_cache.0 has shape [?, 2, 16, 8]; expected [?, 2, 8, 8]"},
      {[](DecoderGraph& g) { g.vocabulary_size = 65; }, "output logits has shape [?, 64]; expected [?, 65]"},
      {[](DecoderGraph& g) { g.kv_cache_type = KvCacheType::kInt8; },
       "input key_cache.0 has type float; expected uint8"},
      {[](DecoderGraph& g) { g = Int8Graph(), g.kv_cache_type = KvCacheType::kFloat; },
       "input key_cache.0 has type uint8; expected float"},
      {[](DecoderGraph& g) { g = Int8Graph(), g.head_size = 12; },
       "input key_cache.0 has shape [?, 2, 16, 12]; expected [?, 2, 16, 16]"},
      {[](DecoderGraph& g) { g.graph_path = ModelsFolder() + "/embed/1/model.onnx"; }, "input past_lens is missing"},
  };
  for (const Case& mismatch : cases) {
    DecoderGraph graph = SyntheticGraph();
    mismatch.change(graph);
    std::unique_ptr<ModelRunner> runner;
    const Status status = CreateDecoderRunner(LoadRuntime(), graph, kOptions, &runner);
    EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument);
    EXPECT_EQ(status.message(), graph.graph_path + ": " + mismatch.message);
    EXPECT_EQ(runner, nullptr);
  }
}

TEST(CreateDecoderRunnerTest, MissingGraphFileIsNamed) {
  DecoderGraph graph = SyntheticGraph();
  graph.graph_path = "/nowhere/model.onnx";
  std::unique_ptr<ModelRunner> runner;
  const Status status = CreateDecoderRunner(LoadRuntime(), graph, kOptions, &runner);
  EXPECT_EQ(status.code(), ErrorCode::kInternal);
  EXPECT_NE(status.message().find("/nowhere/model.onnx"), std::string::npos) << status.message();
}

}  // namespace
}  // namespace naiad::testing
