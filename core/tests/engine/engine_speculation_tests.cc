// Drafts change the number of steps and nothing else.
#include <gtest/gtest.h>

#include "engine/prompt_lookup.h"
#include "engine/step_cost_model.h"
#include "sampling/counter_random.h"
#include "tests/engine/engine_test_doubles.h"

namespace naiad::testing {
namespace {

using std::chrono::microseconds;

constexpr int64_t kShortMemory = 2;  // So the model's output soon repeats itself.

struct Outcome {
  std::vector<int32_t> tokens;
  std::vector<float> log_probs;
  FinishReason reason = FinishReason::kError;
  int32_t runs = 0;
  int32_t drafts = 0;
  int32_t accepted = 0;
};

Outcome RunOnce(int32_t max_draft_tokens, const std::function<void(GenerationRequest&)>& change,
                int64_t memory_tokens = kShortMemory) {
  EngineBench bench(EngineOptions{.max_draft_tokens = max_draft_tokens});
  bench.log.memory_tokens = memory_tokens;
  const auto recording = bench.Submit("r", MakePrompt(12, 3), 200, [&](GenerationRequest& request) {
    request.output.log_probs = true;
    change(request);
  });
  bench.RunUntilIdle();
  Outcome outcome{.tokens = recording->tokens(),
                  .log_probs = recording->log_probs().chosen,
                  .reason = recording->summary().reason,
                  .runs = bench.log.runs};
  for (const StepStats& step : bench.observer.steps) {
    outcome.drafts += step.draft_tokens;
    outcome.accepted += step.accepted_draft_tokens;
  }
  return outcome;
}

void ExpectSame(const Outcome& with, const Outcome& without) {
  EXPECT_EQ(with.tokens, without.tokens);
  EXPECT_EQ(with.log_probs, without.log_probs);
  EXPECT_EQ(with.reason, without.reason);
}

TEST(EngineSpeculationTest, RepetitiveTextTakesFarFewerStepsAndIsTheSame) {
  const auto greedy = [](GenerationRequest&) {};
  const Outcome without = RunOnce(0, greedy);
  const Outcome with = RunOnce(8, greedy);
  EXPECT_EQ(with.tokens, ExpectedGreedy(MakePrompt(12, 3), 200, kShortMemory));
  ExpectSame(with, without);
  EXPECT_EQ(without.drafts, 0);
  EXPECT_GT(with.accepted, 100);
  EXPECT_LT(with.runs, without.runs / 2);
}

TEST(EngineSpeculationTest, SampledTextIsTheSameToo) {
  for (uint64_t seed = 0; seed < 8; ++seed) {
    const auto sampled = [seed](GenerationRequest& request) {
      request.sampling.temperature = 0.7F;
      request.sampling.repetition_penalty = 1.05F;
      request.sampling.seed = seed;
    };
    ExpectSame(RunOnce(8, sampled), RunOnce(0, sampled));
  }
}

TEST(EngineSpeculationTest, AStopTokenAmongTheDraftsEndsTheText) {
  const std::vector<int32_t> text = ExpectedGreedy(MakePrompt(12, 3), 200, kShortMemory);
  for (const size_t position : {60U, 61U, 62U, 63U, 64U, 65U}) {
    const auto stopping = [&](GenerationRequest& request) {
      request.stopping.max_tokens = static_cast<int32_t>(position);
    };
    ExpectSame(RunOnce(8, stopping), RunOnce(0, stopping));
    // Its first occurrence after the minimum.
    const auto stopped = [&](GenerationRequest& request) {
      request.stopping.stop_token_ids = {text[position]};
      request.stopping.min_tokens = 40;
    };
    ExpectSame(RunOnce(8, stopped), RunOnce(0, stopped));
  }
}

TEST(EngineSpeculationTest, TextThatDoesNotRepeatIsHardlyEverGuessedAt) {
  const Outcome with = RunOnce(8, [](GenerationRequest&) {}, kWholeHistory);
  EXPECT_EQ(with.tokens, ExpectedGreedy(MakePrompt(12, 3), 200));
  EXPECT_LT(with.drafts, 10);
}

TEST(EngineSpeculationTest, ARequestCanDoWithout) {
  const Outcome without = RunOnce(8, [](GenerationRequest& request) { request.max_draft_tokens = 0; });
  EXPECT_EQ(without.drafts, 0);
  EXPECT_EQ(without.runs, 200);
}

TEST(EngineSpeculationTest, DraftsNeverPushAnybodyOut) {
  EngineBench bench(EngineOptions{}, /*num_blocks=*/28);
  bench.log.memory_tokens = kShortMemory;
  Recordings recordings;
  for (int32_t i = 0; i < 2; ++i) {
    recordings.push_back(bench.Submit(NumberedId("r", static_cast<size_t>(i)), MakePrompt(6, i), 50));
  }
  bench.RunUntilIdle();
  for (int32_t i = 0; i < 2; ++i) {
    EXPECT_EQ(recordings[static_cast<size_t>(i)]->tokens(), ExpectedGreedy(MakePrompt(6, i), 50, kShortMemory));
  }
  EXPECT_EQ(bench.observer.preemptions, 0);
}

TEST(PromptLookupTest, GuessesWhatFollowedLastTime) {
  PromptLookup lookup(8);
  std::vector<int32_t> draft;
  lookup.Propose(std::vector<int32_t>{1, 2, 3, 4, 5, 9, 1, 2, 3}, 8, 0.1, &draft);
  EXPECT_EQ(draft, (std::vector<int32_t>{4})) << "it starts small";
  lookup.OnResult(1, 1);
  lookup.Propose(std::vector<int32_t>{1, 2, 3, 4, 5, 9, 1, 2, 3, 4, 5}, 8, 0.1, &draft);
  EXPECT_EQ(draft, (std::vector<int32_t>{9, 1})) << "and grows while guesses hold";
  lookup.OnResult(2, 2);
  lookup.Propose(std::vector<int32_t>{1, 2, 3, 4, 5, 9, 1, 2, 3, 4, 5, 9, 1, 2}, 8, 0.1, &draft);
  EXPECT_EQ(draft, (std::vector<int32_t>{3, 4, 5, 9}));
}

TEST(PromptLookupTest, UnrollsACycleShorterThanTheDraft) {
  PromptLookup lookup(8);
  std::vector<int32_t> draft;
  std::vector<int32_t> history = {7, 7, 7, 7};
  lookup.Propose(history, 8, 0.1, &draft);
  lookup.OnResult(1, 1);
  history.insert(history.end(), {7, 7});
  lookup.Propose(history, 8, 0.1, &draft);
  lookup.OnResult(2, 2);
  history.insert(history.end(), {7, 7, 7});
  lookup.Propose(history, 8, 0.1, &draft);
  EXPECT_EQ(draft, (std::vector<int32_t>{7, 7, 7, 7}));
}

TEST(PromptLookupTest, KeepsWithinItsLimitAndHasNothingForNewText) {
  PromptLookup lookup(8);
  std::vector<int32_t> draft = {1};
  lookup.Propose(std::vector<int32_t>{1, 2}, 8, 0.1, &draft);
  EXPECT_TRUE(draft.empty());
  lookup.Propose(std::vector<int32_t>{1, 2, 3, 4, 5}, 8, 0.1, &draft);
  EXPECT_TRUE(draft.empty());
  lookup.Propose(std::vector<int32_t>{1, 2, 3, 4, 5, 1, 2, 3}, 1, 0.1, &draft);
  EXPECT_EQ(draft, std::vector<int32_t>{4});
  lookup.Propose(std::vector<int32_t>{1, 2, 3, 4, 5, 1, 2, 3}, 0, 0.1, &draft);
  EXPECT_TRUE(draft.empty());
}

TEST(PromptLookupTest, RestsLongerAfterEachFailureAndWhenGuessesAreTooDear) {
  PromptLookup lookup(8);
  std::vector<int32_t> history = {1, 2, 3, 4};
  std::vector<int32_t> draft;
  int32_t tries = 0;
  for (int32_t i = 0; i < 400; ++i) {
    history.insert(history.end(), {1, 2, 3});
    lookup.Propose(history, 8, 0.01, &draft);
    if (draft.empty()) continue;
    ++tries;
    lookup.OnResult(static_cast<int32_t>(draft.size()), 0);
  }
  EXPECT_GE(tries, 3);
  EXPECT_LE(tries, 14);

  PromptLookup dear(8);
  tries = 0;
  for (int32_t i = 0; i < 400; ++i) {
    dear.Propose(history, 8, 0.99, &draft);
    if (draft.empty()) continue;
    ++tries;
    dear.OnResult(static_cast<int32_t>(draft.size()), 0);
  }
  EXPECT_LE(tries, 8);
}

TEST(StepCostModelTest, IsCautiousUntilItKnowsBothCosts) {
  StepCostModel costs;
  const int32_t cautious = costs.ExtraTokensWithin(2.0F, 8);
  EXPECT_LE(cautious, 32);
  costs.Observe({.decoding = 8, .extra_tokens = 0}, microseconds(8000));
  EXPECT_EQ(costs.ExtraTokensWithin(2.0F, 8), cautious);
}

TEST(StepCostModelTest, ConvergesToTheTokensThatFitTheStretch) {
  StepCostModel costs;
  // 10 ms for 8 sequences, 100 us for each other token.
  for (int32_t i = 0; i < 100; ++i) {
    costs.Observe({.decoding = 8, .extra_tokens = 0}, microseconds(10'000));
    costs.Observe({.decoding = 8, .extra_tokens = 50}, microseconds(15'000));
  }
  EXPECT_NEAR(costs.ExtraTokensWithin(2.0F, 8), 100, 2);
  EXPECT_NEAR(costs.ExtraTokensWithin(1.5F, 8), 50, 2);
  EXPECT_NEAR(costs.ExtraTokensWithin(2.0F, 28), 120, 3) << "more sequences take longer, so more may be added";
  EXPECT_NEAR(costs.RelativeTokenCost(8), 0.08, 0.01);
}

TEST(StepCostModelTest, LearnsFromMixedStepsWhenNoneDecodesAlone) {
  StepCostModel costs;
  costs.Observe({.decoding = 0, .extra_tokens = 100}, microseconds(10'000));
  costs.Observe({.decoding = 8, .extra_tokens = 16}, microseconds(11'600));
  EXPECT_NEAR(costs.ExtraTokensWithin(2.0F, 8), 100, 2);
}

TEST(StepCostModelTest, FollowsTokensThatGetDearerWithTheHistory) {
  StepCostModel costs;
  for (int32_t i = 0; i < 100; ++i) costs.Observe({.decoding = 4, .extra_tokens = 0}, microseconds(10'000));
  for (int32_t i = 0; i < 100; ++i) costs.Observe({.decoding = 4, .extra_tokens = 50}, microseconds(15'000));
  for (int32_t i = 0; i < 100; ++i) costs.Observe({.decoding = 4, .extra_tokens = 50}, microseconds(30'000));
  EXPECT_NEAR(costs.ExtraTokensWithin(2.0F, 4), 25, 1);
}

// A step of 16 sequences and whatever the model allows beside them, at these costs, give or take a tenth.
int32_t RunStep(StepCostModel& costs, double decode_us, double token_us, uint64_t number) {
  const int32_t extra = costs.steps_since_decoding_alone() >= 16 ? 0 : costs.ExtraTokensWithin(2.0F, 16);
  const double noise = 0.9 + 0.2 * UniformAt(7, number);
  costs.Observe({.decoding = 16, .extra_tokens = extra},
                microseconds(static_cast<int64_t>(noise * (decode_us + extra * token_us))));
  return extra;
}

TEST(StepCostModelTest, KeepsPromptsMovingWhenDecodingGetsSlower) {
  StepCostModel costs;
  for (int32_t i = 0; i < 50; ++i) costs.Observe({.decoding = 16, .extra_tokens = 0}, microseconds(40'000));
  int64_t extra = 0;
  int32_t alone = 0;
  constexpr int32_t kSteps = 3000;
  for (int32_t i = 0; i < kSteps; ++i) {
    const int32_t tokens = RunStep(costs, 80'000 + 20.0 * i, 3'000, static_cast<uint64_t>(i));
    extra += tokens;
    if (tokens == 0) ++alone;
  }
  EXPECT_GT(extra / kSteps, 20) << "80 ms to 140 ms at 3 ms a token: 27 to 47 of them";
  EXPECT_LT(extra / kSteps, 50);
  EXPECT_LT(alone, kSteps / 15);
}

TEST(StepCostModelTest, OneSlowMomentChangesNothing) {
  StepCostModel costs;
  for (int32_t i = 0; i < 100; ++i) {
    costs.Observe({.decoding = 8, .extra_tokens = 0}, microseconds(10'000));
    costs.Observe({.decoding = 8, .extra_tokens = 50}, microseconds(15'000));
  }
  costs.Observe({.decoding = 8, .extra_tokens = 0}, microseconds(90'000));
  EXPECT_NEAR(costs.ExtraTokensWithin(2.0F, 8), 100, 2);
  for (int32_t i = 0; i < 2; ++i) costs.Observe({.decoding = 8, .extra_tokens = 0}, microseconds(90'000));
  EXPECT_NEAR(costs.ExtraTokensWithin(2.0F, 8), 900, 20) << "three of five are no moment any more";
}

TEST(StepCostModelTest, AlwaysLetsAFewTokensThrough) {
  StepCostModel costs;
  for (int32_t i = 0; i < 50; ++i) {
    costs.Observe({.decoding = 1, .extra_tokens = 0}, microseconds(10));
    costs.Observe({.decoding = 1, .extra_tokens = 1}, microseconds(1'000'000));
  }
  EXPECT_EQ(costs.ExtraTokensWithin(1.1F, 1), 4);
}

}  // namespace
}  // namespace naiad::testing
