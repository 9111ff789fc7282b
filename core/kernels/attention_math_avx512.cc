// AVX-512 F, BW and VL. This file alone is compiled with these flags, so nothing that other units could inline may be
// defined here.
#include <immintrin.h>

#include <limits>

#include "kernels/attention_functions_avx512.h"
#include "kernels/attention_math.h"
#include "kernels/unroll.h"

namespace naiad {
namespace {

constexpr int32_t kLanes = 16;
constexpr int32_t kCommonVectors = 4;  // Of a head of 64, for which its loops are unrolled.

// GCC takes many minutes over these with what a sanitizer adds.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kUnrollCommonHead = false;
#else
constexpr bool kUnrollCommonHead = true;
#endif

__m512 Load(const float* from) { return _mm512_loadu_ps(from); }
__m512 LoadPart(const float* from, int32_t count) { return _mm512_maskz_loadu_ps(FirstLanes(count), from); }

// Adds up lanes that differ in one bit of their number: of u in the lanes without that bit, of v in those with it. Four
// such steps turn sixteen vectors into one of their sums, in the order of the vectors.
template <int kBit>
__m512 AddLanes(__m512 u, __m512 v) {
  if constexpr (kBit == 8) {
    return _mm512_add_ps(_mm512_mask_blend_ps(0xFF00, u, v),
                         _mm512_castsi512_ps(_mm512_alignr_epi32(_mm512_castps_si512(v), _mm512_castps_si512(u), 8)));
  } else if constexpr (kBit == 4) {
    const __m512i other = _mm512_setr_epi32(4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 24, 25, 26, 27);
    return _mm512_add_ps(_mm512_mask_blend_ps(0xF0F0, u, v), _mm512_permutex2var_ps(u, other, v));
  } else if constexpr (kBit == 2) {
    return _mm512_add_ps(_mm512_mask_blend_ps(0xCCCC, u, v), _mm512_shuffle_ps(u, v, _MM_SHUFFLE(1, 0, 3, 2)));
  } else {
    const __m512i other = _mm512_setr_epi32(1, 16, 3, 18, 5, 20, 7, 22, 9, 24, 11, 26, 13, 28, 15, 30);
    return _mm512_add_ps(_mm512_mask_blend_ps(0xAAAA, u, v), _mm512_permutex2var_ps(u, other, v));
  }
}

// Into the second level of the cache: the first has too few open requests for so many lines.
[[gnu::always_inline]] inline void PrefetchRow(const float* row, int32_t head_size) {
  constexpr ptrdiff_t kLineBytes = 64;
  const char* const begin = reinterpret_cast<const char*>(row);
  const auto row_bytes = static_cast<ptrdiff_t>(sizeof(float)) * head_size;
  for (ptrdiff_t offset = 0; offset < row_bytes; offset += kLineBytes) _mm_prefetch(begin + offset, _MM_HINT_T1);
}

// Products of two keys of four vectors with kRows queries, sixteen sums for each.
template <int kRows>
[[gnu::always_inline]] inline void MultiplyTwo(const float* const* queries, const float* first, const float* second,
                                               __m512 (&sums)[2][kRows]) {
  Unroll<kCommonVectors>([&](auto v) __attribute__((always_inline)) {
    const __m512 keys[2] = {Load(first + v * kLanes), Load(second + v * kLanes)};
    Unroll<kRows>([&](auto r) __attribute__((always_inline)) {
      const __m512 query = _mm512_loadu_ps(queries[r] + v * kLanes);
      Unroll<2>([&](auto k) __attribute__((always_inline)) {
        sums[k][r] = v == 0 ? _mm512_mul_ps(query, keys[k]) : _mm512_fmadd_ps(query, keys[k], sums[k][r]);
      });
    });
  });
}

// Dot products of kRows queries with those of sixteen keys of four vectors whose number is kFirst in the bits below
// kBit. The products are added up in a tree, from its leaves, so that few of them wait in registers.
template <int kBit, int kFirst, int kRows>
[[gnu::always_inline]] inline void CommonDots(const float* const* queries, const float* const* keys,
                                              const float* const* upcoming, __m512 (&dots)[kRows]) {
  __m512 sums[2][kRows];
  if constexpr (kBit == 8) {
    MultiplyTwo<kRows>(queries, keys[kFirst], keys[kFirst + 8], sums);
    if (upcoming != nullptr) {
      PrefetchRow(upcoming[kFirst], kCommonVectors * kLanes);
      PrefetchRow(upcoming[kFirst + 8], kCommonVectors * kLanes);
    }
  } else {
    CommonDots<kBit * 2, kFirst, kRows>(queries, keys, upcoming, sums[0]);
    CommonDots<kBit * 2, kFirst + kBit, kRows>(queries, keys, upcoming, sums[1]);
  }
  Unroll<kRows>([&](auto r) __attribute__((always_inline)) { dots[r] = AddLanes<kBit>(sums[0][r], sums[1][r]); });
}

// Products of one key of any size.
template <int kRows>
void MultiplyOne(const float* const* queries, const float* key, int32_t head_size, __m512 (&sums)[kRows]) {
  for (int r = 0; r < kRows; ++r) sums[r] = _mm512_setzero_ps();
  int32_t d = 0;
  for (; d + kLanes <= head_size; d += kLanes) {
    const __m512 part = Load(key + d);
    Unroll<kRows>([&](auto r) { sums[r] = _mm512_fmadd_ps(Load(queries[r] + d), part, sums[r]); });
  }
  if (d == head_size) return;
  const __m512 part = LoadPart(key + d, head_size - d);
  Unroll<kRows>([&](auto r) { sums[r] = _mm512_fmadd_ps(LoadPart(queries[r] + d, head_size - d), part, sums[r]); });
}

// The same as CommonDots for a head of any size, by way of memory.
template <int kRows>
void AnyDots(const float* const* queries, const float* const* keys, const float* const* upcoming, int32_t head_size,
             __m512 (&dots)[kRows]) {
  __m512 sums[kLanes][kRows];
  for (int k = 0; k < kLanes; ++k) {
    MultiplyOne<kRows>(queries, keys[k], head_size, sums[k]);
    if (upcoming != nullptr) PrefetchRow(upcoming[k], head_size);
  }
  for (int r = 0; r < kRows; ++r) {
    for (int k = 0; k < 8; ++k) sums[k][r] = AddLanes<8>(sums[k][r], sums[k + 8][r]);
    for (int k = 0; k < 4; ++k) sums[k][r] = AddLanes<4>(sums[k][r], sums[k + 4][r]);
    for (int k = 0; k < 2; ++k) sums[k][r] = AddLanes<2>(sums[k][r], sums[k + 2][r]);
    dots[r] = AddLanes<1>(sums[0][r], sums[1][r]);
  }
}

// Pointers to sixteen rows, of which only `count` are there: the last one stands for the others.
void Pad(const float* const* rows, int32_t count, const float** padded) {
  for (int32_t i = 0; i < kLanes; ++i) padded[i] = rows[i < count ? i : count - 1];
}

template <int kRows>
void ScoresRows(const float* const* queries, const float* const* keys, const float* const* upcoming, int32_t count,
                int32_t head_size, float* scores) {
  const float* padded[kLanes];
  for (int32_t j = 0; j < count; j += kLanes) {
    const float* const* group = keys + j;
    const float* const* ahead = upcoming == nullptr ? nullptr : upcoming + j;
    const int32_t there = count - j < kLanes ? count - j : kLanes;
    if (there < kLanes) {
      Pad(group, there, padded);
      group = padded;
    }
    __m512 dots[kRows];
    bool done = false;
    if constexpr (kUnrollCommonHead) {
      done = head_size == kCommonVectors * kLanes;
      if (done) CommonDots<1, 0, kRows>(queries, group, ahead, dots);
    }
    if (!done) AnyDots<kRows>(queries, group, ahead, head_size, dots);
    Unroll<kRows>([&](auto r) { _mm512_mask_storeu_ps(scores + r * kScoreStride + j, FirstLanes(there), dots[r]); });
  }
}

void Scores(const float* const* queries, int32_t rows, const float* const* keys, const float* const* upcoming,
            int32_t count, int32_t head_size, float* scores) {
  // More rows at a time would leave no registers for the tree.
  for (; rows > 4; rows -= 3, queries += 3, scores += 3 * kScoreStride, upcoming = nullptr) {
    ScoresRows<3>(queries, keys, upcoming, count, head_size, scores);
  }
  switch (rows) {
    case 1:
      return ScoresRows<1>(queries, keys, upcoming, count, head_size, scores);
    case 2:
      return ScoresRows<2>(queries, keys, upcoming, count, head_size, scores);
    case 3:
      return ScoresRows<3>(queries, keys, upcoming, count, head_size, scores);
    default:
      return ScoresRows<4>(queries, keys, upcoming, count, head_size, scores);
  }
}

SoftmaxState Weights(float* scores, int32_t count, float scale, float softcap) {
  const __m512 minus_infinity = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  __m512 maxima = minus_infinity;
  for (int32_t j = 0; j < count; j += kLanes) {
    const __mmask16 there = FirstLanes(count - j < kLanes ? count - j : kLanes);
    __m512 score = _mm512_mul_ps(_mm512_maskz_loadu_ps(there, scores + j), _mm512_set1_ps(scale));
    if (softcap > 0.0F) {
      score = _mm512_mul_ps(_mm512_set1_ps(softcap), Tanh(_mm512_div_ps(score, _mm512_set1_ps(softcap))));
    }
    _mm512_mask_storeu_ps(scores + j, there, score);
    maxima = _mm512_max_ps(maxima, _mm512_mask_blend_ps(there, minus_infinity, score));
  }
  const float max = _mm512_reduce_max_ps(maxima);
  __m512 sums = _mm512_setzero_ps();
  for (int32_t j = 0; j < count; j += kLanes) {
    const __mmask16 there = FirstLanes(count - j < kLanes ? count - j : kLanes);
    const __m512 distance = _mm512_sub_ps(_mm512_maskz_loadu_ps(there, scores + j), _mm512_set1_ps(max));
    const __m512 weight = _mm512_maskz_mov_ps(there, ExpNonPositive(distance));
    _mm512_mask_storeu_ps(scores + j, there, weight);
    sums = _mm512_add_ps(sums, weight);
  }
  return {max, _mm512_reduce_add_ps(sums)};
}

// kRows x (kVectors * 16) outputs from offset d on; per output the order is that of j, whatever kRows and kVectors are.
template <int kRows, int kVectors>
void AccumulateBlock(const float* weights, const float* const* values, const float* const* upcoming, int32_t count,
                     int32_t d, int32_t head_size, float* const* outputs) {
  __m512 sums[kRows * kVectors];
  const auto for_each_sum = [&](const auto& f) {
    Unroll<kRows>([&](auto r) { Unroll<kVectors>([&](auto v) { f(r, v, sums[r * kVectors + v]); }); });
  };
  for_each_sum([&](auto r, auto v, __m512& sum) { sum = _mm512_loadu_ps(outputs[r] + d + v * kLanes); });
  for (int32_t j = 0; j < count; ++j) {
    if (upcoming != nullptr) PrefetchRow(upcoming[j], head_size);
    __m512 value[kVectors];
    Unroll<kVectors>([&](auto v) { value[v] = Load(values[j] + d + v * kLanes); });
    for_each_sum([&](auto r, auto v, __m512& sum) {
      sum = _mm512_fmadd_ps(_mm512_set1_ps(weights[r * kScoreStride + j]), value[v], sum);
    });
  }
  for_each_sum([&](auto r, auto v, const __m512& sum) { _mm512_storeu_ps(outputs[r] + d + v * kLanes, sum); });
}

// The last head_size % 16 outputs.
template <int kRows>
void AccumulateTail(const float* weights, const float* const* values, int32_t count, int32_t d, int32_t head_size,
                    float* const* outputs) {
  const __mmask16 there = FirstLanes(head_size - d);
  __m512 sums[kRows];
  Unroll<kRows>([&](auto r) { sums[r] = _mm512_maskz_loadu_ps(there, outputs[r] + d); });
  for (int32_t j = 0; j < count; ++j) {
    const __m512 value = LoadPart(values[j] + d, head_size - d);
    Unroll<kRows>(
        [&](auto r) { sums[r] = _mm512_fmadd_ps(_mm512_set1_ps(weights[r * kScoreStride + j]), value, sums[r]); });
  }
  Unroll<kRows>([&](auto r) { _mm512_mask_storeu_ps(outputs[r] + d, there, sums[r]); });
}

template <int kRows>
void AccumulateRows(const float* weights, const float* const* values, const float* const* upcoming, int32_t count,
                    int32_t head_size, float* const* outputs) {
  const float* const* ahead = upcoming;
  int32_t d = 0;
  for (; d + kCommonVectors * kLanes <= head_size; d += kCommonVectors * kLanes, ahead = nullptr) {
    AccumulateBlock<kRows, kCommonVectors>(weights, values, ahead, count, d, head_size, outputs);
  }
  for (; d + kLanes <= head_size; d += kLanes, ahead = nullptr)
    AccumulateBlock<kRows, 1>(weights, values, ahead, count, d, head_size, outputs);
  if (d < head_size) AccumulateTail<kRows>(weights, values, count, d, head_size, outputs);
}

void Accumulate(const float* weights, int32_t rows, const float* const* values, const float* const* upcoming,
                int32_t count, int32_t head_size, float* const* outputs) {
  // 32 registers: 4 sums a row, and 4 values; weights come from memory.
  switch (rows) {
    case 1:
      return AccumulateRows<1>(weights, values, upcoming, count, head_size, outputs);
    case 2:
      return AccumulateRows<2>(weights, values, upcoming, count, head_size, outputs);
    case 3:
      return AccumulateRows<3>(weights, values, upcoming, count, head_size, outputs);
    case 4:
      return AccumulateRows<4>(weights, values, upcoming, count, head_size, outputs);
    case 5:
      return AccumulateRows<5>(weights, values, upcoming, count, head_size, outputs);
    default:
      return AccumulateRows<6>(weights, values, upcoming, count, head_size, outputs);
  }
}

}  // namespace

const AttentionMath& Avx512AttentionMath() {
  // Few rows are written in 8 bits: the loop of the level before serves.
  static const AttentionMath kMath{Scores, Weights, Accumulate, Avx2AttentionMath().quantise_row,
                                   Avx512Int8AttentionMath()};
  return kMath;
}

}  // namespace naiad
