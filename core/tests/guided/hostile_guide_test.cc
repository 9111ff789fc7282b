// Guides that were made to hurt: none may crash, hang or take the engine thread for long. What becomes of each
// (refused, or followed for a while) is free.
#include <gtest/gtest.h>

#include <cctype>
#include <chrono>
#include <functional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "guided/grammar_rule.h"
#include "guided_test_support.h"

namespace naiad {
namespace {

using guided_test::AllowedTokens;
using guided_test::OptionsFor;
using guided_test::TokenizerFile;

std::string Repeat(const std::string& text, int count) {
  std::string result;
  for (int i = 0; i < count; ++i) result += text;
  return result;
}

// The items, made by number, with commas between them.
std::string List(int count, const std::function<std::string(int)>& item) {
  std::ostringstream list;
  for (int i = 0; i < count; ++i) list << (i > 0 ? "," : "") << item(i);
  return list.str();
}

std::string ObjectOf(int properties, bool required) {
  const auto name = [](int i) { return std::string("\"p").append(std::to_string(i)).append("\""); };
  std::ostringstream schema;
  schema << R"({"type":"object","properties":{)"
         << List(properties, [&](int i) { return name(i).append(R"(:{"type":"string"})"); }) << "}";
  if (required) schema << R"(,"required":[)" << List(properties, name) << "]";
  schema << "}";
  return schema.str();
}

std::string EnumOf(int values) {
  std::ostringstream schema;
  schema << R"({"enum":[)" << List(values, [](int i) { return std::to_string(i * 7919); }) << "]}";
  return schema.str();
}

std::string AlternativesOf(int count) {
  const auto one = [](int i) {
    return std::string(R"({"type":"string","maxLength":)").append(std::to_string(900 + i)).append("}");
  };
  std::ostringstream schema;
  schema << R"({"anyOf":[)" << List(count, one) << "]}";
  return schema.str();
}

struct HostileGuide {
  const char* name;
  GuideSpec guide;
};

std::vector<HostileGuide> HostileGuides() {
  constexpr auto kSchema = GuideSpec::Kind::kJsonSchema;
  constexpr auto kRegex = GuideSpec::Kind::kRegex;
  return {
      {"a loop of references",
       {kSchema, R"({"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"})"}},
      {"never ends", {kSchema, R"({"properties":{"x":{"$ref":"#"}},"required":["x"]})"}},
      {"deep", {kSchema, Repeat(R"({"type":"array","items":)", 60) + "{}" + Repeat("}", 60)}},
      {"deep alternatives", {kSchema, Repeat(R"({"anyOf":[{"type":"null"},)", 30) + "{}" + Repeat("]}", 30)}},
      {"many optional properties", {kSchema, ObjectOf(2'000, false)}},
      {"many required properties", {kSchema, ObjectOf(1'200, true)}},
      {"huge enumeration", {kSchema, EnumOf(5'000)}},
      {"long strings, many ways", {kSchema, AlternativesOf(100)}},
      {"nested counts",
       {kSchema,
        R"({"maxItems":1000,"items":{"maxItems":1000,"items":{"maxItems":1000,"items":{"type":"string","maxLength":1000}}}})"}},
      {"many times", {kRegex, "a{1,10000}"}},
      {"anything, many times", {kRegex, ".{1,10000}"}},
      {"times times times", {kRegex, "((.{1,30}){1,30}){1,30}"}},
      {"times of times of one", {kRegex, "((a{1,1000}){1,1000}){1,1000}"}},
      {"many options", {kRegex, Repeat("(a|b)?", 1'000)}},
      {"many stars", {kRegex, Repeat("[a-z]*x?", 500)}},
      {"ambiguous", {kRegex, "((.|..)*(.|...)*)*"}},
      {"catastrophic", {kRegex, "(a+)+b"}},
      {"catastrophic, stars", {kRegex, "(a*)*(a*)*(a*)*b"}},
      {"exponential automaton", {kRegex, "(a|b)*a(a|b){1000}"}},
      {"long text", {kRegex, std::string(65'536, 'a')}},
      {"many alternatives", {kRegex, Repeat("abc|", 16'000) + "x"}},
      {"2 to the 30 states, made deterministic", {kRegex, ".*a" + std::string(30, '.')}},
      {"empty loop", {kRegex, "(a?)*(b?)+"}},
  };
}

class HostileGuideTest : public ::testing::TestWithParam<HostileGuide> {};

TEST_P(HostileGuideTest, IsRefusedOrFollowedInBoundedTime) {
  const TokenizerFile tokenizer;
  GuideCompilerOptions options = OptionsFor(tokenizer);
  options.compile_limit = std::chrono::milliseconds(300);
  GuideCompiler compiler(options);
  std::shared_ptr<const Grammar> grammar;
  const Status status = compiler.Compile(GetParam().guide, &grammar);
  if (!status.ok()) {
    EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument);
    EXPECT_TRUE(status.message().starts_with("guided_decoding_guide: ")) << status.message();
    return;
  }
  const std::unique_ptr<LogitsRule> rule = grammar->MakeRule();
  for (size_t i = 0; i < 100; ++i) {
    const std::vector<int32_t> allowed = AllowedTokens(*rule);
    if (allowed.empty()) {  // Has used up its time.
      EXPECT_EQ(rule->status().code(), ErrorCode::kInvalidArgument);
      EXPECT_EQ(rule->status().message(),
                "guided_decoding_guide: takes more than 20 ms of processor time a token to follow");
      return;
    }
    EXPECT_TRUE(rule->status().ok());
    const int32_t next = allowed[i * 31 % allowed.size()];
    if (next == guided_test::kEos) return;
    rule->OnToken(TokenOrigin::kGenerated, next);
  }
}

INSTANTIATE_TEST_SUITE_P(All, HostileGuideTest, ::testing::ValuesIn(HostileGuides()),
                         [](const ::testing::TestParamInfo<HostileGuide>& guide) {
                           std::string name = guide.param.name;
                           std::erase_if(name, [](char character) { return std::isalnum(character) == 0; });
                           return name;
                         });

TEST(HostileGuide, ASequenceWhoseGrammarTakesTooLongToFollowEndsAndSaysWhy) {
  const TokenizerFile tokenizer;
  const xgrammar::TokenizerInfo vocabulary(tokenizer.texts(), xgrammar::VocabType::RAW, guided_test::kVocabularySize,
                                           std::vector<int32_t>{guided_test::kEos});
  xgrammar::GrammarCompiler compiler(vocabulary, 1, false);
  GrammarRule rule(compiler.CompileRegex("(a|b)*a(a|b){30}"), guided_test::kVocabularySize,
                   {.per_token = std::chrono::milliseconds(1), .most_saved = std::chrono::microseconds(0)});
  for (int i = 0; i < 1'000 && rule.status().ok(); ++i) {
    if (!AllowedTokens(rule).empty()) rule.OnToken(TokenOrigin::kGenerated, tokenizer.Id("a"));
  }
  EXPECT_EQ(rule.status().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(rule.status().message(), "guided_decoding_guide: takes more than 1 ms of processor time a token to follow");
  EXPECT_TRUE(AllowedTokens(rule).empty());
}

TEST(HostileGuide, WhatTakesTooLongToCompileIsSaid) {
  const TokenizerFile tokenizer;
  GuideCompilerOptions options = OptionsFor(tokenizer);
  options.compile_limit = std::chrono::milliseconds(20);
  std::shared_ptr<const Grammar> grammar;
  const Status status = GuideCompiler(options).Compile({GuideSpec::Kind::kRegex, Repeat("(a|b)?", 1'000)}, &grammar);
  EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "guided_decoding_guide: the guide takes too long");
}

}  // namespace
}  // namespace naiad
