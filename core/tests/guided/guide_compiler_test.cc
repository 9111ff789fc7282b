#include "guided/guide_compiler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "guided_test_support.h"

namespace naiad {
namespace {

using guided_test::AllowedTokens;
using guided_test::DrawText;
using guided_test::kEos;
using guided_test::Matches;
using guided_test::OptionsFor;
using guided_test::TokenizerFile;
using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class GuideCompilerTest : public ::testing::Test {
 protected:
  std::shared_ptr<const Grammar> Compile(GuideSpec::Kind kind, const std::string& text) {
    std::shared_ptr<const Grammar> grammar;
    const Status status = compiler_.Compile({kind, text}, &grammar);
    EXPECT_TRUE(status.ok()) << status.message();
    return grammar;
  }
  std::shared_ptr<const Grammar> Schema(const std::string& text) { return Compile(GuideSpec::Kind::kJsonSchema, text); }
  std::shared_ptr<const Grammar> Regex(const std::string& text) { return Compile(GuideSpec::Kind::kRegex, text); }

  TokenizerFile tokenizer_;
  GuideCompiler compiler_{OptionsFor(tokenizer_)};
};

TEST_F(GuideCompilerTest, ASchemaLetsInWhatFitsIt) {
  const auto grammar = Schema(
      R"({"type":"object","properties":{"n":{"type":"integer","minimum":-5,"maximum":20},"t":{"enum":["x","y"]}},
          "required":["n","t"]})");
  for (const char* text : {R"({"n": 7, "t": "x"})", R"({"n": -5, "t": "y"})"}) {
    EXPECT_TRUE(Matches(*grammar, tokenizer_, text)) << text;
  }
  for (const char* text :
       {"", "{}", R"({"n": 7})", R"({"n": 21, "t": "x"})", R"({"n": 7, "t": "z"})", R"({"n": 7, "t": "x", "u": 1})",
        R"({"t": "x", "n": 7})", R"({"n":7,"t":"x"})", R"({"n": 7, "t": "x"} )"}) {
    EXPECT_FALSE(Matches(*grammar, tokenizer_, text)) << text;
  }
}

// The automaton stays as it is, with a state for each place where the "a" may have been.
TEST_F(GuideCompilerTest, AnExpressionWithTooManyDeterministicStatesLetsInWhatItShould) {
  const auto grammar = Regex("[ab]*a" + std::string(25, '.'));
  const std::string end(25, 'b');
  EXPECT_TRUE(Matches(*grammar, tokenizer_, "a" + end));
  EXPECT_TRUE(Matches(*grammar, tokenizer_, "bbaba" + end));
  EXPECT_TRUE(Matches(*grammar, tokenizer_, "aa" + end));
  EXPECT_FALSE(Matches(*grammar, tokenizer_, "b" + end));
  EXPECT_FALSE(Matches(*grammar, tokenizer_, "a" + end.substr(1)));
}

TEST_F(GuideCompilerTest, DrawnTextsOfASchemaAreJsonOfItsShape) {
  const auto grammar = Schema(
      R"({"type":"object","properties":{"name":{"type":"string","pattern":"^.{1,5}$"},
          "tags":{"type":"array","items":{"type":"boolean"},"minItems":1,"maxItems":3},"score":{"type":["integer","null"],"minimum":0,"maximum":99}},
          "required":["name","tags","score"]})");
  for (uint32_t seed = 0; seed < 50; ++seed) {
    const std::optional<std::string> text = DrawText(*grammar, tokenizer_, seed, 1'000);
    ASSERT_TRUE(text.has_value());
    const json document = json::parse(*text, nullptr, false);
    ASSERT_TRUE(document.is_object()) << *text;
    EXPECT_EQ(document.size(), 3U) << *text;
    EXPECT_TRUE(document["name"].is_string() && document["tags"].is_array()) << *text;
    EXPECT_TRUE((document["score"].is_number_unsigned() && document["score"] <= 99) || document["score"].is_null())
        << *text;
  }
}

TEST_F(GuideCompilerTest, NumbersStayWithinTheirBounds) {
  const auto age = Schema(R"({"type":"integer","minimum":0,"maximum":120})");
  EXPECT_TRUE(Matches(*age, tokenizer_, "120"));
  EXPECT_FALSE(Matches(*age, tokenizer_, "123"));
  const auto price = Schema(R"({"type":"number","exclusiveMinimum":0,"maximum":1})");
  for (const char* text : {"1", "0.5", "0.001"}) EXPECT_TRUE(Matches(*price, tokenizer_, text)) << text;
  for (const char* text : {"0", "0.0", "1.5", "1.0001", "-1"}) EXPECT_FALSE(Matches(*price, tokenizer_, text)) << text;
}

TEST_F(GuideCompilerTest, ARecursiveSchemaNestsAsDeepAsTheTextWants) {
  const auto grammar = Schema(
      R"({"$defs":{"node":{"type":"object","properties":{"child":{"$ref":"#/$defs/node"}}}},"$ref":"#/$defs/node"})");
  EXPECT_TRUE(Matches(*grammar, tokenizer_, "{}"));
  EXPECT_TRUE(Matches(*grammar, tokenizer_, R"({"child": {"child": {}}})"));
  EXPECT_FALSE(Matches(*grammar, tokenizer_, R"({"child": 3})"));
}

TEST_F(GuideCompilerTest, AnExpressionIsForTheWholeText) {
  const auto grammar = Regex("[a-c]{2,3}(-[0-9]+)?");
  for (const char* text : {"ab", "abc", "ab-0", "cab-1299"}) EXPECT_TRUE(Matches(*grammar, tokenizer_, text)) << text;
  for (const char* text : {"", "a", "abca", "abd", "ab-", "xab"})
    EXPECT_FALSE(Matches(*grammar, tokenizer_, text)) << text;
}

TEST_F(GuideCompilerTest, AnyJsonIsAnObject) {
  const auto grammar = Compile(GuideSpec::Kind::kJson, "");
  EXPECT_TRUE(Matches(*grammar, tokenizer_, R"({"a": [1, true, null, {"b": "c\n"}]})"));
  EXPECT_FALSE(Matches(*grammar, tokenizer_, "[1]"));
  EXPECT_FALSE(Matches(*grammar, tokenizer_, "{'a': 1}"));
}

TEST_F(GuideCompilerTest, CharactersOfSeveralTokensArePutTogether) {
  const auto grammar = Regex("\u00E9+");
  const std::unique_ptr<LogitsRule> rule = grammar->MakeRule();
  EXPECT_EQ(AllowedTokens(*rule), std::vector<int32_t>{tokenizer_.Id("\xC3")});
  rule->OnToken(TokenOrigin::kGenerated, tokenizer_.Id("\xC3"));
  EXPECT_EQ(AllowedTokens(*rule), std::vector<int32_t>{tokenizer_.Id("\xA9")});
}

TEST_F(GuideCompilerTest, SpecialTokensAreNeverLetIn) {
  const std::unique_ptr<LogitsRule> rule = Regex(".*")->MakeRule();
  const std::vector<int32_t> allowed = AllowedTokens(*rule);
  EXPECT_THAT(allowed, ::testing::Not(::testing::Contains(guided_test::kSpecial)));
  EXPECT_THAT(allowed, ::testing::Contains(kEos));
  EXPECT_THAT(allowed, ::testing::Contains(tokenizer_.Id("a\u00E9 b")));
}

TEST_F(GuideCompilerTest, AGuideIsCompiledOnce) {
  const GuideSpec guide{GuideSpec::Kind::kRegex, "a+"};
  EXPECT_EQ(compiler_.Find(guide), nullptr);
  const auto grammar = Regex("a+");
  EXPECT_EQ(compiler_.Find(guide), grammar);
  EXPECT_EQ(Regex("a+"), grammar);
  EXPECT_EQ(compiler_.Find({GuideSpec::Kind::kJsonSchema, "a+"}), nullptr);
}

TEST_F(GuideCompilerTest, TheLeastRecentlyUsedGrammarMakesRoom) {
  GuideCompilerOptions options = OptionsFor(tokenizer_);
  options.cache_bytes = 40'000;
  GuideCompiler compiler(options);
  const auto guide = [](int i) { return GuideSpec{GuideSpec::Kind::kRegex, "[a-z]+" + std::to_string(i)}; };
  for (int i = 0; i < 200; ++i) {
    std::shared_ptr<const Grammar> grammar;
    ASSERT_TRUE(compiler.Compile(guide(i), &grammar).ok());
    ASSERT_NE(compiler.Find(guide(0)), nullptr) << "is used all the time";
  }
  EXPECT_EQ(compiler.Find(guide(1)), nullptr);
  EXPECT_NE(compiler.Find(guide(199)), nullptr);
}

TEST_F(GuideCompilerTest, RefusesWithTheNameOfTheField) {
  std::shared_ptr<const Grammar> grammar;
  for (const GuideSpec& guide :
       {GuideSpec{GuideSpec::Kind::kJsonSchema, "{"}, GuideSpec{GuideSpec::Kind::kRegex, "(a"},
        GuideSpec{GuideSpec::Kind::kJsonSchema, R"({"type":"colour"})"},
        GuideSpec{GuideSpec::Kind::kJsonSchema, R"({"type":"integer","minimum":3,"maximum":2})"},
        GuideSpec{GuideSpec::Kind::kJsonSchema, R"({"$ref":"#"})"}}) {
    const Status status = compiler_.Compile(guide, &grammar);
    EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument) << guide.text;
    EXPECT_THAT(status.message(), StartsWith("guided_decoding_guide: ")) << guide.text;
    EXPECT_THAT(status.message(), ::testing::Not(HasSubstr("\n")));
    EXPECT_EQ(grammar, nullptr);
  }
}

TEST_F(GuideCompilerTest, AModelWithoutTokenizerOrEndTokenFollowsNoGuide) {
  std::shared_ptr<const Grammar> grammar;
  GuideCompilerOptions no_tokenizer = OptionsFor(tokenizer_);
  no_tokenizer.tokenizer_path.clear();
  Status status = GuideCompiler(no_tokenizer).Compile({GuideSpec::Kind::kJson, ""}, &grammar);
  EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("guided_decoding_guide_type: the model has no tokenizer"));

  GuideCompilerOptions no_end = OptionsFor(tokenizer_);
  no_end.eos_token_ids.clear();
  status = GuideCompiler(no_end).Compile({GuideSpec::Kind::kJson, ""}, &grammar);
  EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("the model has no end token"));

  GuideCompilerOptions gone = OptionsFor(tokenizer_);
  gone.tokenizer_path = "/nowhere/tokenizer.json";
  EXPECT_EQ(GuideCompiler(gone).Compile({GuideSpec::Kind::kJson, ""}, &grammar).code(), ErrorCode::kInternal);
}

TEST_F(GuideCompilerTest, ManyThreadsMayCompileAndFollow) {
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < 4; ++i) {
    threads.emplace_back([this, i] {
      for (uint32_t k = 0; k < 8; ++k) {
        const auto grammar = Regex("[ab]{3}" + std::to_string(k % 3));
        const std::optional<std::string> text = DrawText(*grammar, tokenizer_, i * 8 + k, 20);
        EXPECT_EQ(text.value_or("").size(), 4U);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace naiad
