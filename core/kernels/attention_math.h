// The inner loops of attention, once per instruction set. Everything above them is shared.
//
// Batch invariance: what comes out for one row depends only on that row's query and on the keys and values that it is
// given, in their order; never on `rows`. That is why a token gets the same bits alone, packed with others, decoded or
// prefilled.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/attention_int8_math.h"
#include "kernels/cpu_features.h"

namespace naiad {

inline constexpr int32_t kMaxStripRows = 6;  // Rows that share one pass over keys or values.

// Loops over keys or values ask for upcoming[j], as many rows that are needed soon, while they take row j; null = for
// none. Blocks of the cache lie anywhere, so that the processor cannot guess what comes after the end of one. Of the 15
// rows behind `count`, too, some may be asked for.
struct AttentionMath {
  // scores[r * kScoreStride + j] = dot(queries[r], keys[j]) for r < rows, j < count.
  // 1 <= rows <= kMaxStripRows, 1 <= count <= kChunkTokens.
  void (*scores)(const float* const* queries, int32_t rows, const float* const* keys, const float* const* upcoming,
                 int32_t count, int32_t head_size, float* scores);

  // Multiplies `count` scores by `scale`, caps them smoothly (softcap * tanh(x / softcap), if softcap > 0), and turns
  // them into weights exp(score - max). Up to 15 entries behind them may be overwritten.
  SoftmaxState (*weights)(float* scores, int32_t count, float scale, float softcap);

  // outputs[r] += sum over j of weights[r * kScoreStride + j] * values[j], in the order of j.
  void (*accumulate)(const float* weights, int32_t rows, const float* const* values, const float* const* upcoming,
                     int32_t count, int32_t head_size, float* const* outputs);

  // Writes one 8-bit row, the same bits at every level. A row that is not finite gets the scale NaN, so that whatever
  // attends to it shows it.
  void (*quantise_row)(const float* from, int32_t head_size, uint8_t* row);

  Int8AttentionMath int8;  // Over 8-bit rows.
};

const AttentionMath& AttentionMathFor(SimdLevel level);

// Defined in their own translation units.
const AttentionMath& ScalarAttentionMath();
#if defined(__x86_64__)
const AttentionMath& Avx2AttentionMath();
const AttentionMath& Avx512AttentionMath();
#endif

}  // namespace naiad
