// The inner loops of attention over 8-bit rows, in integers, once per instruction set. Every level gives the same bits.
//
// Queries are rounded to 8 bits with one scale a row, so that scores are sums of products of integers. Weights of the
// softmax, times the scales of the values, are rounded to 8 bits without sign, with one scale for each group of
// kWeightGroupTokens positions, so that a group's outputs are such sums too. Integers are summed exactly; the float
// steps are the same at every level, in the same order.
//
// Batch invariance: groups lie at the same positions always, and scales depend on what the row sees alone.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/quantised_row.h"

namespace naiad {

inline constexpr int32_t kChunkTokens = 256;  // Positions that have one softmax; a multiple of 16.
// Scores of one row begin this many floats after those of the row before: a chunk, and what vectors write behind it.
// Not a power of two, as the rows would share the same few lines of the cache.
inline constexpr int32_t kScoreStride = kChunkTokens + 16;

// Softmax of one row over some positions: the largest score, and the sum of exp(score - max).
struct SoftmaxState {
  float max = 0.0F;
  float sum = 0.0F;  // 0 exactly while no position has been seen.
};

inline constexpr int32_t kKeyGroupTokens = 16;     // Keys that are packed together.
inline constexpr int32_t kWeightGroupTokens = 16;  // Positions whose weights have one scale: 16 or 32.
inline constexpr int32_t kWeightGroups = kChunkTokens / kWeightGroupTokens;
inline constexpr int32_t kMaxInt8StripRows = 6;  // Rows that share one pass over packed keys or values.
// Heads are packed as if they had a multiple of this many dimensions, with zeros behind the last.
inline constexpr int32_t kPackedDimensions = 16;
// Bytes of a packed dimension of a query, key or value, at most.
inline constexpr int32_t kMaxPackedBytes = 2;
// Of a packed query, beside its dimensions.
inline constexpr int32_t kPackedQueryExtraBytes = 64;
// Weights of scores more than this far below the largest, in powers of two, are taken for 2^-this: far below what 8
// bits hold beside a weight of 1, and far above what floats cannot hold.
inline constexpr float kLowestExponentOfTwo = -100.0F;
inline constexpr float kMaxWeightCode = 255.0F;

static inline int32_t PackedHeadSize(int32_t head_size) {
  return (head_size + kPackedDimensions - 1) / kPackedDimensions * kPackedDimensions;
}

// Positions begin .. end-1 of a chunk.
struct ChunkRange {
  int32_t begin = 0;
  int32_t end = 0;
  [[nodiscard]] bool empty() const { return begin >= end; }
};

// One row's softmax weights in a chunk: weight * scale of the value = code * scale of the group.
struct WeightCodes {
  uint8_t* codes = nullptr;  // [kChunkTokens], at a multiple of 16.
  float* scales = nullptr;   // [kWeightGroups]
};

// Rows that are needed soon. Loops ask memory for them by the way, a few at a time: the processor waits for few lines
// at once, and would wait idly for more.
struct RowStream {
  const uint8_t* const* next = nullptr;
  const uint8_t* const* end = nullptr;
};

// How many each loop asks for while it takes kKeyGroupTokens positions. Four loops go over a chunk, for which as many
// keys and values are to be asked for as it has.
inline constexpr int32_t kRowsAskedFor = kKeyGroupTokens / 2;

// Asks for the next `count` rows, into the second level of the cache. Rows do not begin where lines do, and end with
// their scale.
[[gnu::always_inline]] static inline void AskForRows(RowStream* rows, int32_t count, int32_t head_size) {
  constexpr ptrdiff_t kLineBytes = 64;
  for (; count > 0 && rows->next != rows->end; --count, ++rows->next) {
    const uint8_t* const row = *rows->next;
    for (ptrdiff_t at = 0; at < head_size; at += kLineBytes) __builtin_prefetch(row + at, 0, 2);
    __builtin_prefetch(row + head_size + kRowScaleBytes - 1, 0, 2);
  }
}

// Keys or values of a chunk, or room for them: opaque outside of a level.
struct PackedRows {
  uint8_t* bytes = nullptr;  // kMaxPackedBytes * PackedHeadSize for each position of the chunk, on a line of the cache.
  float* scales = nullptr;   // [kChunkTokens]
};

// A strip of queries that were packed.
struct PackedQueries {
  const uint8_t* bytes = nullptr;  // Query r begins r * stride bytes further on.
  ptrdiff_t stride = 0;
  const float* factors = nullptr;  // One a query, for its scores.
  int32_t rows = 0;                // 1 .. kMaxInt8StripRows
};

struct Int8AttentionMath {
  // Packs one query into kMaxPackedBytes * PackedHeadSize + kPackedQueryExtraBytes bytes. Returns its scale: NaN if it
  // is not finite.
  float (*pack_query)(const float* query, int32_t head_size, uint8_t* packed);

  // Packs rows (quantised_row.h) to the positions `at` of the chunk, whose ends are multiples of kKeyGroupTokens.
  void (*pack_keys)(const uint8_t* const* keys, ChunkRange at, int32_t head_size, const PackedRows& to,
                    RowStream* upcoming);
  void (*pack_values)(const uint8_t* const* values, ChunkRange at, int32_t head_size, const PackedRows& to,
                      RowStream* upcoming);

  // scores[r * kScoreStride + j] = dot of query r and key j as integers * scale of the key * factors[r], for the
  // positions j of `range`, whose ends are multiples of kKeyGroupTokens.
  void (*scores)(const PackedQueries& queries, const PackedRows& keys, ChunkRange range, int32_t head_size,
                 float* scores, RowStream* upcoming);

  // Softmax of the scores of the positions `range` (not empty) of a chunk, from 2^score, or if softcap > 0 from
  // exp(softcap * tanh(score / softcap)). Writes the codes and scales of the whole chunk: 0 outside of the range. A
  // group that has a weight or a scale that is no number in the range gets the scale NaN. Overwrites the scores.
  SoftmaxState (*weights)(float* scores, ChunkRange range, const float* value_scales, float softcap,
                          const WeightCodes& to);

  // outputs[r] = sum over the groups begin .. end-1, in their order, of scale * (sum of code * value as integers). Row
  // r's codes begin r * kChunkTokens after the first row's, its scales r * kWeightGroups.
  void (*accumulate)(const WeightCodes& weights, int32_t rows, const PackedRows& values, ChunkRange groups,
                     int32_t head_size, float* const* outputs, RowStream* upcoming);
};

// Defined in their own translation units.
const Int8AttentionMath& ScalarInt8AttentionMath();
#if defined(__x86_64__)
const Int8AttentionMath& Avx2Int8AttentionMath();
const Int8AttentionMath& Avx512Int8AttentionMath();
#endif

}  // namespace naiad
