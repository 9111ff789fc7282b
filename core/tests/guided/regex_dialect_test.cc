#include "guided/regex_dialect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <tuple>

namespace naiad {
namespace {

using ::testing::HasSubstr;

std::string Translated(std::string_view regex, RegexPlace place = RegexPlace::kText) {
  std::string result;
  const Status status = TranslateRegex(regex, place, &result);
  return status.ok() ? result : "refused: " + status.message();
}

TEST(RegexDialect, KeepsWhatBothSidesMeanAlike) {
  EXPECT_EQ(Translated("a(bc|d)*e{2,3}f+?"), "a(bc|d)*e{2,3}f+");
  EXPECT_EQ(Translated("^ab$"), "ab");
  EXPECT_EQ(Translated("(?:a)(?<name>b)(?P<n>c)"), "(a)(b)(c)");
  EXPECT_EQ(Translated("^a$|^b$"), "a|b");
  EXPECT_EQ(Translated(""), "");
}

TEST(RegexDialect, SpellsCharactersThatMeanSomethingElsewhere) {
  EXPECT_EQ(Translated(R"(\.\n\x41\u00e9)"), R"(\u{2E}\u{A}A\u{E9})");
  EXPECT_EQ(Translated("}]"), R"(\u{7D}\u{5D})");
}

TEST(RegexDialect, TheDotMatchesNoLineBreak) {
  EXPECT_EQ(Translated("."), R"([\u{0}-\u{9}\u{B}-\u{C}\u{E}-\u{10FFFF}])");
}

TEST(RegexDialect, InAJsonStringNothingMatchesWhatWouldNeedAnEscape) {
  EXPECT_EQ(Translated(".", RegexPlace::kJsonString), R"([\u{20}-\u{21}\u{23}-\u{5B}\u{5D}-\u{10FFFF}])");
  EXPECT_EQ(Translated("[ -~]", RegexPlace::kJsonString), R"([\u{20}-\u{21}\u{23}-\u{5B}\u{5D}-\u{7E}])");
  EXPECT_THAT(Translated("a\"b", RegexPlace::kJsonString), HasSubstr("not supported in a JSON string"));
  EXPECT_THAT(Translated(R"(\\)", RegexPlace::kJsonString), HasSubstr("not supported in a JSON string"));
  EXPECT_THAT(Translated(R"(["\\])", RegexPlace::kJsonString), HasSubstr("matches nothing"));
}

TEST(RegexDialect, ReadsCharacterClasses) {
  EXPECT_EQ(Translated("[a-cx]"), "[a-cx]");
  EXPECT_EQ(Translated("[]a]"), R"([\u{5D}a])");
  EXPECT_EQ(Translated("[a-]"), R"([\u{2D}a])");
  EXPECT_EQ(Translated(R"([\d_])"), R"([0-9\u{5F}])");
  EXPECT_EQ(Translated("[b-da-c]"), "[a-d]");
  EXPECT_EQ(Translated(R"([^\x00-\u0060b-\uffff])"), R"([a\u{10000}-\u{10FFFF}])");
}

TEST(RegexDialect, ACaretInAClassIsNeverItsFirstCharacter) {
  EXPECT_EQ(Translated(R"([\^a])"), R"([a\u{5E}])");
  EXPECT_EQ(Translated(R"([\^-a])"), R"([\u{5F}-a\u{5E}])");
  EXPECT_EQ(Translated(R"([\^])"), R"(\u{5E})");
}

TEST(RegexDialect, RefusesWhatItCannotDoAndSaysWhat) {
  const std::tuple<const char*, const char*> cases[] = {
      {"(a", "not closed"},
      {"a)", "closes a group"},
      {"[a", "ends in the middle"},
      {"[z-a]", "backwards"},
      {"*a", "repetition of nothing"},
      {"a**", "repetition of nothing or of a repetition"},
      {"a{2}{3}", "repetition of nothing or of a repetition"},
      {"a{", "without a count"},
      {"a{3,2}", "fewer"},
      {"a{1,10001}", "more than 10000"},
      {"a{99999999999999999999}", "more than 10000"},
      {"a|", "empty group or alternative"},
      {"()", "empty group or alternative"},
      {"(?=a)b", "only (?: is supported"},
      {"(?<=a)b", "looks behind"},
      {"(?i)a", "only (?: is supported"},
      {R"((a)\1)", "\\1, which is not supported"},
      {R"(\bfoo)", "\\b, which is not supported"},
      {R"(\p{L})", "\\p, which is not supported"},
      {R"(\ud83d)", "half a character"},
      {"a^b", "^ elsewhere"},
      {"a$b", "$ elsewhere"},
      {"\xFF", "UTF-8"},
      {"\xC3", "UTF-8"},
      {"\\", "ends in the middle"},
  };
  for (const auto& [regex, reason] : cases) {
    EXPECT_THAT(Translated(regex), HasSubstr("refused: the expression")) << regex;
    EXPECT_THAT(Translated(regex), HasSubstr(reason)) << regex;
  }
}

TEST(RegexDialect, BoundsTheNestingOfGroups) {
  const auto nested = [](size_t depth) { return std::string(depth, '(') + "a" + std::string(depth, ')'); };
  EXPECT_EQ(Translated(nested(64)), nested(64));
  EXPECT_THAT(Translated(nested(65)), HasSubstr("deeper than 64"));
  EXPECT_THAT(Translated(nested(30'000)), HasSubstr("deeper than 64"));
}

}  // namespace
}  // namespace naiad
