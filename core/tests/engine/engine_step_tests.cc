// What one request gets, step by step.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/engine/engine_test_doubles.h"

namespace naiad::testing {
namespace {

TEST(EngineStepTest, AnIdleEngineHasNothingToDo) {
  EngineBench bench;
  EXPECT_FALSE(bench.Step());
  EXPECT_EQ(bench.log.runs, 0);
}

TEST(EngineStepTest, GreedyTokensAreThoseOfTheModelAndEachStepDeliversOne) {
  EngineBench bench;
  const std::vector<int32_t> prompt = MakePrompt(11, 1);
  const auto recording = bench.Submit("a", prompt, 9);
  ASSERT_TRUE(bench.Step());
  EXPECT_EQ(recording->tokens().size(), 1U);
  bench.RunUntilIdle();
  EXPECT_EQ(recording->tokens(), ExpectedGreedy(prompt, 9));
  EXPECT_TRUE(recording->is_finished());
  EXPECT_EQ(recording->delta_count(), 8) << "the ninth token comes with the end";
  EXPECT_EQ(bench.log.runs, 9);
}

TEST(EngineStepTest, TheLengthLimitEndsARequestWithItsUsage) {
  EngineBench bench;
  const auto recording = bench.Submit("a", MakePrompt(11, 1), 3);
  bench.RunUntilIdle();
  const FinishedSummary summary = recording->summary();
  EXPECT_EQ(summary.reason, FinishReason::kLength);
  EXPECT_TRUE(summary.error.ok());
  EXPECT_FALSE(summary.stop_token_id.has_value());
  EXPECT_EQ(summary.prompt_tokens, 11);
  EXPECT_EQ(summary.cached_prompt_tokens, 0);
  EXPECT_EQ(summary.completion_tokens, 3);
}

TEST(EngineStepTest, TimesOfARequestAddUp) {
  EngineBench bench;
  const auto arrival = Clock::now() - std::chrono::seconds(5);
  const auto recording =
      bench.Submit("a", MakePrompt(3, 1), 3, [&](GenerationRequest& request) { request.arrival = arrival; });
  bench.RunUntilIdle();
  const FinishedSummary summary = recording->summary();
  EXPECT_GE(summary.queue, std::chrono::seconds(5));
  EXPECT_GE(summary.prefill.count(), 0);
  EXPECT_GE(summary.decode.count(), 0);
  const auto parts = summary.queue + summary.prefill;
  EXPECT_LE(std::abs((summary.time_to_first_token - parts).count()), 2) << "each is cut to whole microseconds";
}

TEST(EngineStepTest, EachTurnWithWorkReportsWhereItsTimeWent) {
  EngineBench bench;
  bench.Step();
  EXPECT_TRUE(bench.observer.work.empty()) << "there was nothing to do";
  bench.Submit("a", MakePrompt(3, 1), 2);
  bench.RunUntilIdle();
  ASSERT_EQ(bench.observer.work.size(), 2U);
  for (const EngineWork& turn : bench.observer.work) {
    EXPECT_GE(turn.model, std::chrono::seconds(1)) << "what the fake model pretends to take";
    EXPECT_GE(turn.total, turn.model + turn.sampling);
    EXPECT_LT(turn.total - turn.model, std::chrono::seconds(1));
  }
}

TEST(EngineStepTest, AStopTokenEndsARequestAndIsDelivered) {
  EngineBench bench;
  const std::vector<int32_t> prompt = MakePrompt(6, 2);
  const std::vector<int32_t> expected = ExpectedGreedy(prompt, 20);
  const auto recording = bench.Submit(
      "a", prompt, 20, [&](GenerationRequest& request) { request.stopping.stop_token_ids = {expected[4]}; });
  bench.RunUntilIdle();
  const auto stop = std::ranges::find(expected, expected[4]);
  EXPECT_EQ(recording->tokens(), std::vector<int32_t>(expected.begin(), stop + 1));
  EXPECT_EQ(recording->summary().reason, FinishReason::kStop);
  EXPECT_EQ(recording->summary().stop_token_id, expected[4]);
}

TEST(EngineStepTest, TheModelsOwnEndTokenStopsUnlessIgnored) {
  const std::vector<int32_t> prompt = MakePrompt(6, 2);
  const std::vector<int32_t> expected = ExpectedGreedy(prompt, 8);
  EngineBench bench(EngineOptions{.eos_token_ids = {expected[0]}});
  const auto stopped = bench.Submit("a", prompt, 8);
  const auto ignoring =
      bench.Submit("b", prompt, 8, [](GenerationRequest& request) { request.stopping.ignore_eos = true; });
  bench.RunUntilIdle();
  EXPECT_EQ(stopped->tokens(), std::vector<int32_t>{expected[0]});
  EXPECT_EQ(stopped->summary().stop_token_id, expected[0]);
  EXPECT_EQ(ignoring->tokens(), expected);
  EXPECT_EQ(ignoring->summary().reason, FinishReason::kLength);
}

TEST(EngineStepTest, NoStopTokenComesBeforeTheMinimumOfTokens) {
  const std::vector<int32_t> prompt = MakePrompt(6, 2);
  const int32_t stop = ExpectedGreedy(prompt, 1)[0];
  EngineBench bench(EngineOptions{.eos_token_ids = {stop}});
  const auto recording =
      bench.Submit("a", prompt, 8, [](GenerationRequest& request) { request.stopping.min_tokens = 4; });
  bench.RunUntilIdle();
  const std::vector<int32_t> tokens = recording->tokens();
  ASSERT_GE(tokens.size(), 4U);
  for (size_t i = 0; i < 4; ++i) EXPECT_NE(tokens[i], stop);
}

TEST(EngineStepTest, ObserversHearOfStepsTokensAndTheEnd) {
  EngineBench bench;
  bench.Submit("a", MakePrompt(11, 1), 4);
  bench.Submit("b", MakePrompt(2, 2), 2);
  ASSERT_TRUE(bench.Step());
  EXPECT_EQ(bench.observer.steps.back().tokens, 13);
  EXPECT_EQ(bench.observer.steps.back().sequences, 2);
  EXPECT_EQ(bench.observer.last_load.running, 2);
  EXPECT_EQ(bench.observer.last_load.waiting, 0);
  EXPECT_EQ(bench.observer.last_load.blocks_used, 3 + 1);
  EXPECT_EQ(bench.observer.last_load.blocks_free, 256 - 4);
  bench.RunUntilIdle();
  EXPECT_EQ(bench.observer.first_tokens, 2);
  EXPECT_EQ(bench.observer.inter_tokens, 3 + 1);
  EXPECT_EQ(bench.observer.finished[FinishReason::kLength], 2);
  EXPECT_EQ(bench.observer.last_load.running, 0);
  EXPECT_EQ(bench.observer.last_load.blocks_used, 0);
}

TEST(EngineStepTest, WhatWasRefusedIsLeftAsItWasAndReported) {
  EngineBench bench;
  auto recording = std::make_shared<Recording>();
  GenerationRequest request = MakeRequest("a", MakePrompt(2000, 1), 5, recording);
  EXPECT_EQ(bench.engine.Submit(std::move(request)).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(request.prompt_token_ids.size(), 2000U);
  EXPECT_NE(request.sink, nullptr);
  EXPECT_FALSE(recording->is_finished());
  EXPECT_EQ(bench.observer.rejected[ErrorCode::kInvalidArgument], 1);
  EXPECT_FALSE(bench.Step());
}

TEST(EngineStepTest, AFullInboxRefusesAndTakesAgainOnceRequestsHaveStarted) {
  EngineBench bench(EngineOptions{.max_active_requests = 1, .max_waiting_requests = 2});
  std::vector<std::shared_ptr<Recording>> accepted;
  accepted.push_back(bench.Submit("a", MakePrompt(3, 1), 4));
  accepted.push_back(bench.Submit("b", MakePrompt(3, 2), 4));
  auto extra = std::make_shared<Recording>();
  GenerationRequest request = MakeRequest("c", MakePrompt(3, 3), 4, extra);
  EXPECT_EQ(bench.engine.Submit(std::move(request)).code(), ErrorCode::kResourceExhausted);
  EXPECT_EQ(bench.observer.rejected[ErrorCode::kResourceExhausted], 1);
  bench.Step();
  EXPECT_EQ(bench.observer.last_load.waiting, 1);
  EXPECT_TRUE(bench.engine.Submit(std::move(request)).ok());
  bench.RunUntilIdle();
  EXPECT_TRUE(accepted[0]->is_finished() && accepted[1]->is_finished() && extra->is_finished());
}

TEST(EngineStepTest, ALiveIdIsRefusedAndFreeAgainAfterItsEnd) {
  EngineBench bench;
  bench.Submit("a", MakePrompt(3, 1), 2);
  EXPECT_EQ(bench.engine.Submit(MakeRequest("a", {1}, 1, std::make_shared<Recording>())).code(),
            ErrorCode::kInvalidArgument);
  bench.RunUntilIdle();
  bench.Submit("a", MakePrompt(3, 1), 2);
  bench.RunUntilIdle();
  EXPECT_EQ(bench.observer.finished[FinishReason::kLength], 2);
}

TEST(EngineStepTest, LogProbabilitiesAreThoseOfTheModelWhateverTheSamplingOptions) {
  EngineBench bench;
  std::vector<int32_t> history = MakePrompt(6, 2);
  const auto recording = bench.Submit("a", history, 5, [](GenerationRequest& request) {
    request.output = {.log_probs = true, .top_log_probs = 3, .context_log_probs = false};
    request.sampling.logit_bias = {{7, 50.0F}};
  });
  bench.RunUntilIdle();
  EXPECT_EQ(recording->tokens(), std::vector<int32_t>(5, 7));
  const LogProbs log_probs = recording->log_probs();
  ASSERT_EQ(log_probs.chosen.size(), 5U);
  ASSERT_EQ(log_probs.top_ids.size(), 15U);
  for (size_t i = 0; i < 5; ++i) {
    const std::vector<float> logits = ExpectedLogits(history);
    double sum = 0.0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
    EXPECT_NEAR(log_probs.chosen[i], static_cast<double>(logits[7]) - std::log(sum), 1e-4);
    EXPECT_EQ(log_probs.top_ids[3 * i], std::ranges::max_element(logits) - logits.begin());
    history.push_back(7);
  }
}

}  // namespace
}  // namespace naiad::testing
