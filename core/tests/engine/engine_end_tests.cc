// Ends that are not natural: stop, nobody waiting, failure, shutdown.
#include <gtest/gtest.h>

#include <limits>
#include <new>
#include <string>

#include "tests/engine/engine_test_doubles.h"

namespace naiad::testing {
namespace {

void ExpectCancelled(const Recording& recording, int32_t completion_tokens) {
  ASSERT_TRUE(recording.is_finished());
  EXPECT_EQ(recording.summary().reason, FinishReason::kCancelled);
  EXPECT_TRUE(recording.summary().error.ok());
  EXPECT_EQ(recording.summary().completion_tokens, completion_tokens);
}

TEST(EngineStopTest, StopsARequestThatTheEngineHasNotSeenYet) {
  EngineBench bench;
  const auto recording = bench.Submit("a", MakePrompt(5, 1), 5);
  bench.engine.Stop("a");
  EXPECT_TRUE(bench.Step());
  ExpectCancelled(*recording, 0);
  EXPECT_EQ(bench.log.runs, 0);
  EXPECT_FALSE(bench.Step());
}

TEST(EngineStopTest, StopsAWaitingRequestAndFreesItsPlaceInTheQueue) {
  EngineBench bench(EngineOptions{.max_active_requests = 1, .max_waiting_requests = 1});
  const auto running = bench.Submit("a", MakePrompt(5, 1), 5);
  bench.Step();
  const auto waiting = bench.Submit("b", MakePrompt(5, 2), 5);
  bench.Step();
  bench.engine.Stop("b");
  bench.Step();
  ExpectCancelled(*waiting, 0);
  const auto next = bench.Submit("c", MakePrompt(5, 3), 5);
  bench.RunUntilIdle();
  EXPECT_EQ(running->tokens(), ExpectedGreedy(MakePrompt(5, 1), 5));
  EXPECT_EQ(next->tokens(), ExpectedGreedy(MakePrompt(5, 3), 5));
}

TEST(EngineStopTest, StopsInTheMiddleOfPrefill) {
  EngineBench bench(EngineOptions{.max_step_tokens = 4});
  const auto recording = bench.Submit("a", MakePrompt(50, 1), 5);
  bench.Step();
  bench.Step();
  bench.engine.Stop("a");
  bench.Step();
  ExpectCancelled(*recording, 0);
  bench.ExpectNoBlockHeld();
}

TEST(EngineStopTest, StopsInTheMiddleOfDecodingWithTheTokensSoFarDelivered) {
  EngineBench bench;
  const auto recording = bench.Submit("a", MakePrompt(5, 1), 50);
  for (int32_t i = 0; i < 3; ++i) bench.Step();
  bench.engine.Stop("a");
  bench.Step();
  ExpectCancelled(*recording, 3);
  EXPECT_EQ(recording->tokens(), ExpectedGreedy(MakePrompt(5, 1), 3));
  bench.ExpectNoBlockHeld();
}

TEST(EngineStopTest, AStopAfterTheEndOrOfAnUnknownIdHasNoEffect) {
  EngineBench bench;
  const auto first = bench.Submit("a", MakePrompt(5, 1), 1);
  bench.RunUntilIdle();
  bench.engine.Stop("a");
  bench.engine.Stop("never heard of");
  const auto second = bench.Submit("a", MakePrompt(5, 1), 2);
  bench.RunUntilIdle();
  EXPECT_EQ(first->summary().reason, FinishReason::kLength);
  EXPECT_EQ(second->summary().reason, FinishReason::kLength);
}

TEST(EngineStopTest, AbandonedRequestsEndWhereverTheyAre) {
  EngineBench bench(EngineOptions{.max_step_tokens = 8, .max_active_requests = 2});
  const auto decoding = bench.Submit("a", MakePrompt(2, 1), 50);
  bench.Step();
  const auto prefilling = bench.Submit("b", MakePrompt(50, 2), 50);
  const auto waiting = bench.Submit("c", MakePrompt(5, 3), 50);
  bench.Step();
  decoding->is_abandoned = prefilling->is_abandoned = waiting->is_abandoned = true;
  bench.Step();
  ExpectCancelled(*decoding, 2);
  ExpectCancelled(*prefilling, 0);
  ExpectCancelled(*waiting, 0);
  bench.ExpectNoBlockHeld();
  EXPECT_FALSE(bench.Step());
}

TEST(EngineDeadlineTest, RequestsPastTheirDeadlineEndWhereverTheyAre) {
  EngineBench bench(EngineOptions{.max_step_tokens = 8, .max_active_requests = 2});
  const auto with_deadline = [](GenerationRequest& request) {
    request.deadline = Clock::now() + std::chrono::hours(1);
  };
  const auto decoding = bench.Submit("a", MakePrompt(2, 1), 50, with_deadline);
  bench.Step();
  const auto prefilling = bench.Submit("b", MakePrompt(50, 2), 50, with_deadline);
  const auto waiting = bench.Submit("c", MakePrompt(5, 3), 50, with_deadline);
  const auto patient = bench.Submit("d", MakePrompt(5, 4), 3);
  bench.Step();
  EXPECT_FALSE(decoding->is_finished() || prefilling->is_finished() || waiting->is_finished());
  bench.log.spent += std::chrono::hours(1);
  bench.Step();
  for (const auto& recording : {decoding, prefilling, waiting}) {
    ASSERT_TRUE(recording->is_finished());
    EXPECT_EQ(recording->summary().reason, FinishReason::kError);
    EXPECT_EQ(recording->summary().error.code(), ErrorCode::kDeadlineExceeded);
  }
  EXPECT_EQ(decoding->tokens(), ExpectedGreedy(MakePrompt(2, 1), 2)) << "what came in time was delivered";
  bench.RunUntilIdle();
  EXPECT_EQ(patient->tokens(), ExpectedGreedy(MakePrompt(5, 4), 3));
}

TEST(EngineDeadlineTest, ALateRequestIsNeverRun) {
  EngineBench bench;
  const auto late =
      bench.Submit("a", MakePrompt(5, 1), 5, [](GenerationRequest& request) { request.deadline = Clock::now(); });
  bench.RunUntilIdle();
  EXPECT_EQ(late->summary().error.code(), ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(bench.log.runs, 0);
  bench.ExpectNoBlockHeld();
}

TEST(EngineFailureTest, AFailedRunEndsOnlyTheRequestsInThatStep) {
  EngineBench bench(EngineOptions{.max_step_tokens = 4});
  std::vector<std::shared_ptr<Recording>> streams;
  for (int32_t i = 0; i < 6; ++i)
    streams.push_back(bench.Submit(NumberedId("stream", static_cast<size_t>(i)), MakePrompt(1, i), 30));
  for (int32_t i = 0; i < 4; ++i) bench.Step();
  int32_t failed_sequences = 0;
  bench.log.before_run = [&](const PackedBatch& batch) {
    failed_sequences = static_cast<int32_t>(batch.past_lens.size());
    return Status::ResourceExhausted("out of memory");
  };
  bench.Step();
  bench.log.before_run = [](const PackedBatch&) { return Status::Ok(); };
  bench.RunUntilIdle();
  int32_t failed = 0;
  for (int32_t i = 0; i < 6; ++i) {
    const FinishedSummary summary = streams[static_cast<size_t>(i)]->summary();
    if (summary.reason == FinishReason::kError) {
      ++failed;
      EXPECT_EQ(summary.error.code(), ErrorCode::kResourceExhausted);
      EXPECT_EQ(summary.error.message(), "out of memory");
    } else {
      EXPECT_EQ(streams[static_cast<size_t>(i)]->tokens(), ExpectedGreedy(MakePrompt(1, i), 30));
    }
  }
  EXPECT_EQ(failed, failed_sequences);
  EXPECT_EQ(failed, 4) << "the step holds 4 of the 6";
}

TEST(EngineFailureTest, TheEngineServesNewRequestsAfterAFailure) {
  EngineBench bench;
  const auto first = bench.Submit("a", MakePrompt(9, 1), 5);
  bench.log.before_run = [](const PackedBatch&) { return Status::Internal("broken"); };
  bench.Step();
  EXPECT_EQ(first->summary().reason, FinishReason::kError);
  bench.ExpectNoBlockHeld();
  bench.log.before_run = [](const PackedBatch&) { return Status::Ok(); };
  const auto second = bench.Submit("a", MakePrompt(9, 1), 5);
  bench.RunUntilIdle();
  EXPECT_EQ(second->tokens(), ExpectedGreedy(MakePrompt(9, 1), 5));
  EXPECT_EQ(bench.observer.finished[FinishReason::kError], 1);
}

// A model that answers what it is told to.
class ScriptedModel final : public ModelRunner {
 public:
  explicit ScriptedModel(std::vector<float> answer) : answer_(std::move(answer)) {}
  const DecoderShape& shape() const override { return shape_; }
  Status CopyBlocks(std::span<const BlockCopy> /*copies*/) override { return Status::Ok(); }
  Status Run(const PackedBatch& /*batch*/, std::span<float>* logits) override {
    *logits = answer_;
    return Status::Ok();
  }

 private:
  const DecoderShape shape_{.vocabulary_size = 4, .context_length_tokens = 64, .num_blocks = 8, .block_tokens = 4};
  std::vector<float> answer_;
};

FinishedSummary SummaryWithAnswer(std::vector<float> answer, float temperature) {
  RecordingObserver observer;
  Engine engine({}, std::make_unique<ScriptedModel>(std::move(answer)), observer);
  auto recording = std::make_shared<Recording>();
  GenerationRequest request = MakeRequest("a", {1, 2}, 3, recording);
  request.sampling.temperature = temperature;
  EXPECT_TRUE(engine.Submit(std::move(request)).ok());
  engine.Step();
  EXPECT_TRUE(recording->is_finished());
  return recording->summary();
}

TEST(EngineFailureTest, LogitsThatAreNotNumbersEndTheRequest) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  for (const float temperature : {0.0F, 1.0F}) {
    const FinishedSummary summary = SummaryWithAnswer({kNan, kNan, kNan, kNan}, temperature);
    EXPECT_EQ(summary.error.code(), ErrorCode::kInternal);
    EXPECT_EQ(summary.error.message(), "no token has a finite logit after 0 new tokens");
  }
}

TEST(EngineFailureTest, AWrongNumberOfLogitsEndsTheRequest) {
  const FinishedSummary summary = SummaryWithAnswer({1, 2, 3}, 0.0F);
  EXPECT_EQ(summary.error.code(), ErrorCode::kInternal);
  EXPECT_EQ(summary.error.message(), "the model gave 3 logits; 4 were asked for");
}

TEST(EngineShutdownTest, EndsEveryLiveRequestOnceAndRefusesNewOnes) {
  EngineBench bench(EngineOptions{.max_step_tokens = 8, .max_active_requests = 2});
  std::vector<std::shared_ptr<Recording>> live;
  live.push_back(bench.Submit("decoding", MakePrompt(2, 1), 50));
  bench.Step();
  live.push_back(bench.Submit("prefilling", MakePrompt(50, 2), 50));
  live.push_back(bench.Submit("waiting", MakePrompt(5, 3), 50));
  bench.Step();
  live.push_back(bench.Submit("unseen", MakePrompt(5, 4), 50));
  bench.engine.Shutdown();
  bench.engine.Shutdown();
  for (const auto& recording : live) {
    ASSERT_TRUE(recording->is_finished());
    EXPECT_EQ(recording->summary().reason, FinishReason::kError);
    EXPECT_EQ(recording->summary().error.code(), ErrorCode::kUnavailable);
  }
  bench.ExpectNoBlockHeld();
  EXPECT_EQ(bench.engine.Submit(MakeRequest("late", {1}, 1, std::make_shared<Recording>())).code(),
            ErrorCode::kUnavailable);
  EXPECT_EQ(bench.observer.rejected[ErrorCode::kUnavailable], 1);
}

TEST(EngineFailureTest, MemoryThatRunsOutInAStepFailsOnlyTheRequestsOfThatStep) {
  EngineBench bench(EngineOptions{.max_active_requests = 1});
  int32_t runs = 0;
  bench.log.before_run = [&](const PackedBatch&) -> Status {
    if (++runs == 3) throw std::bad_alloc();
    return Status::Ok();
  };
  const auto first = bench.Submit("first", MakePrompt(5, 1), 6);
  const auto second = bench.Submit("second", MakePrompt(5, 2), 6);
  bench.RunUntilIdle();
  EXPECT_EQ(first->summary().error.code(), ErrorCode::kResourceExhausted);
  EXPECT_EQ(first->tokens(), ExpectedGreedy(MakePrompt(5, 1), 2));
  EXPECT_EQ(second->tokens(), ExpectedGreedy(MakePrompt(5, 2), 6));
}

}  // namespace
}  // namespace naiad::testing
