// The texts of a model's tokens, from the tokenizer file of its repository entry.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/status.h"

namespace naiad {

// How a token's text stands for bytes.
enum class TokenEncoding {
  kByteLevel,     // As in GPT-2: each byte is one of 256 characters.
  kByteFallback,  // As in SentencePiece: U+2581 is a space, <0x00> .. <0xFF> are single bytes.
};

struct Vocabulary {
  TokenEncoding encoding = TokenEncoding::kByteLevel;
  // [vocabulary size of the model]. Empty: no text, never to be generated in a guided text; so are special tokens
  // (their text is for the model's eyes) and ids that the tokenizer does not know.
  std::vector<std::string> tokens;
};

// Reads a tokenizer.json of Hugging Face's tokenizers. `vocabulary_size` is the model's, and may exceed the
// tokenizer's. Fails, with a line that says why, if the file cannot be read or spells its tokens in another way than
// the two above.
Status ReadVocabulary(const std::string& path, int32_t vocabulary_size, Vocabulary* vocabulary);

}  // namespace naiad
