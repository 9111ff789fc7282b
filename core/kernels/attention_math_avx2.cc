// AVX2 and FMA. This file alone is compiled with -mavx2 -mfma, so nothing that other units could inline may be defined
// here.
#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/attention_functions_avx2.h"
#include "kernels/attention_math.h"
#include "kernels/quantised_row.h"
#include "kernels/unroll.h"

namespace naiad {
namespace {

constexpr int32_t kLanes = 8;

// The lanes below `count` (0 .. 8) set.
__m256i LaneMask(int32_t count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

float HorizontalSum(__m256 v) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

float HorizontalMax(__m256 v) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

__m256 Load(const float* from) { return _mm256_loadu_ps(from); }

// The first `count` (1 .. 7) elements, then zeros.
__m256 LoadPart(const float* from, int32_t count) { return _mm256_maskload_ps(from, LaneMask(count)); }

// Sum of the lanes of each of eight vectors, in their order. Lanes are added in the order of HorizontalSum.
__m256 HorizontalSums(const __m256* v) {
  const auto halves = [](__m256 a, __m256 b) {  // Four sums of a, then four of b.
    return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
  };
  const auto quarters = [](__m256 a, __m256 b) {  // In each half two sums of a, then two of b.
    return _mm256_add_ps(_mm256_shuffle_ps(a, b, _MM_SHUFFLE(1, 0, 1, 0)),
                         _mm256_shuffle_ps(a, b, _MM_SHUFFLE(3, 2, 3, 2)));
  };
  const __m256 a = quarters(halves(v[0], v[4]), halves(v[1], v[5]));
  const __m256 b = quarters(halves(v[2], v[6]), halves(v[3], v[7]));
  return _mm256_add_ps(_mm256_shuffle_ps(a, b, _MM_SHUFFLE(2, 0, 2, 0)),
                       _mm256_shuffle_ps(a, b, _MM_SHUFFLE(3, 1, 3, 1)));
}

// kRows x kKeys dot products at once, at most eight. Each has one accumulator, filled in the order of d, so that its
// bits do not depend on kRows and kKeys.
template <int kRows, int kKeys>
void ScoresBlock(const float* const* queries, const float* const* keys, int32_t head_size, float* scores) {
  __m256 sums[kLanes];
  Unroll<kLanes>([&](auto i) { sums[i] = _mm256_setzero_ps(); });
  const auto add = [&](const auto& load, int32_t d) {
    __m256 key[kKeys];
    Unroll<kKeys>([&](auto k) { key[k] = load(keys[k] + d); });
    Unroll<kRows>([&](auto r) {
      const __m256 query = load(queries[r] + d);
      Unroll<kKeys>([&](auto k) { sums[r * kKeys + k] = _mm256_fmadd_ps(query, key[k], sums[r * kKeys + k]); });
    });
  };
  int32_t d = 0;
  for (; d + kLanes <= head_size; d += kLanes) {
    add([](const auto* from) { return Load(from); }, d);
  }
  if (d < head_size) add([rest = head_size - d](const auto* from) { return LoadPart(from, rest); }, d);
  alignas(32) float results[kLanes];
  _mm256_store_ps(results, HorizontalSums(sums));
  for (int r = 0; r < kRows; ++r) std::copy_n(results + r * kKeys, kKeys, scores + r * kScoreStride);
}

// Into the second level of the cache: the first has too few open requests for so many lines.
void Prefetch(const float* const* rows, int32_t count, int32_t head_size) {
  constexpr ptrdiff_t kLineBytes = 64;
  const auto row_bytes = static_cast<ptrdiff_t>(sizeof(float)) * head_size;
  for (int32_t j = 0; j < count; ++j) {
    const char* const row = reinterpret_cast<const char*>(rows[j]);
    for (ptrdiff_t offset = 0; offset < row_bytes; offset += kLineBytes) _mm_prefetch(row + offset, _MM_HINT_T1);
  }
}

template <int kRows, int kKeys>
void ScoresRows(const float* const* queries, const float* const* keys, const float* const* upcoming, int32_t count,
                int32_t head_size, float* scores) {
  if (upcoming != nullptr) Prefetch(upcoming, count, head_size);
  int32_t j = 0;
  for (; j + kKeys <= count; j += kKeys) ScoresBlock<kRows, kKeys>(queries, keys + j, head_size, scores + j);
  for (; j < count; ++j) ScoresBlock<kRows, 1>(queries, keys + j, head_size, scores + j);
}

void Scores(const float* const* queries, int32_t rows, const float* const* keys, const float* const* upcoming,
            int32_t count, int32_t head_size, float* scores) {
  // 16 registers: kRows * kKeys sums, kKeys keys and one query.
  for (; rows > 4; rows -= 4, queries += 4, scores += 4 * kScoreStride, upcoming = nullptr) {
    ScoresRows<4, 2>(queries, keys, upcoming, count, head_size, scores);
  }
  switch (rows) {
    case 1:
      return ScoresRows<1, 8>(queries, keys, upcoming, count, head_size, scores);
    case 2:
      return ScoresRows<2, 4>(queries, keys, upcoming, count, head_size, scores);
    case 3:
      return ScoresRows<3, 2>(queries, keys, upcoming, count, head_size, scores);
    default:
      return ScoresRows<4, 2>(queries, keys, upcoming, count, head_size, scores);
  }
}

SoftmaxState Weights(float* scores, int32_t count, float scale, float softcap) {
  const __m256 minus_infinity = _mm256_set1_ps(-std::numeric_limits<float>::infinity());
  const __m256 scales = _mm256_set1_ps(scale);
  __m256 maxima = minus_infinity;
  for (int32_t j = 0; j < count; j += kLanes) {
    __m256 score = _mm256_mul_ps(_mm256_loadu_ps(scores + j), scales);
    if (softcap > 0.0F) {
      score = _mm256_mul_ps(_mm256_set1_ps(softcap), Tanh(_mm256_div_ps(score, _mm256_set1_ps(softcap))));
    }
    score = _mm256_blendv_ps(minus_infinity, score, _mm256_castsi256_ps(LaneMask(count - j)));
    _mm256_storeu_ps(scores + j, score);
    maxima = _mm256_max_ps(maxima, score);
  }
  const float max = HorizontalMax(maxima);
  __m256 sums = _mm256_setzero_ps();
  for (int32_t j = 0; j < count; j += kLanes) {
    const __m256 weight = ExpNonPositive(_mm256_sub_ps(_mm256_loadu_ps(scores + j), _mm256_set1_ps(max)));
    _mm256_storeu_ps(scores + j, weight);
    sums = _mm256_add_ps(sums, weight);
  }
  return {max, HorizontalSum(sums)};
}

// kRows x (kVectors * 8) outputs from offset d on; per output the order is that of j, whatever kRows and kVectors are.
template <int kRows, int kVectors>
void AccumulateBlock(const float* weights, const float* const* values, int32_t count, int32_t d,
                     float* const* outputs) {
  __m256 sums[kRows * kVectors];
  const auto for_each_sum = [&](const auto& f) {
    Unroll<kRows>([&](auto r) { Unroll<kVectors>([&](auto v) { f(r, v, sums[r * kVectors + v]); }); });
  };
  for_each_sum([&](auto r, auto v, __m256& sum) { sum = _mm256_loadu_ps(outputs[r] + d + v * kLanes); });
  for (int32_t j = 0; j < count; ++j) {
    __m256 value[kVectors];
    Unroll<kVectors>([&](auto v) { value[v] = Load(values[j] + d + v * kLanes); });
    for_each_sum([&](auto r, auto v, __m256& sum) {
      sum = _mm256_fmadd_ps(_mm256_broadcast_ss(weights + r * kScoreStride + j), value[v], sum);
    });
  }
  for_each_sum([&](auto r, auto v, const __m256& sum) { _mm256_storeu_ps(outputs[r] + d + v * kLanes, sum); });
}

// The last head_size % 8 outputs.
template <int kRows>
void AccumulateTail(const float* weights, const float* const* values, int32_t count, int32_t d, int32_t head_size,
                    float* const* outputs) {
  const __m256i mask = LaneMask(head_size - d);
  for (int r = 0; r < kRows; ++r) {
    __m256 sum = _mm256_maskload_ps(outputs[r] + d, mask);
    for (int32_t j = 0; j < count; ++j) {
      const __m256 weight = _mm256_broadcast_ss(weights + r * kScoreStride + j);
      sum = _mm256_fmadd_ps(weight, LoadPart(values[j] + d, head_size - d), sum);
    }
    _mm256_maskstore_ps(outputs[r] + d, mask, sum);
  }
}

template <int kRows, int kVectors>
void AccumulateRows(const float* weights, const float* const* values, const float* const* upcoming, int32_t count,
                    int32_t head_size, float* const* outputs) {
  if (upcoming != nullptr) Prefetch(upcoming, count, head_size);
  int32_t d = 0;
  for (; d + kVectors * kLanes <= head_size; d += kVectors * kLanes) {
    AccumulateBlock<kRows, kVectors>(weights, values, count, d, outputs);
  }
  for (; d + kLanes <= head_size; d += kLanes) AccumulateBlock<kRows, 1>(weights, values, count, d, outputs);
  if (d < head_size) AccumulateTail<kRows>(weights, values, count, d, head_size, outputs);
}

void Accumulate(const float* weights, int32_t rows, const float* const* values, const float* const* upcoming,
                int32_t count, int32_t head_size, float* const* outputs) {
  // 16 registers: kRows * kVectors sums, kVectors values and one weight.
  for (; rows > 4; rows -= 4, weights += 4 * kScoreStride, outputs += 4, upcoming = nullptr) {
    AccumulateRows<4, 2>(weights, values, upcoming, count, head_size, outputs);
  }
  switch (rows) {
    case 1:
      return AccumulateRows<1, 6>(weights, values, upcoming, count, head_size, outputs);
    case 2:
      return AccumulateRows<2, 4>(weights, values, upcoming, count, head_size, outputs);
    case 3:
      return AccumulateRows<3, 3>(weights, values, upcoming, count, head_size, outputs);
    default:
      return AccumulateRows<4, 2>(weights, values, upcoming, count, head_size, outputs);
  }
}

// Eight floats, times `inverse` and rounded, as signed bytes.
std::int64_t QuantisedBytes(__m256 values, __m256 inverse) {
  const __m256i integers = _mm256_cvtps_epi32(_mm256_mul_ps(values, inverse));
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(integers), _mm256_extracti128_si256(integers, 1));
  return _mm_cvtsi128_si64(_mm_packs_epi16(words, words));
}

void QuantiseRow(const float* from, int32_t head_size, uint8_t* row) {
  const __m256 sign = _mm256_set1_ps(-0.0F);
  const __m256 infinity = _mm256_set1_ps(std::numeric_limits<float>::infinity());
  const int32_t whole = head_size - head_size % kLanes;
  const int32_t rest = head_size - whole;
  __m256 magnitudes = _mm256_setzero_ps();
  __m256 infinite = _mm256_setzero_ps();  // Lanes in which there was an infinity or a NaN.
  const auto see = [&](__m256 values) {
    const __m256 magnitude = _mm256_andnot_ps(sign, values);
    infinite = _mm256_or_ps(infinite, _mm256_cmp_ps(magnitude, infinity, _CMP_NLT_UQ));
    magnitudes = _mm256_max_ps(magnitudes, magnitude);
  };
  for (int32_t d = 0; d < whole; d += kLanes) see(Load(from + d));
  if (rest > 0) see(LoadPart(from + whole, rest));
  const bool finite = _mm256_movemask_ps(infinite) == 0;
  const float magnitude = finite ? HorizontalMax(magnitudes) : 0.0F;
  if (magnitude < kSmallestMagnitude) {
    std::memset(row, 0, static_cast<size_t>(head_size));
    return SetRowScale(row, head_size, finite ? 0.0F : std::numeric_limits<float>::quiet_NaN());
  }
  const __m256 inverse = _mm256_set1_ps(kMaxQuantised / magnitude);
  for (int32_t d = 0; d < whole; d += kLanes) {
    const std::int64_t bytes = QuantisedBytes(Load(from + d), inverse);
    std::memcpy(row + d, &bytes, sizeof(bytes));
  }
  if (rest > 0) {
    const std::int64_t bytes = QuantisedBytes(LoadPart(from + whole, rest), inverse);
    std::memcpy(row + whole, &bytes, static_cast<size_t>(rest));
  }
  SetRowScale(row, head_size, magnitude / kMaxQuantised);
}

}  // namespace

const AttentionMath& Avx2AttentionMath() {
  static const AttentionMath kMath{Scores, Weights, Accumulate, QuantiseRow, Avx2Int8AttentionMath()};
  return kMath;
}

}  // namespace naiad
