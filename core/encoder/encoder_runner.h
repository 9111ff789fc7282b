// The seam between the encoder engine and whatever computes hidden vectors or logits.
#pragma once

#include <cstdint>
#include <span>

#include "engine/status.h"

namespace naiad {

// Facts of a loaded encoder.
struct EncoderShape {
  int32_t vocabulary_size = 0;
  int32_t context_length_tokens = 0;
  bool uses_token_type_ids = false;
  bool output_per_sequence = false;  // true: one row a sequence (logits); false: one row a token.
  int32_t output_width = 0;          // Floats in one output row.
  bool token_logits = false;         // Of one row a token: logits, not hidden vectors.
};

// Texts of one run, packed without padding: T tokens of S sequences.
struct EncoderBatch {
  std::span<const int64_t> input_ids;       // [T]
  std::span<const int64_t> position_ids;    // [T], from 0 in each sequence
  std::span<const int64_t> token_type_ids;  // [T], empty unless the model uses them
  std::span<const int32_t> cu_seqlens;      // [S+1]
};

class EncoderRunner {
 public:
  virtual ~EncoderRunner() = default;
  [[nodiscard]] virtual const EncoderShape& shape() const = 0;
  // Sets `output` to a view of [S or T, output_width] floats that stays valid until the next call.
  virtual Status Run(const EncoderBatch& batch, std::span<const float>* output) = 0;
};

}  // namespace naiad
