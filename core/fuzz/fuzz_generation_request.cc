// Requests of contract "generate": reading, decoding and the engine's validation. What is accepted must be within the
// bounds that the engine relies on, what is refused must say why.
#include <cmath>

#include "engine/request_validation.h"
#include "fuzz_check.h"
#include "request_from_bytes.h"
#include "triton/generation_codec.h"

namespace naiad {
namespace {

const fuzz::KnownNames& Names() {
  static const fuzz::KnownNames names{.tensors = {"input_ids", "stop_token_ids", "logit_bias_ids", "logit_bias_values"},
                                      .parameters = {"request_output_len",
                                                     "min_tokens",
                                                     "temperature",
                                                     "runtime_top_k",
                                                     "runtime_top_p",
                                                     "min_p",
                                                     "presence_penalty",
                                                     "frequency_penalty",
                                                     "repetition_penalty",
                                                     "seed",
                                                     "ignore_eos",
                                                     "return_log_probs",
                                                     "top_log_probs",
                                                     "return_context_log_probs",
                                                     "request_priority",
                                                     "num_return_sequences",
                                                     "use_prefix_cache",
                                                     "max_draft_tokens",
                                                     "guided_decoding_guide_type",
                                                     "guided_decoding_guide",
                                                     "delta_group",
                                                     "delta_key",
                                                     "stop",
                                                     "sequence_index",
                                                     "priority"},
                                      .outputs = {"output_ids", "output_log_probs"},
                                      .texts = {"json_schema", "regex", "json", "{}", "[a-z]+", "group"}};
  return names;
}

void CheckRefusal(const Status& status) {
  NAIAD_FUZZ_CHECK(status.code() == ErrorCode::kInvalidArgument);
  NAIAD_FUZZ_CHECK(!status.message().empty());
}

void CheckDecoded(const DecodedGeneration& decoded) {
  NAIAD_FUZZ_CHECK(!decoded.request.id.empty());
  if (decoded.is_stop) {
    const int32_t sequence = decoded.stop_sequence.value_or(0);
    NAIAD_FUZZ_CHECK(sequence >= 0 && sequence < kMaxSequences);
    return;
  }
  NAIAD_FUZZ_CHECK(!decoded.request.prompt_token_ids.empty());
  if (decoded.guide.has_value()) NAIAD_FUZZ_CHECK(decoded.guide->text.size() <= kMaxGuideBytes);
  if (decoded.delta_group.has_value()) NAIAD_FUZZ_CHECK(decoded.delta_group->key >= 0);
}

void CheckValid(const GenerationRequest& request, const DecoderShape& shape) {
  NAIAD_FUZZ_CHECK(request.num_sequences >= 1 && request.num_sequences <= kMaxSequences);
  NAIAD_FUZZ_CHECK(std::isfinite(request.sampling.temperature) && request.sampling.temperature >= 0.0F);
  NAIAD_FUZZ_CHECK(request.sampling.logit_bias.size() <= static_cast<size_t>(kMaxLogitBiasEntries));
  NAIAD_FUZZ_CHECK(request.stopping.max_tokens >= 0 && request.stopping.max_tokens <= shape.context_length_tokens);
  NAIAD_FUZZ_CHECK(request.prompt_token_ids.size() <= static_cast<size_t>(shape.context_length_tokens));
  for (const int32_t id : request.prompt_token_ids) NAIAD_FUZZ_CHECK(id >= 0 && id < shape.vocabulary_size);
  NAIAD_FUZZ_CHECK(MaxCachedPositions(request) <= shape.num_blocks * shape.block_tokens);
}

}  // namespace
}  // namespace naiad

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace naiad;
  fuzz::ByteSource bytes(data, size);
  const fuzz::ReadBack read = fuzz::RequestFrom(bytes, Names());
  if (!read.status.ok()) return 0;
  DecodedGeneration decoded;
  if (const Status status = DecodeGeneration(read.contents, &decoded); !status.ok()) {
    CheckRefusal(status);
    return 0;
  }
  CheckDecoded(decoded);
  if (decoded.is_stop) return 0;
  const DecoderShape shape{.vocabulary_size = 100, .context_length_tokens = 64, .num_blocks = 8, .block_tokens = 16};
  if (const Status status = ValidateRequest(decoded.request, shape); status.ok()) {
    CheckValid(decoded.request, shape);
  } else {
    CheckRefusal(status);
  }
  return 0;
}
