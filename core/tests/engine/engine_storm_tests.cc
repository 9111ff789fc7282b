// Random traffic: nothing leaks, and who is left alone gets the right tokens.
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "tests/engine/engine_test_doubles.h"

namespace naiad::testing {
namespace {

struct StormRequest {
  std::vector<int32_t> prompt;
  int32_t max_tokens = 0;
  Recordings recordings;
};

// Whatever a sequence got is the beginning of what it gets alone.
void ExpectBeginningOfGreedy(const StormRequest& request, int64_t memory_tokens) {
  for (const auto& recording : request.recordings) {
    const std::vector<int32_t> tokens = recording->tokens();
    EXPECT_EQ(tokens, ExpectedGreedy(request.prompt, static_cast<int32_t>(tokens.size()), memory_tokens));
    EXPECT_TRUE(recording->is_finished());
    if (recording->summary().reason == FinishReason::kLength) {
      EXPECT_TRUE(std::cmp_equal(tokens.size(), request.max_tokens));
    }
  }
}

// With all of the history in the logits, a wrong block anywhere shows; with the last token only, text soon repeats
// itself, so that drafts hold.
class EngineStormTest : public ::testing::TestWithParam<int64_t> {};

INSTANTIATE_TEST_SUITE_P(Memory, EngineStormTest, ::testing::Values(kWholeHistory, 1));

TEST_P(EngineStormTest, RandomOperationsLeakNothingAndDisturbNobody) {
  constexpr int32_t kOperations = 4000;
  EngineBench bench(EngineOptions{.max_step_tokens = 24, .max_active_requests = 8, .max_waiting_requests = 16}, 48,
                    160);
  std::mt19937 random(20240607);
  bench.log.before_run = [&](const PackedBatch&) {
    return random() % 200 == 0 ? Status::Internal("injected") : Status::Ok();
  };
  bench.log.memory_tokens = GetParam();
  const auto below = [&](uint32_t bound) { return static_cast<int32_t>(random() % bound); };
  // Every few requests the same prompt, or the beginning of it; of one to three sequences; of three priorities.
  const auto submit = [&](const std::string& id) {
    StormRequest request{MakePrompt(1 + below(70), below(6)), 1 + below(40), {}};
    const int32_t num_sequences = 1 + below(12) / 5;
    for (int32_t i = 0; i < num_sequences; ++i) request.recordings.push_back(std::make_shared<Recording>());
    GenerationRequest message = MakeRequest(id, request.prompt, request.max_tokens, request.recordings);
    message.num_sequences = num_sequences;
    message.priority = below(3);
    message.use_prefix_cache = below(10) > 0;
    return std::pair(bench.engine.Submit(std::move(message)), request);
  };
  std::vector<StormRequest> accepted;
  for (int32_t i = 0; i < kOperations; ++i) {
    const int32_t operation = below(10);
    if (operation < 4) {
      auto [status, request] = submit(std::to_string(accepted.size()));
      if (status.ok()) accepted.push_back(std::move(request));
    } else if (operation < 6 && !accepted.empty()) {
      const auto id = std::to_string(accepted.size() - 1 - static_cast<size_t>(below(10)) % accepted.size());
      bench.engine.Stop(id, below(3) == 0 ? std::optional(below(3)) : std::nullopt);
    } else if (operation == 6 && !accepted.empty()) {
      accepted[static_cast<size_t>(below(static_cast<uint32_t>(accepted.size())))].recordings.front()->is_abandoned =
          true;
    }
    bench.Step();
    ASSERT_FALSE(HasFailure()) << "operation " << i;
  }
  bench.RunUntilIdle();
  ASSERT_GT(accepted.size(), 300U);
  size_t sequences = 0;
  for (const StormRequest& request : accepted) {
    ExpectBeginningOfGreedy(request, GetParam());
    sequences += request.recordings.size();
  }
  int32_t finished = 0;
  for (const auto& [reason, count] : bench.observer.finished) {
    EXPECT_GT(count, 0) << FinishReasonName(reason);
    finished += count;
  }
  EXPECT_TRUE(std::cmp_equal(finished, sequences)) << "started and finished balance";
  EXPECT_GT(bench.observer.preemptions, 0);
  EXPECT_GT(bench.log.copied_blocks, 0);
  StepStats sum;
  for (const StepStats& step : bench.observer.steps) {
    sum.cached_prompt_tokens += step.cached_prompt_tokens;
    sum.accepted_draft_tokens += step.accepted_draft_tokens;
    sum.draft_tokens += step.draft_tokens;
  }
  EXPECT_GT(sum.cached_prompt_tokens, 0);
  EXPECT_EQ(sum.accepted_draft_tokens > 0, GetParam() == 1);
  EXPECT_EQ(bench.observer.finished.size(), 3U) << "length, cancelled and error all happened";
  EXPECT_EQ(bench.observer.last_load.running, 0);
  EXPECT_EQ(bench.observer.last_load.waiting, 0);
}

}  // namespace
}  // namespace naiad::testing
