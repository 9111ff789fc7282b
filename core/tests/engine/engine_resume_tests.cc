// Requests that go on where an earlier one was interrupted.
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "sampling/counter_random.h"
#include "tests/engine/engine_test_doubles.h"

namespace naiad::testing {
namespace {

constexpr int32_t kMaxTokens = 24;
using Change = std::function<void(GenerationRequest&)>;

struct Case {
  std::string name;
  Change change;
};

// What makes the choice of a token depend on the tokens before it.
std::vector<Case> Cases() {
  return {
      {"greedy", [](GenerationRequest&) {}},
      {"seeded",
       [](GenerationRequest& request) {
         request.sampling.temperature = 1.5F;
         request.sampling.top_p = 0.9F;
         request.sampling.seed = 77;
       }},
      {"penalties",
       [](GenerationRequest& request) {
         request.sampling.temperature = 1.2F;
         request.sampling.top_k = 20;
         request.sampling.repetition_penalty = 1.4F;
         request.sampling.presence_penalty = 0.6F;
         request.sampling.frequency_penalty = -0.7F;
         request.sampling.seed = 3;
         request.sampling.logit_bias = {{5, 1.5F}};
       }},
      {"min_tokens",
       [](GenerationRequest& request) {
         request.stopping.min_tokens = 11;
         for (int32_t id = 0; id < kVocabularySize / 2; ++id) request.stopping.stop_token_ids.push_back(id);
       }},
  };
}

std::vector<int32_t> After(const std::vector<int32_t>& tokens, size_t count) {
  return {tokens.begin() + static_cast<std::ptrdiff_t>(count), tokens.end()};
}

struct Outcome {
  std::vector<int32_t> tokens;
  std::vector<float> log_probs;
  FinishedSummary summary;
};

Outcome RunAlone(const EngineOptions& options, std::vector<int32_t> prompt, const Change& change) {
  EngineBench bench(options);
  const auto recording = bench.Submit("alone", std::move(prompt), kMaxTokens, [&](GenerationRequest& request) {
    change(request);
    request.output.log_probs = true;
  });
  bench.RunUntilIdle();
  return {recording->tokens(), recording->log_probs().chosen, recording->summary()};
}

// Interrupted after `count` tokens, which is what the client has of it.
Outcome RunRest(const EngineOptions& options, std::vector<int32_t> prompt, const Outcome& whole, size_t count,
                const Change& change) {
  prompt.insert(prompt.end(), whole.tokens.begin(), whole.tokens.begin() + static_cast<std::ptrdiff_t>(count));
  return RunAlone(options, std::move(prompt), [&](GenerationRequest& request) {
    change(request);
    request.resume.tokens = static_cast<int32_t>(count);
  });
}

TEST(EngineResumeTest, GoesOnAsIfItHadNeverBeenInterrupted) {
  const std::vector<int32_t> prompt = MakePrompt(13, 4);
  for (const int32_t max_step_tokens : {512, 4}) {
    for (const int32_t max_draft_tokens : {0, 8}) {
      const EngineOptions options{.max_step_tokens = max_step_tokens, .max_draft_tokens = max_draft_tokens};
      for (const Case& item : Cases()) {
        const Outcome whole = RunAlone(options, prompt, item.change);
        ASSERT_GE(whole.tokens.size(), 11U) << item.name;
        for (size_t count = 0; count < whole.tokens.size(); ++count) {
          const Outcome rest = RunRest(options, prompt, whole, count, item.change);
          EXPECT_EQ(rest.tokens, After(whole.tokens, count)) << item.name << " at " << count;
          EXPECT_EQ(rest.log_probs, std::vector<float>(whole.log_probs.begin() + static_cast<std::ptrdiff_t>(count),
                                                       whole.log_probs.end()));
          EXPECT_EQ(rest.summary.reason, whole.summary.reason);
          EXPECT_EQ(rest.summary.stop_token_id, whole.summary.stop_token_id);
          EXPECT_EQ(rest.summary.prompt_tokens, 13);
          EXPECT_EQ(rest.summary.completion_tokens, whole.summary.completion_tokens);
        }
      }
    }
  }
}

TEST(EngineResumeTest, OneOfSeveralSequencesKeepsItsDraws) {
  const std::vector<int32_t> prompt = MakePrompt(6, 1);
  const Change sampled = [](GenerationRequest& request) {
    request.sampling.temperature = 1.5F;
    request.sampling.seed = 8;
  };
  EngineBench several;
  const Recordings whole = several.SubmitSeveral("several", prompt, kMaxTokens, 3, sampled);
  several.RunUntilIdle();
  EXPECT_NE(whole[0]->tokens(), whole[2]->tokens());
  for (const size_t count : {0U, 9U}) {
    const std::vector<int32_t> tokens = whole[2]->tokens();
    std::vector<int32_t> input = prompt;
    input.insert(input.end(), tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(count));
    EngineBench bench;
    const auto rest = bench.Submit("rest", input, kMaxTokens, [&](GenerationRequest& request) {
      sampled(request);
      request.resume = {.tokens = static_cast<int32_t>(count), .sequence_index = 2};
    });
    bench.RunUntilIdle();
    EXPECT_EQ(rest->tokens(), After(tokens, count));
    EXPECT_EQ(rest->summary().sequence_index, 0) << "of this request it is the first";
  }
}

TEST(EngineResumeTest, SurvivesPreemptionAndCountsOnlyThePromptAsSuch) {
  const std::vector<int32_t> prompt = MakePrompt(14, 3);
  const std::vector<int32_t> expected = ExpectedGreedy(prompt, 30);
  std::vector<int32_t> input = prompt;
  input.insert(input.end(), expected.begin(), expected.begin() + 10);
  EngineBench bench(EngineOptions{.max_step_tokens = 4}, /*num_blocks=*/14);
  (void)bench.Submit("first", MakePrompt(9, 1), 40);
  const auto rest = bench.Submit("rest", input, 30, [](GenerationRequest& request) { request.resume.tokens = 10; });
  bench.RunUntilIdle();
  EXPECT_GT(rest->summary().preemptions, 0);
  EXPECT_EQ(rest->tokens(), After(expected, 10));
  EXPECT_EQ(rest->summary().prompt_tokens, 14);
  int32_t prompt_tokens = 0;
  int32_t new_tokens = 0;
  for (const StepStats& step : bench.observer.steps) {
    prompt_tokens += step.prompt_tokens;
    new_tokens += step.new_tokens;
  }
  EXPECT_EQ(prompt_tokens, 9 + 14);
  EXPECT_EQ(new_tokens, 40 + 20);
}

}  // namespace
}  // namespace naiad::testing
