#include "ort/encoder_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ort_test_support.h"

namespace naiad::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::Pointwise;

// Two texts: 5 7 2 and 9.
const std::vector<int64_t> kIds = {5, 7, 2, 9};
const std::vector<int64_t> kPositions = {0, 1, 2, 0};
const std::vector<int32_t> kCuSeqlens = {0, 3, 4};

Status RunOnce(const EncoderGraph& graph, const EncoderBatch& batch, std::vector<float>* values) {
  std::unique_ptr<EncoderRunner> runner;
  if (Status status = CreateEncoderRunner(LoadRuntime(), graph, kThreads, &runner); !status.ok()) return status;
  std::span<const float> output;
  if (Status status = runner->Run(batch, &output); !status.ok()) return status;
  values->assign(output.begin(), output.end());
  return Status::Ok();
}

TEST(EncoderRunnerTest, HiddenStatesFollowTheClosedForm) {
  const EncoderGraph graph{ModelsFolder() + "/embed/1/model.onnx", 64, 256, true, false, 4};
  const std::vector<int64_t> types = {0, 0, 1, 0};
  std::vector<float> values;
  const Status status = RunOnce(graph, {kIds, kPositions, types, kCuSeqlens}, &values);
  ASSERT_TRUE(status.ok()) << status.message();
  const std::vector<float> expected = {5, 0, 38, 0.5, 7, 1, 38, 0.5, 2, 2, 38, 2, 9, 0, 9, 0};
  EXPECT_THAT(values, Pointwise(::testing::FloatNear(1e-4F), expected));
}

TEST(EncoderRunnerTest, LogitsComeOneRowASequence) {
  const EncoderGraph graph{ModelsFolder() + "/classify/1/model.onnx", 64, 256, false, true, 3};
  std::vector<float> values;
  const Status status = RunOnce(graph, {kIds, kPositions, {}, kCuSeqlens}, &values);
  ASSERT_TRUE(status.ok()) << status.message();
  const std::vector<float> expected = {14.0F / 3, 5, -14.0F / 3, 9, 9, -9};
  EXPECT_THAT(values, Pointwise(::testing::FloatNear(1e-4F), expected));
}

TEST(EncoderRunnerTest, LogitsOfTokensComeOneRowAToken) {
  const EncoderGraph graph{ModelsFolder() + "/classify_tokens/1/model.onnx", 64, 256, false, false, 3, true};
  std::vector<float> values;
  const Status status = RunOnce(graph, {kIds, kPositions, {}, kCuSeqlens}, &values);
  ASSERT_TRUE(status.ok()) << status.message();
  const float mean = 14.0F / 3;
  const std::vector<float> expected = {mean, 5, -mean, mean, 7, -mean, mean, 2, -mean, 9, 9, -9};
  EXPECT_THAT(values, Pointwise(::testing::FloatNear(1e-4F), expected));
}

TEST(EncoderRunnerTest, GraphOfAnotherTaskIsRefusedByName) {
  const EncoderGraph graph{ModelsFolder() + "/embed/1/model.onnx", 64, 256, true, true, 3};
  std::unique_ptr<EncoderRunner> runner;
  const Status status = CreateEncoderRunner(LoadRuntime(), graph, kThreads, &runner);
  EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(status.message(), graph.graph_path + ": output logits is missing");
}

// Not under a sanitizer: its operator new ends the process where the real one throws.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// Pins how ONNX Runtime words it when memory runs out: that is all it gives to tell by.
TEST(EncoderRunnerTest, ExhaustedMemoryIsToldApartAndTheNextRunWorks) {
  const EncoderGraph graph{ModelsFolder() + "/greedy.onnx", 64, 256, false, false, 1};
  std::unique_ptr<EncoderRunner> runner;
  Status status = CreateEncoderRunner(LoadRuntime(), graph, kThreads, &runner);
  ASSERT_TRUE(status.ok()) << status.message();
  std::span<const float> output;
  const std::vector<int64_t> positions = {0};
  const std::vector<int32_t> cu_seqlens = {0, 1};
  const std::vector<int64_t> greedy = {1};
  status = runner->Run({greedy, positions, {}, cu_seqlens}, &output);
  EXPECT_EQ(status.code(), ErrorCode::kResourceExhausted) << status.message();
  const std::vector<int64_t> modest = {0};
  status = runner->Run({modest, positions, {}, cu_seqlens}, &output);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_THAT(std::vector<float>(output.begin(), output.end()), ElementsAre(0.0F));
}
#endif

}  // namespace
}  // namespace naiad::testing
