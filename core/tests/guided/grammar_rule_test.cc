#include "guided/grammar_rule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "guided_test_support.h"
#include "sampling/sampler.h"

namespace naiad {
namespace {

using guided_test::AllowedTokens;
using guided_test::kEos;
using guided_test::kVocabularySize;
using guided_test::OptionsFor;
using guided_test::TokenizerFile;

std::shared_ptr<const Grammar> CompileRegex(const TokenizerFile& tokenizer, const std::string& regex) {
  std::shared_ptr<const Grammar> grammar;
  const Status status = GuideCompiler(OptionsFor(tokenizer)).Compile({GuideSpec::Kind::kRegex, regex}, &grammar);
  EXPECT_TRUE(status.ok()) << status.message();
  return grammar;
}

TEST(MaskLogits, ForbidsExactlyTheTokensWhoseBitIsNotSet) {
  constexpr size_t kTokens = 101;  // Not a multiple of the word size.
  const std::vector<int32_t> mask = {0, -1, static_cast<int32_t>(0x80000001), 0b10101};
  std::vector<float> logits(kTokens);
  std::iota(logits.begin(), logits.end(), 1.0F);
  MaskLogits(mask, logits);
  for (size_t id = 0; id < kTokens; ++id) {
    const bool allowed = (static_cast<uint32_t>(mask[id / 32]) >> id % 32 & 1U) != 0;
    EXPECT_EQ(logits[id], allowed ? static_cast<float>(id + 1) : -std::numeric_limits<float>::infinity()) << id;
  }
}

TEST(GrammarRule, TheEndIsAllowedWhereTheTextMayEndAndAloneWhereItMust) {
  const TokenizerFile tokenizer;
  const std::unique_ptr<LogitsRule> rule = CompileRegex(tokenizer, "ab?")->MakeRule();
  const int32_t a = tokenizer.Id("a");
  const int32_t b = tokenizer.Id("b");
  EXPECT_EQ(AllowedTokens(*rule), std::vector<int32_t>{a});
  rule->OnToken(TokenOrigin::kGenerated, a);
  EXPECT_THAT(AllowedTokens(*rule), ::testing::UnorderedElementsAre(kEos, b));
  rule->OnToken(TokenOrigin::kGenerated, b);
  EXPECT_EQ(AllowedTokens(*rule), std::vector<int32_t>{kEos});
}

TEST(GrammarRule, ThePromptDoesNotCount) {
  const TokenizerFile tokenizer;
  const std::unique_ptr<LogitsRule> rule = CompileRegex(tokenizer, "a")->MakeRule();
  rule->OnToken(TokenOrigin::kPrompt, tokenizer.Id("x"));
  EXPECT_EQ(AllowedTokens(*rule), std::vector<int32_t>{tokenizer.Id("a")});
}

TEST(GrammarRule, FollowsALongTextThatIsToldWithoutAskingInBetween) {
  const TokenizerFile tokenizer;
  const std::unique_ptr<LogitsRule> rule = CompileRegex(tokenizer, "(ab)+")->MakeRule();
  for (int i = 0; i < 20'000; ++i) {
    rule->OnToken(TokenOrigin::kGenerated, tokenizer.Id("a"));
    rule->OnToken(TokenOrigin::kGenerated, tokenizer.Id("b"));
  }
  EXPECT_TRUE(rule->status().ok()) << rule->status().message();
  EXPECT_THAT(AllowedTokens(*rule), ::testing::Contains(tokenizer.Id("a")));
}

TEST(GrammarRule, SequencesOfOneGrammarGoTheirOwnWays) {
  const TokenizerFile tokenizer;
  const auto grammar = CompileRegex(tokenizer, "ax|by");
  const std::unique_ptr<LogitsRule> first = grammar->MakeRule();
  const std::unique_ptr<LogitsRule> second = grammar->MakeRule();
  first->OnToken(TokenOrigin::kGenerated, tokenizer.Id("a"));
  second->OnToken(TokenOrigin::kGenerated, tokenizer.Id("b"));
  EXPECT_EQ(AllowedTokens(*first), std::vector<int32_t>{tokenizer.Id("x")});
  EXPECT_EQ(AllowedTokens(*second), std::vector<int32_t>{tokenizer.Id("y")});
}

TEST(GrammarRule, OutlivesItsCompilerAndGrammar) {
  std::unique_ptr<LogitsRule> rule;
  const TokenizerFile tokenizer;
  rule = CompileRegex(tokenizer, "a+")->MakeRule();
  rule->OnToken(TokenOrigin::kGenerated, tokenizer.Id("a"));
  EXPECT_THAT(AllowedTokens(*rule), ::testing::Contains(tokenizer.Id("aa")));
}

TEST(GrammarRule, AskingTwiceChangesNothing) {
  const TokenizerFile tokenizer;
  const std::unique_ptr<LogitsRule> rule = CompileRegex(tokenizer, "(ab|ac)+")->MakeRule();
  rule->OnToken(TokenOrigin::kGenerated, tokenizer.Id("a"));
  const std::vector<int32_t> once = AllowedTokens(*rule);
  EXPECT_EQ(AllowedTokens(*rule), once);
}

TEST(GrammarRule, NothingFollowsATokenOutsideTheGrammarOrTheEnd) {
  const TokenizerFile tokenizer;
  const auto grammar = CompileRegex(tokenizer, "a*");
  for (const int32_t last : {tokenizer.Id("x"), kEos, guided_test::kSpecial, kVocabularySize, -1}) {
    const std::unique_ptr<LogitsRule> rule = grammar->MakeRule();
    rule->OnToken(TokenOrigin::kGenerated, last);
    EXPECT_TRUE(AllowedTokens(*rule).empty()) << last;
    rule->OnToken(TokenOrigin::kGenerated, tokenizer.Id("a"));
    EXPECT_TRUE(AllowedTokens(*rule).empty()) << last;
  }
}

TEST(GrammarRule, TheSamplerPutsItAfterAllOtherRules) {
  const TokenizerFile tokenizer;
  const int32_t wanted = tokenizer.Id("x");
  SamplingOptions options;
  options.logit_bias = {{wanted, 1000.0F}};
  Sampler sampler(options, 0, std::vector<int32_t>{kEos}, kVocabularySize, CompileRegex(tokenizer, "ab")->MakeRule());
  SamplerScratch scratch;
  std::string text;
  for (int i = 0; i < 3; ++i) {
    std::vector<float> logits(kVocabularySize, 0.0F);
    const std::optional<int32_t> token = sampler.Sample(logits, &scratch);
    ASSERT_TRUE(token.has_value());
    sampler.OnToken(TokenOrigin::kGenerated, *token);
    text += *token == kEos ? "." : tokenizer.texts()[static_cast<size_t>(*token)];
  }
  EXPECT_EQ(text, "ab.");
}

}  // namespace
}  // namespace naiad
