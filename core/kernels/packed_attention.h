// Attention in both directions within each of several packed texts: the kernel behind naiad::PackedAttention.
#pragma once

#include <cstdint>
#include <span>

#include "engine/status.h"
#include "kernels/attention_math.h"
#include "kernels/attention_rows.h"
#include "kernels/packed_attention_math.h"
#include "kernels/parallel_for.h"

namespace naiad {

// T packed tokens of S texts. layer.window_tokens: a token sees that many to each side; -1 = the whole text.
struct PackedAttentionArgs {
  AttentionLayer layer;
  // [T, num_heads * head_size]; or, with neither keys nor values, all three beside each other: [T, (num_heads + 2 *
  // num_kv_heads) * head_size], which only layers without a window take.
  std::span<const float> query;
  std::span<const float> key;           // [T, num_kv_heads * head_size]
  std::span<const float> value;         // [T, num_kv_heads * head_size]
  std::span<const int32_t> cu_seqlens;  // [S+1]
  std::span<float> output;              // [T, num_heads * head_size]; overlaps no input
};

// kInvalidArgument, with nothing written, if the lengths do not fit together.
// window_math: for layers with a window, most of whose keys a token does not see.
Status PackedAttention(const PackedAttentionArgs& args, const PackedAttentionMath& math,
                       const AttentionMath& window_math, const ParallelFor& parallel_for);

}  // namespace naiad
