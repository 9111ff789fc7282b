#include "encoder/encoder_validation.h"

#include <limits>
#include <string>

namespace naiad {
namespace {

// Kinds of segment in a text pair, as every BERT-like model has them.
constexpr int32_t kTokenTypes = 2;

Status CheckOutput(const EncoderShape& shape, EncoderOutput output) {
  if (shape.output_per_sequence || shape.token_logits) {
    const EncoderOutput given = shape.output_per_sequence ? EncoderOutput::kLogits : EncoderOutput::kTokenLogits;
    return output == given ? Status::Ok() : Status::InvalidArgument("outputs: this model gives logits only");
  }
  if (output == EncoderOutput::kEmbeddings || output == EncoderOutput::kHiddenStates) return Status::Ok();
  return Status::InvalidArgument("outputs: this model gives embeddings and hidden_states only");
}

Status CheckLengths(const EncoderShape& shape, const EncoderRequest& request) {
  if (request.sequence_lengths.empty()) return Status::InvalidArgument("sequence_lengths must have at least one entry");
  int64_t total = 0;
  for (size_t s = 0; s < request.sequence_lengths.size(); ++s) {
    const int32_t length = request.sequence_lengths[s];
    if (length < 1 || length > shape.context_length_tokens) {
      return Status::InvalidArgument("sequence_lengths[" + std::to_string(s) + "] is " + std::to_string(length) +
                                     "; it must be 1 to " + std::to_string(shape.context_length_tokens));
    }
    total += length;
  }
  if (total != static_cast<int64_t>(request.input_ids.size()) || total > std::numeric_limits<int32_t>::max()) {
    return Status::InvalidArgument("sequence_lengths add up to " + std::to_string(total) + ", but input_ids has " +
                                   std::to_string(request.input_ids.size()) + " tokens");
  }
  return Status::Ok();
}

// `values` holds one entry a token, each of which must be below `limit`.
Status CheckValues(const char* field, const std::vector<int32_t>& values, int32_t limit,
                   const std::vector<int32_t>& sequence_lengths) {
  size_t token = 0;
  for (size_t s = 0; s < sequence_lengths.size(); ++s) {
    for (int32_t i = 0; i < sequence_lengths[s]; ++i, ++token) {
      if (values[token] >= 0 && values[token] < limit) continue;
      return Status::InvalidArgument(std::string(field) + " has " + std::to_string(values[token]) + " at token " +
                                     std::to_string(i) + " of sequence " + std::to_string(s) + "; it must be 0 to " +
                                     std::to_string(limit - 1));
    }
  }
  return Status::Ok();
}

}  // namespace

Status ValidateEncoderRequest(const EncoderShape& shape, const EncoderRequest& request) {
  if (Status s = CheckOutput(shape, request.output); !s.ok()) return s;
  if (Status s = CheckLengths(shape, request); !s.ok()) return s;
  if (Status s = CheckValues("input_ids", request.input_ids, shape.vocabulary_size, request.sequence_lengths);
      !s.ok()) {
    return s;
  }
  if (request.token_type_ids.empty()) return Status::Ok();
  if (!shape.uses_token_type_ids) return Status::InvalidArgument("token_type_ids: this model does not take them");
  if (request.token_type_ids.size() != request.input_ids.size()) {
    return Status::InvalidArgument("token_type_ids has " + std::to_string(request.token_type_ids.size()) +
                                   " entries, but input_ids has " + std::to_string(request.input_ids.size()));
  }
  return CheckValues("token_type_ids", request.token_type_ids, kTokenTypes, request.sequence_lengths);
}

}  // namespace naiad
