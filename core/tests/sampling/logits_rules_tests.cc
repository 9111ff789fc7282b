#include <gtest/gtest.h>

#include <limits>

#include "sampling/logits_rules.h"

namespace naiad {
namespace {

using Row = std::vector<float>;

constexpr float kForbidden = -std::numeric_limits<float>::infinity();

Row After(const LogitsRule& rule, Row row, int32_t generated_tokens = 0) {
  rule.Apply(generated_tokens, row);
  return row;
}

TEST(LogitBiasRuleTest, AddsToTheNamedTokensOnly) {
  const LogitBiasRule rule({{1, 2.5F}, {3, -1.0F}, {1, 0.5F}});
  EXPECT_EQ(After(rule, {1, 1, 1, 1}), (Row{1, 4, 1, 0}));
}

TEST(RepetitionPenaltyRuleTest, DividesPositiveAndMultipliesNegativeLogitsOnceATokenSeen) {
  RepetitionPenaltyRule rule(2.0F, 5);
  EXPECT_EQ(After(rule, {4, -4, 4, 0, 4}), (Row{4, -4, 4, 0, 4}));
  rule.OnToken(TokenOrigin::kPrompt, 0);
  rule.OnToken(TokenOrigin::kGenerated, 1);
  rule.OnToken(TokenOrigin::kGenerated, 1);
  rule.OnToken(TokenOrigin::kGenerated, 3);
  EXPECT_EQ(After(rule, {4, -4, 4, 0, 4}), (Row{2, -8, 4, 0, 4}));
}

TEST(FrequencyPenaltyRuleTest, CountsGeneratedTokensOnly) {
  FrequencyPenaltyRule rule(1.0F, 0.25F);
  rule.OnToken(TokenOrigin::kPrompt, 0);
  rule.OnToken(TokenOrigin::kGenerated, 1);
  rule.OnToken(TokenOrigin::kGenerated, 2);
  rule.OnToken(TokenOrigin::kGenerated, 2);
  EXPECT_EQ(After(rule, {5, 5, 5, 5}), (Row{5, 3.75F, 3.5F, 5}));
}

TEST(MinTokensRuleTest, ForbidsStopTokensUntilThereAreEnoughTokens) {
  const MinTokensRule rule(2, {0, 2});
  EXPECT_EQ(After(rule, {1, 2, 3}, 0), (Row{kForbidden, 2, kForbidden}));
  EXPECT_EQ(After(rule, {1, 2, 3}, 1), (Row{kForbidden, 2, kForbidden}));
  EXPECT_EQ(After(rule, {1, 2, 3}, 2), (Row{1, 2, 3}));
}

}  // namespace
}  // namespace naiad
