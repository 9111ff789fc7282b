// Blocks of earlier requests are used again, and nobody can tell from the tokens.
#include <gtest/gtest.h>

#include <numeric>

#include "tests/engine/engine_test_doubles.h"

namespace naiad::testing {
namespace {

int32_t ComputedTokens(const EngineBench& bench) {
  return std::accumulate(bench.log.step_tokens.begin(), bench.log.step_tokens.end(), 0);
}

std::vector<int32_t> Joined(std::vector<int32_t> first, const std::vector<int32_t>& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

TEST(EnginePrefixTest, TheSamePromptIsComputedOnceAndGivesTheSameTokens) {
  EngineBench bench;
  const std::vector<int32_t> prompt = MakePrompt(41, 1);
  const auto first = bench.Submit("first", prompt, 5);
  bench.RunUntilIdle();
  const int32_t first_cost = ComputedTokens(bench);
  const auto second = bench.Submit("second", prompt, 5);
  bench.RunUntilIdle();
  EXPECT_EQ(second->tokens(), ExpectedGreedy(prompt, 5));
  EXPECT_EQ(first->summary().cached_prompt_tokens, 0);
  EXPECT_EQ(second->summary().cached_prompt_tokens, 40);
  EXPECT_EQ(ComputedTokens(bench) - first_cost, first_cost - 40);
}

TEST(EnginePrefixTest, OneTokenIsAlwaysLeftToCompute) {
  EngineBench bench;
  const std::vector<int32_t> prompt = MakePrompt(40, 1);
  (void)bench.Submit("first", prompt, 1);
  bench.RunUntilIdle();
  const auto second = bench.Submit("second", prompt, 3);
  bench.RunUntilIdle();
  EXPECT_EQ(second->tokens(), ExpectedGreedy(prompt, 3));
  EXPECT_EQ(second->summary().cached_prompt_tokens, 36);
}

TEST(EnginePrefixTest, ANextTurnFindsPromptAndAnswerOfTheLastOne) {
  EngineBench bench;
  const std::vector<int32_t> prompt = MakePrompt(20, 3);
  const auto first = bench.Submit("first", prompt, 13);
  bench.RunUntilIdle();
  const std::vector<int32_t> next = Joined(Joined(prompt, first->tokens()), MakePrompt(7, 4));
  const auto second = bench.Submit("second", next, 6);
  bench.RunUntilIdle();
  EXPECT_EQ(second->tokens(), ExpectedGreedy(next, 6));
  EXPECT_EQ(second->summary().cached_prompt_tokens, 32) << "the last new token never had keys and values";
}

TEST(EnginePrefixTest, OnlyTheCommonBeginningIsShared) {
  EngineBench bench;
  const std::vector<int32_t> system = MakePrompt(22, 5);
  const std::vector<int32_t> one = Joined(system, MakePrompt(9, 6));
  const std::vector<int32_t> other = Joined(system, MakePrompt(9, 7));
  (void)bench.Submit("one", one, 4);
  bench.RunUntilIdle();
  const auto second = bench.Submit("other", other, 4);
  // The same tokens as in `one`, but elsewhere: nothing of it fits.
  const std::vector<int32_t> shifted(one.begin() + 4, one.end());
  const auto third = bench.Submit("shifted", shifted, 4);
  bench.RunUntilIdle();
  EXPECT_EQ(second->tokens(), ExpectedGreedy(other, 4));
  EXPECT_EQ(second->summary().cached_prompt_tokens, 20);
  EXPECT_EQ(third->tokens(), ExpectedGreedy(shifted, 4));
  EXPECT_EQ(third->summary().cached_prompt_tokens, 0);
}

TEST(EnginePrefixTest, RequestsThatArriveTogetherShareWhatTheFirstComputes) {
  EngineBench bench(EngineOptions{.max_step_tokens = 16});
  const std::vector<int32_t> prompt = MakePrompt(80, 8);
  Recordings recordings;
  for (size_t i = 0; i < 8; ++i) recordings.push_back(bench.Submit(NumberedId("r", i), prompt, 4));
  bench.RunUntilIdle();
  for (const auto& recording : recordings) EXPECT_EQ(recording->tokens(), ExpectedGreedy(prompt, 4));
  EXPECT_LT(ComputedTokens(bench), 3 * 80) << "far less than eight times the prompt";
}

TEST(EnginePrefixTest, WithoutTheCacheNothingIsUsedOrLeftBehind) {
  EngineBench bench;
  const std::vector<int32_t> prompt = MakePrompt(41, 1);
  const auto without = [](GenerationRequest& request) { request.use_prefix_cache = false; };
  (void)bench.Submit("private", prompt, 5, without);
  bench.RunUntilIdle();
  EXPECT_TRUE(bench.engine.SnapshotCache().cached_blocks.empty());
  (void)bench.Submit("public", prompt, 5);
  bench.RunUntilIdle();
  const auto last = bench.Submit("private again", prompt, 5, without);
  bench.RunUntilIdle();
  EXPECT_EQ(last->summary().cached_prompt_tokens, 0);
  EXPECT_EQ(last->tokens(), ExpectedGreedy(prompt, 5));

  EngineBench off(EngineOptions{.prefix_cache = false});
  (void)off.Submit("first", prompt, 5);
  off.RunUntilIdle();
  EXPECT_TRUE(off.engine.SnapshotCache().cached_blocks.empty());
}

TEST(EnginePrefixTest, ContextScoresAreWholeWhateverTheCacheHolds) {
  EngineBench bench;
  const std::vector<int32_t> prompt = MakePrompt(30, 9);
  const auto scored = [](GenerationRequest& request) { request.output.context_log_probs = true; };
  const auto first = bench.Submit("first", prompt, 3, scored);
  bench.RunUntilIdle();
  const auto second = bench.Submit("second", prompt, 3, scored);
  bench.RunUntilIdle();
  EXPECT_EQ(second->context_log_probs().chosen.size(), 29U);
  EXPECT_EQ(second->context_log_probs().chosen, first->context_log_probs().chosen);
  EXPECT_EQ(second->summary().cached_prompt_tokens, 0);
}

TEST(EnginePrefixTest, CachedBlocksGiveWayWhenBlocksRunOut) {
  EngineBench bench(EngineOptions{}, /*num_blocks=*/12);
  for (int32_t i = 0; i < 40; ++i) {
    const std::vector<int32_t> prompt = MakePrompt(17 + i % 11, i % 7);
    const auto recording = bench.Submit("r", prompt, 6);
    bench.RunUntilIdle();
    EXPECT_EQ(recording->tokens(), ExpectedGreedy(prompt, 6));
  }
}

TEST(EnginePrefixTest, StepsTellHowManyPromptTokensTheCacheSpared) {
  EngineBench bench;
  const std::vector<int32_t> prompt = MakePrompt(41, 1);
  (void)bench.Submit("first", prompt, 2);
  bench.RunUntilIdle();
  (void)bench.Submit("second", prompt, 2);
  bench.RunUntilIdle();
  int32_t prompt_tokens = 0;
  int32_t cached_prompt_tokens = 0;
  int32_t new_tokens = 0;
  for (const StepStats& step : bench.observer.steps) {
    prompt_tokens += step.prompt_tokens;
    cached_prompt_tokens += step.cached_prompt_tokens;
    new_tokens += step.new_tokens;
  }
  EXPECT_EQ(prompt_tokens, 82);
  EXPECT_EQ(cached_prompt_tokens, 40);
  EXPECT_EQ(new_tokens, 4);
}

}  // namespace
}  // namespace naiad::testing
