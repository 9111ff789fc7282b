// The seam between the engine and whatever computes logits. core/ort has the real one, tests have doubles.
#pragma once

#include <cstdint>
#include <span>

#include "engine/status.h"

namespace naiad {

// Facts of a loaded decoder that the engine needs.
struct DecoderShape {
  int32_t vocabulary_size = 0;
  int32_t context_length_tokens = 0;
  int32_t num_blocks = 0;    // Blocks in the KV pool.
  int32_t block_tokens = 0;  // Positions in one block.
};

// One step's worth of packed tokens: T tokens of S sequences, L rows whose logits are wanted. Views into memory that
// the engine owns and keeps for the whole call.
struct PackedBatch {
  std::span<const int64_t> input_ids;     // [T]
  std::span<const int64_t> position_ids;  // [T]
  std::span<const int32_t> cu_seqlens;    // [S+1]
  std::span<const int32_t> past_lens;     // [S], tokens already in the cache
  std::span<const int32_t> block_table;   // [S, block_columns], row after row; unused entries are -1
  int32_t block_columns = 0;
  std::span<const int64_t> logit_rows;  // [L], ascending packed rows; L is at least 1
};

// Copies all layers' keys and values of one block onto another.
struct BlockCopy {
  int32_t source = 0;
  int32_t target = 0;
};

class ModelRunner {
 public:
  virtual ~ModelRunner() = default;

  [[nodiscard]] virtual const DecoderShape& shape() const = 0;

  // Computes the step: writes keys and values of all T tokens into the pool and sets `logits` to a view of [L,
  // vocabulary_size] floats that stays valid until the next call and may be changed by the caller. Called by the engine
  // thread only. On failure the contents of the blocks that the batch was to write are undefined; all other blocks are
  // untouched. kResourceExhausted means that memory ran out.
  virtual Status Run(const PackedBatch& batch, std::span<float>* logits) = 0;

  // Copies whole blocks in order, before a run that writes to a target. Engine thread only. Blocks are in the pool.
  virtual Status CopyBlocks(std::span<const BlockCopy> copies) = 0;
};

}  // namespace naiad
