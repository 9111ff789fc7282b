// Requests of contracts "embed", "classify" and "classify_tokens": reading, decoding and the engine's validation.
#include <numeric>

#include "encoder/encoder_validation.h"
#include "fuzz_check.h"
#include "request_from_bytes.h"
#include "triton/encoder_codec.h"

namespace naiad {
namespace {

const fuzz::KnownNames& Names() {
  static const fuzz::KnownNames names{.tensors = {"input_ids", "sequence_lengths", "token_type_ids"},
                                      .parameters = {"pooling", "priority", "timeout", "triton_enable_empty"},
                                      .outputs = {"embeddings", "hidden_states", "logits"},
                                      .texts = {"mean", "cls", "max"}};
  return names;
}

void CheckValid(const EncoderRequest& request, const EncoderShape& shape) {
  const auto& lengths = request.sequence_lengths;
  NAIAD_FUZZ_CHECK(!lengths.empty());
  for (const int32_t length : lengths) NAIAD_FUZZ_CHECK(length >= 1 && length <= shape.context_length_tokens);
  const auto total = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
  NAIAD_FUZZ_CHECK(total == static_cast<int64_t>(request.input_ids.size()));
  NAIAD_FUZZ_CHECK(request.token_type_ids.empty() || request.token_type_ids.size() == request.input_ids.size());
  for (const int32_t id : request.input_ids) NAIAD_FUZZ_CHECK(id >= 0 && id < shape.vocabulary_size);
}

void Decode(const RequestContents& contents, Task task, const EncoderShape& shape) {
  EncoderRequest request;
  Status status = DecodeEncoder(contents, {.task = task, .pooling = "mean"}, &request);
  if (status.ok()) status = ValidateEncoderRequest(shape, request);
  if (status.ok()) {
    CheckValid(request, shape);
  } else {
    NAIAD_FUZZ_CHECK(status.code() == ErrorCode::kInvalidArgument);
    NAIAD_FUZZ_CHECK(!status.message().empty());
  }
}

}  // namespace
}  // namespace naiad

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace naiad;
  fuzz::ByteSource bytes(data, size);
  const fuzz::ReadBack read = fuzz::RequestFrom(bytes, Names());
  if (!read.status.ok()) return 0;
  const EncoderShape vectors{.vocabulary_size = 100, .context_length_tokens = 16, .output_width = 4};
  EncoderShape labels = vectors;
  labels.uses_token_type_ids = true;
  labels.output_per_sequence = true;
  Decode(read.contents, Task::kEmbed, vectors);
  Decode(read.contents, Task::kClassify, labels);
  return 0;
}
