#include "guided/vocabulary.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

namespace naiad {
namespace {

using nlohmann::json;

// The parts of the "decoder", which may be one or a sequence.
std::vector<json> Decoders(const json& tokenizer) {
  const json decoder = tokenizer.value("decoder", json());
  if (!decoder.is_object()) return {};
  if (decoder.value("type", "") == "Sequence") return decoder.value("decoders", json::array());
  return {decoder};
}

std::optional<TokenEncoding> FindEncoding(const json& tokenizer) {
  for (const json& decoder : Decoders(tokenizer)) {
    const std::string type = decoder.value("type", "");
    if (type == "ByteLevel") return TokenEncoding::kByteLevel;
    if (type == "ByteFallback" || type == "Metaspace") return TokenEncoding::kByteFallback;
  }
  return std::nullopt;
}

void SetToken(int64_t id, std::string text, Vocabulary* vocabulary) {
  if (id >= 0 && std::cmp_less(id, vocabulary->tokens.size())) {
    vocabulary->tokens[static_cast<size_t>(id)] = std::move(text);
  }
}

// UTF-8 of a code point below U+0800.
std::string EncodeUtf8(uint32_t code_point) {
  if (code_point < 0x80) return {static_cast<char>(code_point)};
  return {static_cast<char>(0xC0U | code_point >> 6U), static_cast<char>(0x80U | (code_point & 0x3FU))};
}

// GPT-2's spelling of a byte: itself if it is a visible character of Latin-1, else the next character from U+0100 on.
std::string ByteLevelCharacter(uint8_t byte) {
  const auto is_visible = [](uint32_t code) {
    return (code >= 0x21 && code <= 0x7E) || (code >= 0xA1 && code <= 0xAC) || code >= 0xAE;
  };
  if (is_visible(byte)) return EncodeUtf8(byte);
  uint32_t invisible_before = 0;
  for (uint32_t code = 0; code < byte; ++code) invisible_before += is_visible(code) ? 0 : 1;
  return EncodeUtf8(0x100 + invisible_before);
}

// Added tokens are spelled as they are in the text, unlike the others.
std::string EncodeLiteral(const std::string& text, TokenEncoding encoding) {
  if (encoding != TokenEncoding::kByteLevel) return text;
  std::string encoded;
  for (const char character : text) encoded += ByteLevelCharacter(static_cast<uint8_t>(character));
  return encoded;
}

// Throws json::exception where the file is not as the format says.
void ReadTokens(const json& tokenizer, Vocabulary* vocabulary) {
  const json& vocab = tokenizer.at("model").at("vocab");
  if (vocab.is_object()) {
    for (const auto& [text, id] : vocab.items()) SetToken(id.get<int64_t>(), text, vocabulary);
  } else {  // Unigram: [[text, score], ...].
    for (size_t id = 0; id < vocab.size(); ++id) {
      SetToken(static_cast<int64_t>(id), vocab[id].at(0).get<std::string>(), vocabulary);
    }
  }
  for (const json& added : tokenizer.value("added_tokens", json::array())) {
    const bool is_special = added.value("special", false);
    SetToken(added.at("id").get<int64_t>(),
             is_special ? "" : EncodeLiteral(added.at("content").get<std::string>(), vocabulary->encoding), vocabulary);
  }
}

}  // namespace

Status ReadVocabulary(const std::string& path, int32_t vocabulary_size, Vocabulary* vocabulary) try {
  std::ifstream file(path);
  if (!file) return Status::Internal(path + " cannot be read");
  const json tokenizer = json::parse(file);
  const std::optional<TokenEncoding> encoding = FindEncoding(tokenizer);
  if (!encoding) return Status::InvalidArgument("the model's tokenizer has no byte-level or byte-fallback decoder");
  vocabulary->encoding = *encoding;
  vocabulary->tokens.assign(static_cast<size_t>(vocabulary_size), "");
  ReadTokens(tokenizer, vocabulary);
  return Status::Ok();
} catch (const json::exception& error) {
  return Status::Internal(path + " is no tokenizer: " + error.what());
}

}  // namespace naiad
