// A small vocabulary, and texts drawn from a grammar over it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "guided/guide_compiler.h"
#include "sampling/logits_rule.h"

namespace naiad::guided_test {

inline constexpr int32_t kEos = 0;
inline constexpr int32_t kSpecial = 1;           // "<|special|>"
inline constexpr int32_t kVocabularySize = 400;  // More than the tokenizer has.

// A tokenizer.json with all printable ASCII characters, the line break, bytes of other scripts and some longer tokens,
// in a folder that goes away with it.
class TokenizerFile {
 public:
  TokenizerFile();
  ~TokenizerFile();
  TokenizerFile(const TokenizerFile&) = delete;
  TokenizerFile& operator=(const TokenizerFile&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }
  // The text of each id; empty for the two above and for ids that the tokenizer does not know.
  [[nodiscard]] const std::vector<std::string>& texts() const { return texts_; }
  // The id of a token of exactly this text.
  [[nodiscard]] int32_t Id(std::string_view text) const;

 private:
  std::filesystem::path folder_;
  std::string path_;
  std::vector<std::string> texts_;
};

[[nodiscard]] GuideCompilerOptions OptionsFor(const TokenizerFile& tokenizer);

// Ids that the rule leaves a chance for the next token.
[[nodiscard]] std::vector<int32_t> AllowedTokens(const LogitsRule& rule);

// Tells the rule the characters of `text` one by one; false at the first that it forbids.
[[nodiscard]] bool Accepts(LogitsRule& rule, const TokenizerFile& tokenizer, std::string_view text);

// Whether the whole of `text` is in the grammar.
[[nodiscard]] bool Matches(const Grammar& grammar, const TokenizerFile& tokenizer, std::string_view text);

// A text drawn by `seed`, token by token among those allowed; nothing if it has not ended after `max_tokens`.
[[nodiscard]] std::optional<std::string> DrawText(const Grammar& grammar, const TokenizerFile& tokenizer, uint32_t seed,
                                                  int max_tokens);

}  // namespace naiad::guided_test
