#include "guided/vocabulary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "guided_test_support.h"

namespace naiad {
namespace {

using guided_test::kSpecial;
using guided_test::kVocabularySize;
using guided_test::TokenizerFile;
using ::testing::HasSubstr;

Status ReadText(const std::string& text, int32_t size, Vocabulary* vocabulary) {
  const std::string path = ::testing::TempDir() + "/vocabulary_test.json";
  std::ofstream(path) << text;
  const Status status = ReadVocabulary(path, size, vocabulary);
  std::filesystem::remove(path);
  return status;
}

TEST(Vocabulary, HasTheSizeOfTheModelAndNoTextForSpecialAndUnknownTokens) {
  const TokenizerFile tokenizer;
  Vocabulary vocabulary;
  ASSERT_TRUE(ReadVocabulary(tokenizer.path(), kVocabularySize, &vocabulary).ok());
  EXPECT_EQ(vocabulary.encoding, TokenEncoding::kByteLevel);
  ASSERT_EQ(vocabulary.tokens.size(), static_cast<size_t>(kVocabularySize));
  EXPECT_EQ(vocabulary.tokens[kSpecial], "");
  EXPECT_EQ(vocabulary.tokens.back(), "");
  EXPECT_EQ(vocabulary.tokens[static_cast<size_t>(tokenizer.Id("a"))], "a");
}

TEST(Vocabulary, SpellsAddedTokensLikeTheOthers) {
  const TokenizerFile tokenizer;
  Vocabulary vocabulary;
  ASSERT_TRUE(ReadVocabulary(tokenizer.path(), kVocabularySize, &vocabulary).ok());
  // Bytes C3 A9 of the letter e acute, and the space.
  EXPECT_EQ(vocabulary.tokens[static_cast<size_t>(tokenizer.Id("a\u00E9 b"))], "a\u00C3\u00A9\u0120b");
}

TEST(Vocabulary, ReadsUnigramListsWithByteFallback) {
  Vocabulary vocabulary;
  const Status status = ReadText(
      R"({"decoder": {"type": "Sequence", "decoders": [{"type": "Replace"}, {"type": "ByteFallback"}]},
          "model": {"type": "Unigram", "vocab": [["<unk>", 0], ["<0x0A>", -1], ["▁a", -2]]}})",
      3, &vocabulary);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(vocabulary.encoding, TokenEncoding::kByteFallback);
  EXPECT_EQ(vocabulary.tokens, (std::vector<std::string>{"<unk>", "<0x0A>", "▁a"}));
}

TEST(Vocabulary, LeavesOutIdsBeyondTheModel) {
  Vocabulary vocabulary;
  ASSERT_TRUE(
      ReadText(R"({"decoder": {"type": "ByteLevel"}, "model": {"vocab": {"a": 0, "b": 7}}})", 1, &vocabulary).ok());
  EXPECT_EQ(vocabulary.tokens, std::vector<std::string>{"a"});
}

TEST(Vocabulary, SaysWhyAFileIsOfNoUse) {
  Vocabulary vocabulary;
  EXPECT_THAT(ReadVocabulary("/nowhere/tokenizer.json", 1, &vocabulary).message(), HasSubstr("cannot be read"));
  EXPECT_THAT(ReadText("{", 1, &vocabulary).message(), HasSubstr("is no tokenizer"));
  EXPECT_THAT(ReadText(R"({"decoder": {"type": "ByteLevel"}})", 1, &vocabulary).message(),
              HasSubstr("is no tokenizer"));
  const Status status = ReadText(R"({"decoder": {"type": "WordPiece"}, "model": {"vocab": {}}})", 1, &vocabulary);
  EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("no byte-level or byte-fallback decoder"));
}

}  // namespace
}  // namespace naiad
