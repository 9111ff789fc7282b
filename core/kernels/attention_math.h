// The inner loops of attention, once per instruction set. Everything above them is shared.
//
// Batch invariance: what comes out for one row depends only on that row's query and on the keys and values that it is
// given, in their order; never on `rows`. That is why a token gets the same bits alone, packed with others, decoded or
// prefilled.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu_features.h"

namespace naiad {

inline constexpr int32_t kMaxStripRows = 4;    // Rows that share one pass over a tile.
inline constexpr int32_t kMaxTileTokens = 32;  // Positions in one tile; a multiple of 8.

// Running softmax of one row: the largest score so far, and the sum of exp(score - max).
struct SoftmaxState {
  float max = 0.0F;
  float sum = 0.0F;  // 0 exactly while no position has been seen.
};

struct AttentionMath {
  // scores[r * kMaxTileTokens + j] = dot(queries[r], keys + j * stride) for r < rows, j < count.
  // 1 <= rows <= kMaxStripRows, 1 <= count <= kMaxTileTokens.
  void (*scores)(const float* const* queries, int32_t rows, const float* keys, ptrdiff_t stride, int32_t count,
                 int32_t head_size, float* scores);

  // Multiplies `count` scores by `scale`, caps them smoothly (softcap * tanh(x / softcap), if softcap > 0), and turns
  // them into weights exp(score - new max). Updates `state` and returns the factor for what was accumulated before.
  // `scores` has room for kMaxTileTokens; entries at count and above may be overwritten.
  float (*weights)(float* scores, int32_t count, float scale, float softcap, SoftmaxState* state);

  // outputs[r] = outputs[r] * corrections[r] + sum over j of weights[r * kMaxTileTokens + j] * (values + j * stride).
  void (*accumulate)(const float* weights, const float* corrections, int32_t rows, const float* values,
                     ptrdiff_t stride, int32_t count, int32_t head_size, float* const* outputs);

  // The same two over 8-bit rows (quantised_row.h), with the stride in bytes.
  void (*scores_int8)(const float* const* queries, int32_t rows, const uint8_t* keys, ptrdiff_t stride, int32_t count,
                      int32_t head_size, float* scores);
  void (*accumulate_int8)(const float* weights, const float* corrections, int32_t rows, const uint8_t* values,
                          ptrdiff_t stride, int32_t count, int32_t head_size, float* const* outputs);

  // Writes one 8-bit row, the same bits at every level. A row that is not finite gets the scale NaN, so that whatever
  // attends to it shows it.
  void (*quantise_row)(const float* from, int32_t head_size, uint8_t* row);
};

const AttentionMath& AttentionMathFor(SimdLevel level);

// Defined in their own translation units.
const AttentionMath& ScalarAttentionMath();
#if defined(__x86_64__)
const AttentionMath& Avx2AttentionMath();
#endif

}  // namespace naiad
