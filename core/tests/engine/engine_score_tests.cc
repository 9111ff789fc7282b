// Log-probabilities of given text.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/engine/engine_test_doubles.h"

namespace naiad::testing {
namespace {

void AskForScores(GenerationRequest& request) {
  request.output = {.log_probs = false, .top_log_probs = 2, .context_log_probs = true};
}

void ExpectScoresOf(const std::vector<int32_t>& prompt, const LogProbs& scores) {
  ASSERT_EQ(scores.chosen.size(), prompt.size() - 1);
  ASSERT_EQ(scores.top_ids.size(), 2 * (prompt.size() - 1));
  for (size_t i = 0; i + 1 < prompt.size(); ++i) {
    const std::vector<float> logits = ExpectedLogits(std::span(prompt).first(i + 1));
    double sum = 0.0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
    EXPECT_NEAR(scores.chosen[i], static_cast<double>(logits[static_cast<size_t>(prompt[i + 1])]) - std::log(sum),
                1e-4);
    EXPECT_EQ(scores.top_ids[2 * i], std::ranges::max_element(logits) - logits.begin());
  }
}

TEST(EngineScoreTest, ScoresEveryPromptTokenButTheFirstAndEndsWithLength) {
  EngineBench bench;
  const std::vector<int32_t> prompt = MakePrompt(20, 1);
  const auto recording = bench.Submit("a", prompt, 0, AskForScores);
  bench.RunUntilIdle();
  ExpectScoresOf(prompt, recording->context_log_probs());
  EXPECT_TRUE(recording->tokens().empty());
  EXPECT_EQ(recording->summary().reason, FinishReason::kLength);
  EXPECT_EQ(recording->summary().completion_tokens, 0);
}

TEST(EngineScoreTest, OneTokenHasNoScores) {
  EngineBench bench;
  const auto recording = bench.Submit("a", {5}, 0, AskForScores);
  bench.RunUntilIdle();
  EXPECT_TRUE(recording->is_finished());
  EXPECT_TRUE(recording->context_log_probs().chosen.empty());
}

TEST(EngineScoreTest, ComesInPiecesWithinTheRowLimitAndInOrderBeforeNewTokens) {
  for (const int32_t max_context_rows : {1, 3, 7, 64}) {
    for (const int32_t max_step_tokens : {2, 5, 512}) {
      EngineBench bench(EngineOptions{.max_step_tokens = max_step_tokens, .max_context_rows = max_context_rows});
      const std::vector<int32_t> first = MakePrompt(40, 1);
      const std::vector<int32_t> second = MakePrompt(23, 2);
      const auto scored = bench.Submit("a", first, 6, AskForScores);
      const auto score_only = bench.Submit("b", second, 0, AskForScores);
      const auto plain = bench.Submit("c", MakePrompt(30, 3), 6);
      bench.RunUntilIdle();
      ExpectScoresOf(first, scored->context_log_probs());
      ExpectScoresOf(second, score_only->context_log_probs());
      EXPECT_EQ(scored->tokens(), ExpectedGreedy(first, 6));
      EXPECT_EQ(plain->tokens(), ExpectedGreedy(MakePrompt(30, 3), 6));
      for (const int32_t rows : bench.log.step_logit_rows) EXPECT_LE(rows, max_context_rows + 3);
    }
  }
}

}  // namespace
}  // namespace naiad::testing
