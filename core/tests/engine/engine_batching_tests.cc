// What a request gets does not depend on its neighbours or on how the steps are cut.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "tests/engine/engine_test_doubles.h"

namespace naiad::testing {
namespace {

struct Job {
  std::vector<int32_t> prompt;
  int32_t max_tokens = 0;
  SamplingOptions sampling;
};

// Greedy and sampled, shorter and longer than blocks and step budgets, lengths around block boundaries.
std::vector<Job> MakeJobs() {
  std::vector<Job> jobs;
  for (int32_t i = 0; i < 24; ++i) {
    Job job{.prompt = MakePrompt(1 + (i * i * 3) % 61, i), .max_tokens = 1 + (i * 5) % 23, .sampling = {}};
    if (i % 2 == 1) {
      job.sampling = {.temperature = 0.5F + 0.25F * static_cast<float>(i % 5),
                      .top_k = i % 3 == 0 ? 20 : 0,
                      .top_p = i % 4 == 1 ? 0.9F : 1.0F,
                      .min_p = i % 5 == 1 ? 0.05F : 0.0F,
                      .repetition_penalty = i % 7 == 1 ? 1.3F : 1.0F,
                      .presence_penalty = 0.0F,
                      .frequency_penalty = i % 7 == 3 ? 0.5F : 0.0F,
                      .seed = static_cast<uint64_t>(i / 4),
                      .logit_bias = {}};
    }
    jobs.push_back(job);
  }
  return jobs;
}

std::shared_ptr<Recording> SubmitJob(EngineBench& bench, const Job& job, const std::string& id) {
  return bench.Submit(id, job.prompt, job.max_tokens,
                      [&](GenerationRequest& request) { request.sampling = job.sampling; });
}

std::vector<std::vector<int32_t>> RunAlone(const std::vector<Job>& jobs) {
  std::vector<std::vector<int32_t>> results;
  for (const Job& job : jobs) {
    EngineBench bench;
    const auto recording = SubmitJob(bench, job, "alone");
    bench.RunUntilIdle();
    results.push_back(recording->tokens());
  }
  return results;
}

void ExpectTokens(const std::vector<std::shared_ptr<Recording>>& recordings,
                  const std::vector<std::vector<int32_t>>& expected) {
  for (size_t i = 0; i < recordings.size(); ++i) EXPECT_EQ(recordings[i]->tokens(), expected[i]) << "job " << i;
}

class EngineBatchingTest : public ::testing::Test {
 protected:
  const std::vector<Job> jobs_ = MakeJobs();
  const std::vector<std::vector<int32_t>> alone_ = RunAlone(jobs_);
};

TEST_F(EngineBatchingTest, AloneGivesTheClosedFormAnswer) {
  for (size_t i = 0; i < jobs_.size(); i += 2) {
    EXPECT_EQ(alone_[i], ExpectedGreedy(jobs_[i].prompt, jobs_[i].max_tokens));
  }
}

TEST_F(EngineBatchingTest, BatchedAtAnyStepBudgetEqualsAlone) {
  for (const int32_t max_step_tokens : {2, 3, 5, 16, 17, 64, 512}) {
    EngineBench bench(EngineOptions{.max_step_tokens = max_step_tokens});
    std::vector<std::shared_ptr<Recording>> recordings;
    for (size_t i = 0; i < jobs_.size(); ++i) recordings.push_back(SubmitJob(bench, jobs_[i], std::to_string(i)));
    bench.RunUntilIdle();
    ExpectTokens(recordings, alone_);
    for (const int32_t tokens : bench.log.step_tokens) EXPECT_LE(tokens, max_step_tokens);
  }
}

TEST_F(EngineBatchingTest, BatchedWithFewSlotsOrFewBlocksEqualsAlone) {
  for (const auto& [max_active, num_blocks] : {std::pair{1, 256}, std::pair{3, 256}, std::pair{64, 22}}) {
    EngineBench bench(EngineOptions{.max_step_tokens = 16, .max_active_requests = max_active}, num_blocks);
    std::vector<std::shared_ptr<Recording>> recordings;
    for (size_t i = 0; i < jobs_.size(); ++i) recordings.push_back(SubmitJob(bench, jobs_[i], std::to_string(i)));
    bench.RunUntilIdle();
    ExpectTokens(recordings, alone_);
    for (const StepStats& step : bench.observer.steps) EXPECT_LE(step.sequences, max_active);
  }
}

TEST_F(EngineBatchingTest, StaggeredArrivalEqualsAlone) {
  EngineBench bench(EngineOptions{.max_step_tokens = 24});
  std::vector<std::shared_ptr<Recording>> recordings;
  for (size_t i = 0; i < jobs_.size(); ++i) {
    recordings.push_back(SubmitJob(bench, jobs_[i], std::to_string(i)));
    for (size_t steps = 0; steps < i % 4; ++steps) bench.Step();
  }
  bench.RunUntilIdle();
  ExpectTokens(recordings, alone_);
}

TEST_F(EngineBatchingTest, SurvivorsOfStoppedNeighboursEqualAlone) {
  EngineBench bench(EngineOptions{.max_step_tokens = 40}, 60);
  std::vector<std::shared_ptr<Recording>> recordings;
  for (size_t i = 0; i < jobs_.size(); ++i) {
    recordings.push_back(SubmitJob(bench, jobs_[i], std::to_string(i)));
    bench.Submit(NumberedId("neighbour", i), MakePrompt(15, 100 + static_cast<int32_t>(i)), 40);
    bench.Step();
    if (i >= 2) bench.engine.Stop(NumberedId("neighbour", i - 2));
  }
  bench.RunUntilIdle();
  ExpectTokens(recordings, alone_);
  EXPECT_GT(bench.observer.finished[FinishReason::kCancelled], 15);
}

TEST_F(EngineBatchingTest, AnotherSeedGivesOtherTokens) {
  EngineBench bench;
  const Job job{.prompt = MakePrompt(5, 1), .max_tokens = 20, .sampling = {}};
  Job first = job;
  first.sampling.temperature = 5.0F;
  Job second = first;
  second.sampling.seed = 1;
  const auto a = SubmitJob(bench, first, "a");
  const auto b = SubmitJob(bench, second, "b");
  bench.RunUntilIdle();
  EXPECT_NE(a->tokens(), b->tokens());
}

TEST(EngineFairnessTest, ALongPromptDoesNotStallStreamsNorTheyTheLongPrompt) {
  EngineBench bench(EngineOptions{.max_step_tokens = 8});
  std::vector<std::shared_ptr<Recording>> streams;
  for (int32_t i = 0; i < 6; ++i)
    streams.push_back(bench.Submit(NumberedId("stream", static_cast<size_t>(i)), MakePrompt(1, i), 60));
  bench.Step();
  const auto newcomer = bench.Submit("long", MakePrompt(80, 9), 2);
  int32_t steps = 0;
  while (newcomer->tokens().empty()) {
    const size_t before = streams[0]->tokens().size();
    ASSERT_TRUE(bench.Step());
    EXPECT_EQ(streams[0]->tokens().size(), before + 1);
    ++steps;
  }
  EXPECT_LE(steps, 42) << "two tokens of each step are the newcomer's, but for one in 32 that decodes alone";
}

TEST(EngineFairnessTest, MoreStreamsThanTheStepHoldsTakeTurns) {
  constexpr size_t kStreams = 12;
  EngineBench bench(EngineOptions{.max_step_tokens = 4}, 512);
  std::vector<std::shared_ptr<Recording>> streams;
  for (size_t i = 0; i < kStreams; ++i) streams.push_back(bench.Submit(NumberedId("stream", i), MakePrompt(1, 1), 100));
  const auto all_decode = [&] {
    return std::ranges::all_of(streams, [](const auto& stream) { return !stream->tokens().empty(); });
  };
  while (!all_decode()) ASSERT_TRUE(bench.Step());
  std::vector<size_t> before;
  for (const auto& stream : streams) before.push_back(stream->tokens().size());
  for (int32_t i = 0; i < 30; ++i) bench.Step();
  for (size_t i = 0; i < kStreams; ++i) EXPECT_EQ(streams[i]->tokens().size() - before[i], 10U) << i;
}

TEST(EngineFairnessTest, ALargeRequestIsNotOvertakenForEver) {
  EngineBench bench({}, 20);
  bench.Submit("running", MakePrompt(20, 1), 20);
  bench.Step();
  const auto large = bench.Submit("large", MakePrompt(60, 2), 20);
  const auto small = bench.Submit("small", MakePrompt(1, 3), 1);
  bench.Step();
  EXPECT_TRUE(small->tokens().empty()) << "it came after the large one, which does not fit yet";
  bench.RunUntilIdle();
  EXPECT_EQ(large->tokens(), ExpectedGreedy(MakePrompt(60, 2), 20));
  EXPECT_TRUE(small->is_finished());
}

}  // namespace
}  // namespace naiad::testing
