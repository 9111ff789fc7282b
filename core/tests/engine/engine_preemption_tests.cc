// When blocks run out, and who goes first.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/engine/engine_test_doubles.h"

namespace naiad::testing {
namespace {

std::function<void(GenerationRequest&)> WithPriority(int32_t priority) {
  return [priority](GenerationRequest& request) { request.priority = priority; };
}

TEST(EnginePreemptionTest, PreemptedRequestsGiveTheSameTokens) {
  EngineBench bench(EngineOptions{}, /*num_blocks=*/20);
  Recordings recordings;
  std::vector<std::vector<int32_t>> prompts;
  for (int32_t i = 0; i < 8; ++i) {
    prompts.push_back(MakePrompt(3 + i, i));
    recordings.push_back(bench.Submit(NumberedId("r", static_cast<size_t>(i)), prompts.back(), 40));
  }
  bench.RunUntilIdle();
  int32_t preemptions = 0;
  for (size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(recordings[i]->tokens(), ExpectedGreedy(prompts[i], 40));
    preemptions += recordings[i]->summary().preemptions;
    EXPECT_EQ(recordings[i]->summary().cached_prompt_tokens, 0) << "its own blocks do not count";
  }
  EXPECT_GT(preemptions, 0);
  EXPECT_EQ(bench.observer.preemptions, preemptions);
  EXPECT_EQ(recordings[0]->summary().preemptions, 0) << "the first in rank is never preempted";
}

TEST(EnginePreemptionTest, SeededDrawsAndScoresSurvivePreemption) {
  const auto sampled = [](GenerationRequest& request) {
    request.sampling.temperature = 1.3F;
    request.sampling.frequency_penalty = 0.7F;
    request.sampling.seed = 5;
    request.output.log_probs = true;
    request.output.context_log_probs = true;
  };
  const std::vector<int32_t> prompt = MakePrompt(14, 3);
  EngineBench alone;
  const auto expected = alone.Submit("alone", prompt, 30, sampled);
  alone.RunUntilIdle();

  EngineBench bench(EngineOptions{.max_step_tokens = 4}, /*num_blocks=*/14);
  (void)bench.Submit("first", MakePrompt(9, 1), 40);
  const auto second = bench.Submit("second", prompt, 30, sampled);
  bench.RunUntilIdle();
  EXPECT_GT(second->summary().preemptions, 0);
  EXPECT_EQ(second->tokens(), expected->tokens());
  EXPECT_EQ(second->log_probs().chosen, expected->log_probs().chosen);
  EXPECT_EQ(second->context_log_probs().chosen, expected->context_log_probs().chosen);
}

TEST(EnginePreemptionTest, APreemptedRequestCanBeStopped) {
  EngineBench bench(EngineOptions{}, /*num_blocks=*/10);
  (void)bench.Submit("first", MakePrompt(4, 1), 36);
  const auto second = bench.Submit("second", MakePrompt(4, 2), 36);
  while (bench.observer.preemptions == 0) ASSERT_TRUE(bench.Step());
  EXPECT_EQ(bench.observer.last_load.waiting, 1);
  bench.engine.Stop("second");
  bench.Step();
  EXPECT_TRUE(second->is_finished());
  EXPECT_EQ(second->summary().reason, FinishReason::kCancelled);
  bench.RunUntilIdle();
}

TEST(EnginePreemptionTest, WaitingRequestsStartByPriorityThenByArrival) {
  EngineBench bench(EngineOptions{.max_active_requests = 1});
  std::vector<std::string> order;
  Recordings recordings;
  constexpr int32_t kRequests = 200;
  for (int32_t i = 0; i < kRequests; ++i) {
    recordings.push_back(
        bench.Submit(NumberedId("r", static_cast<size_t>(i)), {i % kVocabularySize}, 1, WithPriority(i % 5 - 2)));
  }
  std::vector<std::pair<int32_t, int32_t>> finished;
  std::vector<bool> is_counted(recordings.size());
  while (bench.Step()) {
    for (size_t i = 0; i < recordings.size(); ++i) {
      if (is_counted[i] || !recordings[i]->is_finished()) continue;
      is_counted[i] = true;
      finished.emplace_back(-(static_cast<int32_t>(i) % 5 - 2), static_cast<int32_t>(i));
    }
  }
  EXPECT_EQ(finished.size(), recordings.size());
  EXPECT_TRUE(std::ranges::is_sorted(finished));
}

TEST(EnginePreemptionTest, AHigherPriorityTakesThePlaceOfALowerOne) {
  EngineBench bench(EngineOptions{.max_active_requests = 1});
  const std::vector<int32_t> low_prompt = MakePrompt(9, 1);
  const auto low = bench.Submit("low", low_prompt, 12, WithPriority(-1));
  for (int32_t i = 0; i < 4; ++i) bench.Step();
  const auto equal = bench.Submit("equal", {3}, 1, WithPriority(-1));
  bench.Step();
  EXPECT_FALSE(equal->is_finished()) << "an equal priority waits";
  const auto high = bench.Submit("high", MakePrompt(6, 2), 3, WithPriority(1));
  for (int32_t i = 0; i < 3; ++i) bench.Step();
  EXPECT_TRUE(high->is_finished());
  EXPECT_FALSE(low->is_finished());
  bench.RunUntilIdle();
  EXPECT_EQ(low->tokens(), ExpectedGreedy(low_prompt, 12));
  EXPECT_EQ(low->summary().preemptions, 1);
}

TEST(EnginePreemptionTest, NothingIsPreemptedForARequestThatWouldStillNotFit) {
  EngineBench bench(EngineOptions{.max_active_requests = 2});
  (void)bench.Submit("middle", MakePrompt(9, 1), 12, WithPriority(1));
  (void)bench.Submit("low", MakePrompt(9, 2), 12);
  bench.Step();
  (void)bench.SubmitSeveral("high", MakePrompt(5, 3), 4, 2, WithPriority(1));
  for (int32_t i = 0; i < 5; ++i) bench.Step();
  EXPECT_EQ(bench.observer.preemptions, 0);
  bench.RunUntilIdle();
}

TEST(EnginePreemptionTest, ForkedSequencesArePreemptedOneByOne) {
  EngineBench bench(EngineOptions{}, /*num_blocks=*/14);
  const std::vector<int32_t> prompt = MakePrompt(18, 6);
  const Recordings several = bench.SubmitSeveral("several", prompt, 30, 6);
  bench.RunUntilIdle();
  for (const auto& recording : several) EXPECT_EQ(recording->tokens(), ExpectedGreedy(prompt, 30));
  EXPECT_GT(bench.observer.preemptions, 0);
  EXPECT_EQ(several[0]->summary().preemptions, 0);
}

}  // namespace
}  // namespace naiad::testing
