#include "guided_test_support.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

namespace naiad::guided_test {
namespace {

// GPT-2's spelling, for the bytes that the tokenizer has.
std::string ByteLevel(const std::string& text) {
  std::string spelled;
  for (const char character : text) {
    if (character == ' ') {
      spelled += "\u0120";
    } else if (character == '\n') {
      spelled += "\u010A";
    } else if (character == '\xC3') {
      spelled += "\u00C3";
    } else if (character == '\xA9') {
      spelled += "\u00A9";
    } else {
      spelled += character;
    }
  }
  return spelled;
}

}  // namespace

TokenizerFile::TokenizerFile() {
  std::string name = (std::filesystem::temp_directory_path() / "naiad-guided-XXXXXX").string();
  folder_ = mkdtemp(name.data());
  path_ = (folder_ / "tokenizer.json").string();
  texts_.assign(kVocabularySize, "");
  size_t next = 2;
  for (char character = ' '; character <= '~'; ++character) texts_[next++] = character;
  for (const char* text :
       {"\n", "\xC3", "\xA9", "{\"", "\":", "\"}", "true", "false", " hello", "12", "aa", "],", "]]"}) {
    texts_[next++] = text;
  }
  nlohmann::json vocab = nlohmann::json::object();
  vocab["<|end|>"] = kEos;
  for (size_t id = 2; id < next; ++id) vocab[ByteLevel(texts_[id])] = id;
  const nlohmann::json tokenizer = {{"added_tokens",
                                     {{{"id", kEos}, {"content", "<|end|>"}, {"special", true}},
                                      {{"id", kSpecial}, {"content", "<|special|>"}, {"special", true}},
                                      {{"id", next}, {"content", "a\u00E9 b"}, {"special", false}}}},
                                    {"decoder", {{"type", "ByteLevel"}}},
                                    {"model", {{"type", "BPE"}, {"vocab", vocab}}}};
  texts_[next] = "a\u00E9 b";
  std::ofstream(path_) << tokenizer.dump();
}

TokenizerFile::~TokenizerFile() { std::filesystem::remove_all(folder_); }

int32_t TokenizerFile::Id(std::string_view text) const {
  return static_cast<int32_t>(std::find(texts_.begin(), texts_.end(), text) - texts_.begin());
}

GuideCompilerOptions OptionsFor(const TokenizerFile& tokenizer) {
  return {.tokenizer_path = tokenizer.path(), .vocabulary_size = kVocabularySize, .eos_token_ids = {kEos}};
}

std::vector<int32_t> AllowedTokens(const LogitsRule& rule) {
  std::vector<float> logits(kVocabularySize, 0.0F);
  rule.Apply(0, logits);
  std::vector<int32_t> allowed;
  for (int32_t id = 0; id < kVocabularySize; ++id) {
    if (logits[static_cast<size_t>(id)] == 0.0F) allowed.push_back(id);
  }
  return allowed;
}

bool Accepts(LogitsRule& rule, const TokenizerFile& tokenizer, std::string_view text) {
  for (const char character : text) {
    const int32_t id = tokenizer.Id(std::string(1, character));
    const std::vector<int32_t> allowed = AllowedTokens(rule);
    if (std::find(allowed.begin(), allowed.end(), id) == allowed.end()) return false;
    rule.OnToken(TokenOrigin::kGenerated, id);
  }
  return true;
}

bool Matches(const Grammar& grammar, const TokenizerFile& tokenizer, std::string_view text) {
  const std::unique_ptr<LogitsRule> rule = grammar.MakeRule();
  if (!Accepts(*rule, tokenizer, text)) return false;
  const std::vector<int32_t> allowed = AllowedTokens(*rule);
  return std::find(allowed.begin(), allowed.end(), kEos) != allowed.end();
}

std::optional<std::string> DrawText(const Grammar& grammar, const TokenizerFile& tokenizer, uint32_t seed,
                                    int max_tokens) {
  std::minstd_rand random(seed);
  const std::unique_ptr<LogitsRule> rule = grammar.MakeRule();
  std::string text;
  for (int i = 0; i < max_tokens; ++i) {
    const std::vector<int32_t> allowed = AllowedTokens(*rule);
    if (allowed.empty()) return std::nullopt;
    // The end is one token of many; taken whenever it can be, texts stay short.
    const bool may_end = std::find(allowed.begin(), allowed.end(), kEos) != allowed.end();
    const int32_t id = may_end ? kEos : allowed[random() % allowed.size()];
    if (id == kEos) return text;
    rule->OnToken(TokenOrigin::kGenerated, id);
    text += tokenizer.texts()[static_cast<size_t>(id)];
  }
  return std::nullopt;
}

}  // namespace naiad::guided_test
