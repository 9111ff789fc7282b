#include "encoder/encoder_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <latch>
#include <numeric>
#include <thread>

#include "encoder_doubles.h"

namespace naiad::testing {
namespace {

using ::testing::ElementsAre;

constexpr EncoderShape kTokenModel{100, 16, true, false, 2};
constexpr EncoderShape kSequenceModel{100, 16, false, true, 2};
constexpr EncoderShape kTokenLogitsModel{100, 16, true, false, 2, true};

struct Submission {
  EncoderRequest request;
  std::shared_ptr<Outcome> outcome;
};

// Texts of the given lengths, of tokens 1, 2, 3, ...
Submission MakeSubmission(std::vector<int32_t> lengths, EncoderOutput output) {
  Submission submission;
  submission.outcome = std::make_shared<Outcome>();
  submission.request.input_ids.resize(static_cast<size_t>(std::accumulate(lengths.begin(), lengths.end(), 0)));
  std::iota(submission.request.input_ids.begin(), submission.request.input_ids.end(), 1);
  submission.request.sequence_lengths = std::move(lengths);
  submission.request.output = output;
  submission.request.sink = std::make_unique<OutcomeSink>(submission.outcome);
  return submission;
}

class EncoderEngineTest : public ::testing::Test {
 protected:
  void Make(const EncoderShape& shape, EncoderEngineOptions options) {
    auto runner = std::make_unique<FakeRunner>(shape);
    runner_ = runner.get();
    engine_ = std::make_unique<EncoderEngine>(options, std::move(runner), observer_);
  }
  std::shared_ptr<Outcome> Submit(std::vector<int32_t> lengths, EncoderOutput output) {
    Submission submission = MakeSubmission(std::move(lengths), output);
    const Status status = engine_->Submit(std::move(submission.request));
    EXPECT_TRUE(status.ok()) << status.message();
    return submission.outcome;
  }
  void StepUntilIdle() {
    while (engine_->Step()) {
    }
  }

  RecordingObserver observer_;
  std::unique_ptr<EncoderEngine> engine_;
  FakeRunner* runner_ = nullptr;
};

TEST_F(EncoderEngineTest, SmallRequestsShareOneRun) {
  Make(kSequenceModel, {16, 8});
  const auto a = Submit({2}, EncoderOutput::kLogits);
  const auto b = Submit({3, 1}, EncoderOutput::kLogits);
  StepUntilIdle();
  EXPECT_THAT(runner_->runs, ElementsAre(ElementsAre(2, 3, 1)));
  EXPECT_THAT(a->result().values, ElementsAre(3, 2));
  EXPECT_THAT(b->result().values, ElementsAre(6, 3, 4, 1));
  EXPECT_EQ(b->result().rows, 2);
  EXPECT_EQ(b->result().width, 2);
}

TEST_F(EncoderEngineTest, LateRequestsAreNotRun) {
  Make(kSequenceModel, {16, 8});
  Submission late = MakeSubmission({4}, EncoderOutput::kLogits);
  late.request.deadline = Clock::now();
  ASSERT_TRUE(engine_->Submit(std::move(late.request)).ok());
  EXPECT_TRUE(engine_->Step()) << "it has something to say";
  EXPECT_EQ(late.outcome->status().code(), ErrorCode::kDeadlineExceeded);
  EXPECT_TRUE(runner_->runs.empty());
  Submission early = MakeSubmission({4}, EncoderOutput::kLogits);
  early.request.deadline = Clock::now() + std::chrono::hours(1);
  ASSERT_TRUE(engine_->Submit(std::move(early.request)).ok());
  StepUntilIdle();
  EXPECT_EQ(early.outcome->result().rows, 1);
}

TEST_F(EncoderEngineTest, TheRestOfARequestIsNotRunAfterItsDeadline) {
  Make(kSequenceModel, {4, 8});
  Submission submission = MakeSubmission({4, 4}, EncoderOutput::kLogits);
  submission.request.deadline = Clock::now() + std::chrono::milliseconds(50);
  runner_->before_run = [deadline = *submission.request.deadline] { std::this_thread::sleep_until(deadline); };
  ASSERT_TRUE(engine_->Submit(std::move(submission.request)).ok());
  StepUntilIdle();
  EXPECT_EQ(runner_->runs.size(), 1U);
  EXPECT_EQ(submission.outcome->status().code(), ErrorCode::kDeadlineExceeded);
}

TEST_F(EncoderEngineTest, AStoppedRequestThatWaitsIsNotRunAndOthersAre) {
  Make(kSequenceModel, {16, 8});
  Submission stopped = MakeSubmission({4}, EncoderOutput::kLogits);
  stopped.request.id = "stopped";
  ASSERT_TRUE(engine_->Submit(std::move(stopped.request)).ok());
  const auto other = Submit({2}, EncoderOutput::kLogits);
  engine_->Stop("never heard of");
  engine_->Stop("");
  engine_->Stop("stopped");
  StepUntilIdle();
  EXPECT_EQ(stopped.outcome->status().code(), ErrorCode::kCancelled);
  EXPECT_EQ(stopped.outcome->calls(), 1);
  EXPECT_THAT(runner_->runs, ElementsAre(ElementsAre(2)));
  EXPECT_EQ(other->result().rows, 1);
  EXPECT_EQ(observer_.finished.size(), 2U);
}

TEST_F(EncoderEngineTest, RequestOfManyTextsIsSpreadOverRunsAndPutTogetherInOrder) {
  Make(kTokenModel, {5, 8});
  const auto a = Submit({3, 2, 4, 1, 5}, EncoderOutput::kHiddenStates);
  StepUntilIdle();
  EXPECT_THAT(runner_->runs, ElementsAre(ElementsAre(3, 2), ElementsAre(4, 1), ElementsAre(5)));
  EXPECT_EQ(a->calls(), 1);
  ASSERT_EQ(a->result().rows, 15);
  for (size_t t = 0; t < 15; ++t) EXPECT_EQ(a->result().values[2 * t], static_cast<float>(t + 1));
}

TEST_F(EncoderEngineTest, LogitsOfTokensComeBackARowATokenFromRunsThatAreShared) {
  Make(kTokenLogitsModel, {5, 8});
  const auto a = Submit({3, 1}, EncoderOutput::kTokenLogits);
  const auto b = Submit({1, 2}, EncoderOutput::kTokenLogits);
  StepUntilIdle();
  EXPECT_THAT(runner_->runs, ElementsAre(ElementsAre(3, 1, 1), ElementsAre(2)));
  EXPECT_EQ(a->result().rows, 4);
  EXPECT_THAT(a->result().values, ElementsAre(1, 0, 2, 1, 3, 2, 4, 0));
  EXPECT_EQ(b->result().rows, 3);
  EXPECT_THAT(b->result().values, ElementsAre(1, 0, 2, 0, 3, 1));
}

TEST_F(EncoderEngineTest, RestOfASplitRequestSharesItsRunWithTheNextOne) {
  Make(kSequenceModel, {6, 8});
  const auto a = Submit({4, 4}, EncoderOutput::kLogits);
  const auto b = Submit({2}, EncoderOutput::kLogits);
  EXPECT_TRUE(engine_->Step());
  EXPECT_EQ(a->calls(), 0);
  EXPECT_TRUE(engine_->Step());
  EXPECT_THAT(runner_->runs, ElementsAre(ElementsAre(4), ElementsAre(4, 2)));
  EXPECT_EQ(a->calls(), 1);
  EXPECT_EQ(b->calls(), 1);
  EXPECT_FALSE(engine_->Step());
}

TEST_F(EncoderEngineTest, TextLongerThanTheBudgetRunsAlone) {
  Make(kSequenceModel, {4, 8});
  Submit({1}, EncoderOutput::kLogits);
  Submit({9}, EncoderOutput::kLogits);
  Submit({1}, EncoderOutput::kLogits);
  StepUntilIdle();
  EXPECT_THAT(runner_->runs, ElementsAre(ElementsAre(1), ElementsAre(9), ElementsAre(1)));
}

TEST_F(EncoderEngineTest, EmbeddingsArePooledEachTextByItself) {
  Make(kTokenModel, {16, 8});
  Submission mean = MakeSubmission({2, 4}, EncoderOutput::kEmbeddings);
  Submission max = MakeSubmission({2, 4}, EncoderOutput::kEmbeddings);
  max.request.pooling = Pooling::kMax;
  ASSERT_TRUE(engine_->Submit(std::move(mean.request)).ok());
  ASSERT_TRUE(engine_->Submit(std::move(max.request)).ok());
  StepUntilIdle();
  EXPECT_THAT(mean.outcome->result().values, ElementsAre(1.5, 0.5, 4.5, 1.5));
  EXPECT_THAT(max.outcome->result().values, ElementsAre(2, 1, 6, 3));
}

TEST_F(EncoderEngineTest, TokenTypesReachTheModelAndDefaultToZero) {
  Make(kTokenModel, {16, 8});
  Submission with = MakeSubmission({2}, EncoderOutput::kHiddenStates);
  with.request.token_type_ids = {0, 1};
  ASSERT_TRUE(engine_->Submit(std::move(with.request)).ok());
  const auto without = Submit({2}, EncoderOutput::kHiddenStates);
  StepUntilIdle();
  EXPECT_THAT(with.outcome->result().values, ElementsAre(1, 0, 2, 1001));
  EXPECT_THAT(without->result().values, ElementsAre(1, 0, 2, 1));
}

TEST_F(EncoderEngineTest, FullInboxRefusesAndLeavesTheRequestAsItWas) {
  Make(kSequenceModel, {16, 2});
  Submit({1}, EncoderOutput::kLogits);
  Submit({1}, EncoderOutput::kLogits);
  Submission third = MakeSubmission({1}, EncoderOutput::kLogits);
  EXPECT_EQ(engine_->Submit(std::move(third.request)).code(), ErrorCode::kResourceExhausted);
  EXPECT_THAT(observer_.rejected, ElementsAre(ErrorCode::kResourceExhausted));
  EXPECT_EQ(third.outcome->calls(), 0);
  StepUntilIdle();
  EXPECT_TRUE(engine_->Submit(std::move(third.request)).ok());
  StepUntilIdle();
  EXPECT_TRUE(third.outcome->status().ok());
}

TEST_F(EncoderEngineTest, FailedRunFailsItsRequestsAndNoOthers) {
  Make(kSequenceModel, {4, 8});
  const auto a = Submit({2}, EncoderOutput::kLogits);
  const auto b = Submit({2, 3}, EncoderOutput::kLogits);
  const auto c = Submit({4}, EncoderOutput::kLogits);
  runner_->next_status = Status::ResourceExhausted("no memory");
  StepUntilIdle();
  EXPECT_EQ(a->status().code(), ErrorCode::kResourceExhausted);
  EXPECT_EQ(b->status().message(), "no memory");
  EXPECT_EQ(b->calls(), 1);
  EXPECT_TRUE(c->status().ok());
  ASSERT_EQ(observer_.finished.size(), 3U);
  EXPECT_EQ(observer_.finished[0].reason, FinishReason::kError);
  EXPECT_EQ(observer_.finished[2].reason, FinishReason::kStop);
}

TEST_F(EncoderEngineTest, ObserverSeesStepsLoadAndSummaries) {
  Make(kSequenceModel, {4, 8});
  Submit({3}, EncoderOutput::kLogits);
  Submit({4}, EncoderOutput::kLogits);
  EXPECT_TRUE(engine_->Step());
  ASSERT_EQ(observer_.steps.size(), 1U);
  EXPECT_EQ(observer_.steps[0].tokens, 3);
  EXPECT_EQ(observer_.steps[0].sequences, 1);
  EXPECT_EQ(observer_.loads.back().waiting, 1);
  EXPECT_EQ(observer_.finished.back().prompt_tokens, 3);
  EXPECT_TRUE(engine_->Step());
  EXPECT_EQ(observer_.loads.back().waiting, 0);
  EXPECT_EQ(observer_.loads.back().running, 0);
}

TEST_F(EncoderEngineTest, ShutdownEndsWhatWaitsAndRefusesWhatComes) {
  Make(kSequenceModel, {4, 8});
  const auto started = Submit({4, 4}, EncoderOutput::kLogits);
  const auto waiting = Submit({1}, EncoderOutput::kLogits);
  EXPECT_TRUE(engine_->Step());
  engine_->Shutdown();
  engine_->Shutdown();
  EXPECT_EQ(started->status().code(), ErrorCode::kUnavailable);
  EXPECT_EQ(waiting->status().code(), ErrorCode::kUnavailable);
  EXPECT_EQ(started->calls(), 1);
  Submission late = MakeSubmission({1}, EncoderOutput::kLogits);
  EXPECT_EQ(engine_->Submit(std::move(late.request)).code(), ErrorCode::kUnavailable);
  EXPECT_EQ(late.outcome->calls(), 0);
}

TEST_F(EncoderEngineTest, ShutdownDuringARunLetsItEndAndSkipsTheRest) {
  Make(kSequenceModel, {4, 8});
  std::latch running(1);
  std::latch go_on(1);
  runner_->before_run = [&] {
    running.count_down();
    go_on.wait();
  };
  engine_->Start();
  const auto in_run = Submit({4}, EncoderOutput::kLogits);
  running.wait();
  const auto waiting = Submit({4}, EncoderOutput::kLogits);
  std::thread shutdown([&] { engine_->Shutdown(); });
  // Shutdown has closed the inbox once it refuses; only then may the run go on.
  Submission probe = MakeSubmission({1}, EncoderOutput::kLogits);
  while (engine_->Submit(std::move(probe.request)).code() != ErrorCode::kUnavailable) {
    probe = MakeSubmission({1}, EncoderOutput::kLogits);
    std::this_thread::yield();
  }
  go_on.count_down();
  shutdown.join();
  EXPECT_TRUE(in_run->status().ok());
  EXPECT_EQ(waiting->status().code(), ErrorCode::kUnavailable);
  EXPECT_EQ(runner_->runs.size(), 1U);
}

TEST_F(EncoderEngineTest, ManyThreadsEachGetTheirOwnResultsOnce) {
  Make(kTokenModel, {32, 1000});
  engine_->Start();
  constexpr int kThreads = 8;
  constexpr int kRequests = 50;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < kRequests; ++i) {
        const auto length = static_cast<int32_t>(1 + (thread * 7 + i) % 16);
        const auto outcome = Submit({length, 1, length}, EncoderOutput::kEmbeddings);
        outcome->Wait();
        ASSERT_TRUE(outcome->status().ok());
        const float first_mean = static_cast<float>(1 + length) / 2.0F;
        ASSERT_THAT(outcome->result().values,
                    ElementsAre(first_mean, static_cast<float>(length - 1) / 2.0F, static_cast<float>(length + 1), 0.0F,
                                static_cast<float>(length + 1) + first_mean, static_cast<float>(length - 1) / 2.0F));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  engine_->Shutdown();
  EXPECT_EQ(observer_.finished.size(), size_t{kThreads} * kRequests);
}

}  // namespace
}  // namespace naiad::testing
