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
  std::shared_ptr<Recording> recording;
};

// Whatever a request got is the beginning of what it gets alone.
void ExpectPrefixOfGreedy(const StormRequest& request) {
  const std::vector<int32_t> tokens = request.recording->tokens();
  const std::vector<int32_t> expected = ExpectedGreedy(request.prompt, static_cast<int32_t>(tokens.size()));
  EXPECT_EQ(tokens, expected);
  EXPECT_TRUE(request.recording->is_finished());
  if (request.recording->summary().reason == FinishReason::kLength) {
    EXPECT_TRUE(std::cmp_equal(tokens.size(), request.max_tokens));
  }
}

TEST(EngineStormTest, TwoThousandRandomOperationsLeakNothingAndDisturbNobody) {
  constexpr int32_t kOperations = 2000;
  EngineBench bench(EngineOptions{.max_step_tokens = 24, .max_active_requests = 8, .max_waiting_requests = 16}, 48,
                    160);
  std::mt19937 random(20240607);
  bench.log.before_run = [&](const PackedBatch&) {
    return random() % 200 == 0 ? Status::Internal("injected") : Status::Ok();
  };
  const auto below = [&](uint32_t bound) { return static_cast<int32_t>(random() % bound); };
  std::vector<StormRequest> accepted;
  for (int32_t i = 0; i < kOperations; ++i) {
    const int32_t operation = below(10);
    if (operation < 4) {
      StormRequest request{MakePrompt(1 + below(70), i), 1 + below(40), std::make_shared<Recording>()};
      const Status status = bench.engine.Submit(
          MakeRequest(std::to_string(accepted.size()), request.prompt, request.max_tokens, request.recording));
      if (status.ok()) accepted.push_back(request);
    } else if (operation < 6 && !accepted.empty()) {
      bench.engine.Stop(std::to_string(accepted.size() - 1 - static_cast<size_t>(below(10)) % accepted.size()));
    } else if (operation == 6 && !accepted.empty()) {
      accepted[static_cast<size_t>(below(static_cast<uint32_t>(accepted.size())))].recording->is_abandoned = true;
    }
    bench.Step();
    ASSERT_FALSE(HasFailure()) << "operation " << i;
  }
  bench.RunUntilIdle();
  ASSERT_GT(accepted.size(), 300U);
  for (const StormRequest& request : accepted) ExpectPrefixOfGreedy(request);
  int32_t finished = 0;
  for (const auto& [reason, count] : bench.observer.finished) {
    EXPECT_GT(count, 0) << FinishReasonName(reason);
    finished += count;
  }
  EXPECT_TRUE(std::cmp_equal(finished, accepted.size())) << "started and finished balance";
  EXPECT_EQ(bench.observer.finished.size(), 3U) << "length, cancelled and error all happened";
  EXPECT_EQ(bench.observer.last_load.running, 0);
  EXPECT_EQ(bench.observer.last_load.waiting, 0);
}

}  // namespace
}  // namespace naiad::testing
