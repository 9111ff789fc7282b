#include "guided/guide_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <tuple>

namespace naiad {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Checked(const std::string& schema) {
  GuideSpec checked;
  const Status status = CheckGuide({GuideSpec::Kind::kJsonSchema, schema}, &checked);
  if (status.ok()) return checked.text;
  EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument);
  return "refused: " + status.message();
}

TEST(GuideCheck, KeepsWhatItCanEnforce) {
  const std::string schema = R"({"type":"object","properties":{"a":{"enum":["x"],"type":"string"}},"required":["a"]})";
  EXPECT_EQ(json::parse(Checked(schema)), json::parse(schema));
}

TEST(GuideCheck, KeepsTheOrderOfProperties) {
  const std::string schema = R"({"properties":{"b":{"type":"null"},"a":{"type":"null"}},"required":["b","a"]})";
  EXPECT_EQ(Checked(schema), schema);
}

TEST(GuideCheck, RewritesPatternsSoThatTheyStayInsideAString) {
  const json checked = json::parse(Checked(R"({"properties":{"a":{"type":"string","pattern":"^[!-#]$"}}})"));
  EXPECT_EQ(checked["properties"]["a"]["pattern"], R"([\u{21}\u{23}])");
  const json of_keys = json::parse(Checked(R"({"type":"object","patternProperties":{"^x_":{"type":"null"}}})"));
  EXPECT_EQ(of_keys["patternProperties"].begin().key(), R"(x\u{5F})");
}

TEST(GuideCheck, RefusesWhatWouldNotBeEnforced) {
  const std::tuple<const char*, const char*> cases[] = {
      {R"({"not":{}})", "\"not\" cannot be enforced"},
      {R"({"type":"array","uniqueItems":true})", "\"uniqueItems\" cannot be enforced"},
      {R"({"properties":{"a":{"type":"integer","multipleOf":3}}})", "\"multipleOf\" cannot be enforced"},
      {R"({"anyOf":[{"type":"null"}],"properties":{}})", "\"properties\" beside \"anyOf\""},
      {R"({"$defs":{"a":{}},"$ref":"#/$defs/a","minLength":1})", "\"minLength\" beside \"$ref\""},
      {R"({"anyOf":[{}],"oneOf":[{}]})", "beside \"anyOf\""},
      {R"({"allOf":[{},{}]})", "\"allOf\" of several schemas"},
      {R"({"type":"string","pattern":"a","maxLength":3})", "\"maxLength\" beside \"pattern\""},
      {R"({"type":"string","format":"date","minLength":3})", "\"format\" beside a bound"},
      {R"({"patternProperties":{"a":{}},"properties":{"b":{}}})", "beside \"properties\""},
      {R"({"type":"integer","minimum":1,"exclusiveMinimum":3})", "\"minimum\" beside \"exclusiveMinimum\""},
      {R"({"type":["integer","null"],"maximum":1.5})", "\"maximum\" must be a whole number"},
      {R"({"items":{"anyOf":[{"if":{}}]}})", "\"if\" cannot be enforced"},
  };
  for (const auto& [schema, reason] : cases) EXPECT_THAT(Checked(schema), HasSubstr(reason)) << schema;
}

TEST(GuideCheck, RefusesSchemasThatAreNone) {
  const std::tuple<const char*, const char*> cases[] = {
      {"", "not valid JSON"},
      {"{not json", "not valid JSON, at byte"},
      {"{} {}", "not valid JSON"},
      {"[]", "must be a JSON object"},
      {"true", "must be a JSON object"},
      {R"({"items":3})", "an object, true or false"},
      {R"({"properties":[]})", "\"properties\" must be an object"},
      {R"({"anyOf":[]})", "\"anyOf\" must be a list"},
      {R"({"anyOf":{}})", "\"anyOf\" must be a list"},
      {R"({"pattern":3})", "\"pattern\" must be a text"},
      {R"({"pattern":"(a"})", "\"pattern\" has a group that is not closed"},
      {R"({"$ref":"https://example.org/schema"})", "must start with \"#\""},
      {R"({"$ref":"#/$defs/a"})", "leads nowhere"},
      {R"({"$ref":"#/~9"})", "leads nowhere"},
      {R"({"$ref":7})", "must start with \"#\""},
  };
  for (const auto& [schema, reason] : cases) {
    EXPECT_THAT(Checked(schema), StartsWith("refused: ")) << schema;
    EXPECT_THAT(Checked(schema), HasSubstr(reason)) << schema;
  }
}

TEST(GuideCheck, BoundsCounts) {
  EXPECT_THAT(Checked(R"({"type":"string","maxLength":10000})"), HasSubstr("10000"));
  for (const char* count : {"10001", "-1", "1.5", "1000000000000000000000", "\"3\""}) {
    EXPECT_THAT(Checked(std::string(R"({"type":"string","maxLength":)") + count + "}"),
                HasSubstr("\"maxLength\" must be a whole number from 0 to 10000"));
  }
}

TEST(GuideCheck, BoundsNestingAndSizeWithoutReadingFurther) {
  const auto nested = [](int levels) {
    std::string schema;
    for (int i = 0; i < levels; ++i) schema += R"({"items":)";
    return schema + "{}" + std::string(static_cast<size_t>(levels), '}');
  };
  EXPECT_EQ(json::parse(Checked(nested(60))), json::parse(nested(60)));
  EXPECT_THAT(Checked(nested(70)), HasSubstr("nests deeper than 64"));
  EXPECT_THAT(Checked(nested(6'000)), HasSubstr("nests deeper than 64"));
  EXPECT_THAT(Checked(std::string(65'536, '[')), HasSubstr("nests deeper than 64"));
  EXPECT_THAT(Checked(std::string(65'537, ' ')), HasSubstr("65537 bytes; at most 65536"));
}

TEST(GuideCheck, ChecksExpressionsAndTakesAnyJsonAsItIs) {
  GuideSpec checked;
  EXPECT_THAT(CheckGuide({GuideSpec::Kind::kRegex, "(a"}, &checked).message(), HasSubstr("not closed"));
  ASSERT_TRUE(CheckGuide({GuideSpec::Kind::kRegex, "a."}, &checked).ok());
  EXPECT_THAT(checked.text, StartsWith("a["));
  ASSERT_TRUE(CheckGuide({GuideSpec::Kind::kJson, ""}, &checked).ok());
  EXPECT_EQ(checked.kind, GuideSpec::Kind::kJson);
}

}  // namespace
}  // namespace naiad
