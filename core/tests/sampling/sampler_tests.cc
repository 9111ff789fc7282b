#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "sampling/logits_rules.h"
#include "sampling/sampler.h"

namespace naiad {
namespace {

constexpr int32_t kVocabularySize = 4;

std::optional<int32_t> SampleOnce(const SamplingOptions& options, std::vector<float> logits) {
  SamplerScratch scratch;
  return Sampler(options, 0, {}, kVocabularySize).Sample(logits, &scratch);
}

TEST(SamplerTest, IsGreedyByDefaultWithTheLowestIdOnTies) { EXPECT_EQ(SampleOnce({}, {1, 7, 7, 2}), 1); }

TEST(SamplerTest, FindsNothingInARowWithoutFiniteMaximum) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  for (const float temperature : {0.0F, 0.7F}) {
    SamplingOptions options;
    options.temperature = temperature;
    EXPECT_EQ(SampleOnce(options, {kNan, kNan, kNan, kNan}), std::nullopt);
    EXPECT_EQ(SampleOnce(options, {-kInfinity, -kInfinity, -kInfinity, -kInfinity}), std::nullopt);
    EXPECT_EQ(SampleOnce(options, {1, kInfinity, 2, 3}), std::nullopt);
    EXPECT_EQ(SampleOnce(options, {kNan, -kInfinity, 2, -kInfinity}), 2);
  }
}

TEST(SamplerTest, TokensComeAsOftenAsTheirProbabilitySays) {
  SamplingOptions options;
  options.temperature = 2.0F;
  const std::vector<float> logits = {0.0F, 2.0F * std::log(2.0F), 2.0F * std::log(3.0F), 2.0F * std::log(4.0F)};
  Sampler sampler(options, 0, {}, kVocabularySize);
  SamplerScratch scratch;
  std::map<int32_t, int32_t> counts;
  constexpr int32_t kDraws = 20'000;
  for (int32_t i = 0; i < kDraws; ++i) {
    std::vector<float> row = logits;
    const std::optional<int32_t> token_id = sampler.Sample(row, &scratch);
    ++counts[token_id.value()];
    sampler.OnToken(TokenOrigin::kGenerated, *token_id);
  }
  // Standard deviation at most 70; six of them.
  for (int32_t i = 0; i < kVocabularySize; ++i) EXPECT_NEAR(counts[i], kDraws * (i + 1) / 10, 420);
}

TEST(SamplerTest, TheSameSeedAndPositionGiveTheSameToken) {
  SamplingOptions options;
  options.temperature = 1.0F;
  options.seed = 42;
  std::vector<int32_t> first;
  for (int32_t round = 0; round < 2; ++round) {
    Sampler sampler(options, 0, {}, kVocabularySize);
    SamplerScratch scratch;
    std::vector<int32_t> tokens;
    for (int32_t i = 0; i < 50; ++i) {
      std::vector<float> row = {1, 1, 1, 1};
      tokens.push_back(sampler.Sample(row, &scratch).value());
      sampler.OnToken(TokenOrigin::kGenerated, tokens.back());
    }
    if (round == 0) first = tokens;
    EXPECT_EQ(tokens, first);
  }
}

TEST(SamplerTest, PromptTokensDoNotMoveTheDraws) {
  SamplingOptions options;
  options.temperature = 1.0F;
  Sampler with_prompt(options, 0, {}, kVocabularySize);
  for (int32_t i = 0; i < 7; ++i) with_prompt.OnToken(TokenOrigin::kPrompt, 1);
  SamplerScratch scratch;
  std::vector<float> row = {1, 1, 1, 1};
  EXPECT_EQ(with_prompt.Sample(row, &scratch), SampleOnce(options, {1, 1, 1, 1}));
}

TEST(SamplerTest, TopKOfOneIsGreedyAtAnyTemperature) {
  SamplingOptions options;
  options.top_k = 1;
  options.temperature = 50.0F;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    options.seed = seed;
    EXPECT_EQ(SampleOnce(options, {1, 2, 4, 3}), 2);
  }
}

TEST(SamplerTest, TopKDrawsOnlyFromTheMostLikely) {
  SamplingOptions options;
  options.top_k = 2;
  options.temperature = 50.0F;
  std::map<int32_t, int32_t> counts;
  for (options.seed = 0; options.seed < 100; ++options.seed) ++counts[SampleOnce(options, {1, 2, 4, 3}).value()];
  EXPECT_EQ(counts.size(), 2U);
  EXPECT_GT(counts[2], 20);
  EXPECT_GT(counts[3], 20);
}

TEST(MakeLogitsRulesTest, LeavesOutRulesWithoutEffect) {
  EXPECT_TRUE(MakeLogitsRules({}, 0, std::vector<int32_t>{1}, kVocabularySize).empty());
  EXPECT_TRUE(MakeLogitsRules({}, 3, {}, kVocabularySize).empty());
  EXPECT_TRUE(MakeCandidateFilters({}).empty());
  SamplingOptions neutral;
  neutral.temperature = 1.0F;
  EXPECT_TRUE(MakeCandidateFilters(neutral).empty());
}

TEST(MakeLogitsRulesTest, PutsRulesInTheDocumentedOrder) {
  SamplingOptions options;
  options.logit_bias = {{1, 1.0F}};
  options.repetition_penalty = 1.5F;
  options.presence_penalty = 0.5F;
  const auto rules = MakeLogitsRules(options, 2, std::vector<int32_t>{1}, kVocabularySize);
  ASSERT_EQ(rules.size(), 4U);
  EXPECT_NE(dynamic_cast<LogitBiasRule*>(rules[0].get()), nullptr);
  EXPECT_NE(dynamic_cast<RepetitionPenaltyRule*>(rules[1].get()), nullptr);
  EXPECT_NE(dynamic_cast<FrequencyPenaltyRule*>(rules[2].get()), nullptr);
  EXPECT_NE(dynamic_cast<MinTokensRule*>(rules[3].get()), nullptr);
}

TEST(MakeLogitsRulesTest, ABiasDoesNotLiftAForbiddenStopToken) {
  SamplingOptions options;
  options.logit_bias = {{1, 100.0F}};
  const Sampler sampler(options, 1, std::vector<int32_t>{1}, kVocabularySize);
  SamplerScratch scratch;
  std::vector<float> row = {1, 2, 3, 4};
  EXPECT_EQ(sampler.Sample(row, &scratch), 3);
}

TEST(MakeCandidateFiltersTest, PutsFiltersInTheDocumentedOrder) {
  SamplingOptions options;
  options.temperature = 0.5F;
  options.top_k = 5;
  options.top_p = 0.9F;
  options.min_p = 0.1F;
  const auto filters = MakeCandidateFilters(options);
  ASSERT_EQ(filters.size(), 3U);
  EXPECT_NE(dynamic_cast<TemperatureFilter*>(filters[0].get()), nullptr);
  EXPECT_NE(dynamic_cast<TopPFilter*>(filters[1].get()), nullptr);
  EXPECT_NE(dynamic_cast<MinPFilter*>(filters[2].get()), nullptr);
}

}  // namespace
}  // namespace naiad
