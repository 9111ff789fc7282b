// AVX-512 with VNNI. This file alone is compiled with those flags, so nothing that other units could inline may be
// defined here.
#include <immintrin.h>

#include <array>
#include <cstring>
#include <utility>

#include "kernels/attention_functions_avx512.h"
#include "kernels/attention_math.h"
#include "kernels/quantised_row.h"
#include "kernels/unroll.h"

namespace naiad {
namespace {

constexpr int32_t kLanes = 16;
constexpr int32_t kVectorBytes = 64;
constexpr int32_t kWideDimensions = 64;  // What one vector holds of a row.
constexpr int32_t kWideVectors = 4;      // Vectors of the same dimensions of four packed rows.
constexpr int32_t kWideRows = 3;         // 32 registers: 4 sums of integers and 4 of floats a row, and 4 values.

// `count` bytes (1 .. 16), then zeros.
__m128i LoadBytes(const uint8_t* from, int32_t count) {
  if (count >= kLanes) return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return _mm_maskz_loadu_epi8(FirstLanes(count), from);
}

__m512i BroadcastFour(const uint8_t* bytes) {
  int32_t four = 0;
  std::memcpy(&four, bytes, sizeof(four));
  return _mm512_set1_epi32(four);
}

// A query is its codes, then -128 times their sum: what undoes the 128 in packed keys.
float PackQuery(const float* query, int32_t head_size, uint8_t* packed) {
  Avx2AttentionMath().quantise_row(query, head_size, packed);
  const float scale = RowScale(packed, head_size);
  const int32_t size = PackedHeadSize(head_size);
  std::memset(packed + head_size, 0, static_cast<size_t>(size - head_size));
  __m128i sums = _mm_setzero_si128();
  for (int32_t d = 0; d < size; d += kLanes) {
    sums = _mm_dpbusd_epi32(sums, _mm_set1_epi8(1), LoadBytes(packed + d, kLanes));
  }
  sums = _mm_add_epi32(sums, _mm_shuffle_epi32(sums, _MM_SHUFFLE(1, 0, 3, 2)));
  const int32_t offset = -128 * (_mm_cvtsi128_si32(sums) + _mm_extract_epi32(sums, 1));
  std::memcpy(packed + size, &offset, sizeof(offset));
  return scale;
}

// In each quarter of the vectors a 4 x 4 matrix of 32 bits, which is transposed.
[[gnu::always_inline]] inline void TransposeQuarters(__m512i (&v)[4]) {
  const __m512i a = _mm512_unpacklo_epi32(v[0], v[1]);
  const __m512i b = _mm512_unpackhi_epi32(v[0], v[1]);
  const __m512i c = _mm512_unpacklo_epi32(v[2], v[3]);
  const __m512i d = _mm512_unpackhi_epi32(v[2], v[3]);
  v[0] = _mm512_unpacklo_epi64(a, c);
  v[1] = _mm512_unpackhi_epi64(a, c);
  v[2] = _mm512_unpacklo_epi64(b, d);
  v[3] = _mm512_unpackhi_epi64(b, d);
}

// Sixteen dimensions of sixteen keys, `there` of which are in the rows, as four vectors of four dimensions. Keys get
// 128 added, which makes them unsigned.
[[gnu::always_inline]] inline void PackKeyBlock(const uint8_t* const* keys, int32_t d, int32_t there, uint8_t* packed) {
  __m512i v[4];
  Unroll<4>([&](auto i) {
    v[i] = _mm512_castsi128_si512(LoadBytes(keys[i] + d, there));
    v[i] = _mm512_mask_broadcast_i32x4(v[i], 0x00F0, LoadBytes(keys[4 + i] + d, there));
    v[i] = _mm512_mask_broadcast_i32x4(v[i], 0x0F00, LoadBytes(keys[8 + i] + d, there));
    v[i] = _mm512_mask_broadcast_i32x4(v[i], 0xF000, LoadBytes(keys[12 + i] + d, there));
  });
  TransposeQuarters(v);
  Unroll<4>([&](auto i) {
    _mm512_store_si512(packed + i * kVectorBytes, _mm512_xor_si512(v[i], _mm512_set1_epi8(INT8_MIN)));
  });
}

// For each group of sixteen keys, for each four dimensions: a vector.
void PackKeys(const uint8_t* const* keys, ChunkRange at, int32_t head_size, const PackedRows& to, RowStream* upcoming) {
  const int32_t size = PackedHeadSize(head_size);
  for (int32_t j = at.begin; j < at.end; j += kLanes, keys += kLanes) {
    uint8_t* const group = to.bytes + ptrdiff_t{j} * size;
    for (int32_t i = 0; i < kLanes; ++i) {
      if (i % 2 == 0) AskForRows(upcoming, kRowsAskedFor * 2 / kLanes, head_size);
      to.scales[j + i] = RowScale(keys[i], head_size);
    }
    int32_t d = 0;
    for (; d + kLanes <= head_size; d += kLanes) PackKeyBlock(keys, d, kLanes, group + d * kLanes);
    if (d < head_size) PackKeyBlock(keys, d, head_size - d, group + d * kLanes);
  }
}

// Bytes of four rows side by side: v[i] has dimensions 4 i .. 4 i + 3 of each quarter.
[[gnu::always_inline]] inline void Interleave(__m512i (&v)[4]) {
  const __m512i a = _mm512_unpacklo_epi8(v[0], v[1]);
  const __m512i b = _mm512_unpackhi_epi8(v[0], v[1]);
  const __m512i c = _mm512_unpacklo_epi8(v[2], v[3]);
  const __m512i d = _mm512_unpackhi_epi8(v[2], v[3]);
  v[0] = _mm512_unpacklo_epi16(a, c);
  v[1] = _mm512_unpackhi_epi16(a, c);
  v[2] = _mm512_unpacklo_epi16(b, d);
  v[3] = _mm512_unpackhi_epi16(b, d);
}

// Dimensions d .. d + 15 of four rows, `there` of which are in them, in their order.
void PackNarrowValues(const uint8_t* const* values, int32_t d, int32_t there, uint8_t* packed) {
  const __m128i v0 = LoadBytes(values[0] + d, there);
  const __m128i v1 = LoadBytes(values[1] + d, there);
  const __m128i v2 = LoadBytes(values[2] + d, there);
  const __m128i v3 = LoadBytes(values[3] + d, there);
  const __m128i a = _mm_unpacklo_epi8(v0, v1);
  const __m128i b = _mm_unpackhi_epi8(v0, v1);
  const __m128i c = _mm_unpacklo_epi8(v2, v3);
  const __m128i e = _mm_unpackhi_epi8(v2, v3);
  __m128i* const to = reinterpret_cast<__m128i*>(packed);
  _mm_store_si128(to, _mm_unpacklo_epi16(a, c));
  _mm_store_si128(to + 1, _mm_unpackhi_epi16(a, c));
  _mm_store_si128(to + 2, _mm_unpacklo_epi16(b, e));
  _mm_store_si128(to + 3, _mm_unpackhi_epi16(b, e));
}

// For each four positions, for each sixteen dimensions: a vector. Of whole 64 dimensions, vector i has 4 i .. 4 i + 3
// of each quarter, as that is how they come.
void PackValues(const uint8_t* const* values, ChunkRange at, int32_t head_size, const PackedRows& to,
                RowStream* upcoming) {
  const int32_t size = PackedHeadSize(head_size);
  for (int32_t j = at.begin; j < at.end; j += 4, values += 4) {
    uint8_t* const packed = to.bytes + ptrdiff_t{j} * size;
    AskForRows(upcoming, kRowsAskedFor * 4 / kLanes, head_size);
    Unroll<4>([&](auto i) { to.scales[j + i] = RowScale(values[i], head_size); });
    int32_t d = 0;
    for (; d + kWideDimensions <= head_size; d += kWideDimensions) {
      __m512i v[4];
      Unroll<4>([&](auto i) { v[i] = _mm512_loadu_si512(values[i] + d); });
      Interleave(v);
      Unroll<4>([&](auto i) { _mm512_store_si512(packed + d * 4 + i * kVectorBytes, v[i]); });
    }
    for (; d < head_size; d += kLanes) PackNarrowValues(values, d, head_size - d, packed + d * 4);
  }
}

// kRows queries against kGroups groups of keys.
template <int kRows, int kGroups>
void ScoreGroups(const PackedQueries& queries, const PackedRows& keys, int32_t position, int32_t head_size,
                 float* scores, RowStream* upcoming) {
  const int32_t size = PackedHeadSize(head_size);
  const ptrdiff_t group_bytes = ptrdiff_t{size} * kLanes;
  const uint8_t* packed = keys.bytes + ptrdiff_t{position} * size;
  __m512i sums[kRows * kGroups];
  Unroll<kRows>([&](auto r) {
    const __m512i offset = BroadcastFour(queries.bytes + r * queries.stride + size);
    Unroll<kGroups>([&](auto g) { sums[r * kGroups + g] = offset; });
  });
  const int32_t asked_for = kGroups * kRowsAskedFor * kLanes / size;
  for (int32_t d = 0; d < size; d += kLanes, packed += kLanes * kLanes) {
    AskForRows(upcoming, asked_for, head_size);
    Unroll<4>([&](auto i) {
      __m512i key[kGroups];
      Unroll<kGroups>([&](auto g) { key[g] = _mm512_load_si512(packed + g * group_bytes + i * kVectorBytes); });
      Unroll<kRows>([&](auto r) {
        const __m512i query = BroadcastFour(queries.bytes + r * queries.stride + d + 4 * i);
        Unroll<kGroups>(
            [&](auto g) { sums[r * kGroups + g] = _mm512_dpbusd_epi32(sums[r * kGroups + g], key[g], query); });
      });
    });
  }
  Unroll<kGroups>([&](auto g) {
    const __m512 scale = _mm512_loadu_ps(keys.scales + position + g * kLanes);
    Unroll<kRows>([&](auto r) {
      const __m512 score = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[r * kGroups + g]), scale);
      _mm512_storeu_ps(scores + r * kScoreStride + position + g * kLanes,
                       _mm512_mul_ps(score, _mm512_set1_ps(queries.factors[r])));
    });
  });
}

template <int kRows>
void ScoreRows(const PackedQueries& queries, const PackedRows& keys, ChunkRange range, int32_t head_size, float* scores,
               RowStream* upcoming) {
  int32_t j = range.begin;
  for (; j + 4 * kLanes <= range.end; j += 4 * kLanes)
    ScoreGroups<kRows, 4>(queries, keys, j, head_size, scores, upcoming);
  if (j + 2 * kLanes <= range.end) {
    ScoreGroups<kRows, 2>(queries, keys, j, head_size, scores, upcoming);
    j += 2 * kLanes;
  }
  if (j < range.end) ScoreGroups<kRows, 1>(queries, keys, j, head_size, scores, upcoming);
}

void Scores(const PackedQueries& queries, const PackedRows& keys, ChunkRange range, int32_t head_size, float* scores,
            RowStream* upcoming) {
  static constexpr auto kForRows = []<int... kIndex>(std::integer_sequence<int, kIndex...>) {
    return std::array{&ScoreRows<kIndex + 1>...};
  }(std::make_integer_sequence<int, kMaxInt8StripRows>{});
  kForRows[static_cast<size_t>(queries.rows - 1)](queries, keys, range, head_size, scores, upcoming);
}

// 2^x for x <= 0.
__m512 Exp2NonPositive(__m512 x) {
  x = _mm512_max_ps(_mm512_set1_ps(kLowestExponentOfTwo), x);  // In this order NaN stays.
  const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  return _mm512_scalef_ps(Polynomial(kExp2Polynomial, _mm512_sub_ps(x, n)), n);
}

// Folds lanes that differ in one bit of their number with `max`: of u in the lanes without that bit, of v in those with
// it. Four such steps turn sixteen vectors into one of their largest lanes, in the order of the vectors.
template <int kBit>
__m512i MaxLanes(__m512i u, __m512i v) {
  if constexpr (kBit == 8) {
    return _mm512_max_epu32(_mm512_mask_blend_epi32(0xFF00, u, v), _mm512_alignr_epi32(v, u, 8));
  } else if constexpr (kBit == 4) {
    const __m512i other = _mm512_setr_epi32(4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 24, 25, 26, 27);
    return _mm512_max_epu32(_mm512_mask_blend_epi32(0xF0F0, u, v), _mm512_permutex2var_epi32(u, other, v));
  } else if constexpr (kBit == 2) {
    return _mm512_max_epu32(_mm512_unpacklo_epi64(u, v), _mm512_unpackhi_epi64(u, v));
  } else {
    const __m512i other = _mm512_setr_epi32(1, 16, 3, 18, 5, 20, 7, 22, 9, 24, 11, 26, 13, 28, 15, 30);
    return _mm512_max_epu32(_mm512_mask_blend_epi32(0xAAAA, u, v), _mm512_permutex2var_epi32(u, other, v));
  }
}

// The largest of each sixteen products. They are not negative, or no number, which is the largest of all: floats in the
// order of unsigned integers.
__m512i LargestProducts(const float* products) {
  __m512i v[kLanes / 2];
  Unroll<8>([&](auto i) {
    v[i] = MaxLanes<8>(_mm512_load_si512(products + i * kLanes), _mm512_load_si512(products + (i + 8) * kLanes));
  });
  Unroll<4>([&](auto i) { v[i] = MaxLanes<4>(v[i], v[i + 4]); });
  Unroll<2>([&](auto i) { v[i] = MaxLanes<2>(v[i], v[i + 2]); });
  return MaxLanes<1>(v[0], v[1]);
}

// Turns the products of the vectors first .. end-1 into codes, with zeros before and behind them.
void QuantiseProducts(const float* products, int32_t first, int32_t end, const WeightCodes& to) {
  static_assert(kChunkTokens == kLanes * kLanes);
  __m512i bits = LargestProducts(products);
  alignas(kVectorBytes) float inverses[kLanes];
  if constexpr (kWeightGroupTokens == 2 * kLanes) {
    bits = _mm512_max_epu32(bits, _mm512_shuffle_epi32(bits, _MM_PERM_CDAB));
  }
  const __m512 largest = _mm512_castsi512_ps(bits);
  const __mmask16 usable = _mm512_cmp_ps_mask(largest, _mm512_set1_ps(kSmallestMagnitude), _CMP_NLT_UQ);
  _mm512_store_ps(inverses, _mm512_maskz_div_ps(usable, _mm512_set1_ps(kMaxWeightCode), largest));
  const __m512 scales = _mm512_mul_ps(largest, _mm512_set1_ps(1.0F / kMaxWeightCode));
  if constexpr (kWeightGroupTokens == 2 * kLanes) {
    _mm512_mask_compressstoreu_ps(to.scales, 0x5555, scales);
  } else {
    _mm512_storeu_ps(to.scales, scales);
  }
  __m128i* const codes = reinterpret_cast<__m128i*>(to.codes);
  for (int32_t v = 0; v < first; ++v) _mm_store_si128(codes + v, _mm_setzero_si128());
  for (int32_t v = first; v < end; ++v) {
    const __m512 scaled = _mm512_mul_ps(_mm512_load_ps(products + v * kLanes), _mm512_set1_ps(inverses[v]));
    _mm_store_si128(codes + v, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(scaled)));
  }
  for (int32_t v = end; v < kLanes; ++v) _mm_store_si128(codes + v, _mm_setzero_si128());
}

// Lane i and lane i + 8 first, then i + 4, i + 2, i + 1.
float SumOfLanes(__m512 v) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v),
                                     _mm256_castsi256_ps(_mm512_extracti64x4_epi64(_mm512_castps_si512(v), 1)));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

SoftmaxState Weights(float* scores, ChunkRange range, const float* value_scales, float softcap, const WeightCodes& to) {
  const int32_t first = range.begin / kLanes;
  const int32_t end = (range.end + kLanes - 1) / kLanes;
  const auto lanes_of = [&](int32_t v) {
    const int32_t before = range.begin - v * kLanes;
    const int32_t until = range.end - v * kLanes;
    return static_cast<__mmask16>(FirstLanes(until < kLanes ? until : kLanes) & ~FirstLanes(before > 0 ? before : 0));
  };
  const __m512 minus_infinity = _mm512_set1_ps(-__builtin_inff());
  __m512 maxima = minus_infinity;
  for (int32_t v = first; v < end; ++v) {
    __m512 score = _mm512_loadu_ps(scores + v * kLanes);
    if (softcap > 0.0F) {
      score = _mm512_mul_ps(_mm512_set1_ps(softcap), Tanh(_mm512_div_ps(score, _mm512_set1_ps(softcap))));
      score = _mm512_mul_ps(score, _mm512_set1_ps(kLog2OfE));
      _mm512_storeu_ps(scores + v * kLanes, score);
    }
    maxima = _mm512_mask_max_ps(maxima, lanes_of(v), maxima, score);
  }
  const float max = _mm512_reduce_max_ps(maxima);
  alignas(kVectorBytes) float products[kChunkTokens];
  for (int32_t v = 0; v < first; ++v) _mm512_store_ps(products + v * kLanes, _mm512_setzero_ps());
  for (int32_t v = end; v < kLanes; ++v) _mm512_store_ps(products + v * kLanes, _mm512_setzero_ps());
  __m512 sums = _mm512_setzero_ps();
  for (int32_t v = first; v < end; ++v) {
    const __mmask16 lanes = lanes_of(v);
    const __m512 score = _mm512_loadu_ps(scores + v * kLanes);
    const __m512 weight = Exp2NonPositive(_mm512_sub_ps(score, _mm512_set1_ps(max)));
    sums = _mm512_mask_add_ps(sums, lanes, sums, weight);
    _mm512_store_ps(products + v * kLanes,
                    _mm512_maskz_mul_ps(lanes, weight, _mm512_loadu_ps(value_scales + v * kLanes)));
  }
  QuantiseProducts(products, first, end, to);
  return {max * kLn2, SumOfLanes(sums)};
}

// Puts the four dimensions that vector i has of quarter q to where vector q has quarter i.
[[gnu::always_inline]] inline void RestoreOrder(__m512 (&v)[4]) {
  const __m512 a = _mm512_shuffle_f32x4(v[0], v[1], 0x44);  // Quarters 0 and 1 of both.
  const __m512 b = _mm512_shuffle_f32x4(v[0], v[1], 0xEE);
  const __m512 c = _mm512_shuffle_f32x4(v[2], v[3], 0x44);
  const __m512 d = _mm512_shuffle_f32x4(v[2], v[3], 0xEE);
  v[0] = _mm512_shuffle_f32x4(a, c, 0x88);
  v[1] = _mm512_shuffle_f32x4(a, c, 0xDD);
  v[2] = _mm512_shuffle_f32x4(b, d, 0x88);
  v[3] = _mm512_shuffle_f32x4(b, d, 0xDD);
}

// kRows x (kVectors * 16) outputs from dimension d on.
template <int kRows, int kVectors>
void AccumulateBlock(const WeightCodes& weights, const PackedRows& values, ChunkRange groups, int32_t d,
                     int32_t head_size, float* const* outputs, RowStream* upcoming) {
  constexpr int kSteps = kWeightGroupTokens / 4;
  const ptrdiff_t step_bytes = ptrdiff_t{PackedHeadSize(head_size)} * 4;
  const uint8_t* packed = values.bytes + groups.begin * kSteps * step_bytes + d * 4;
  __m512 floats[kRows][kVectors];
  Unroll<kRows>([&](auto r) { Unroll<kVectors>([&](auto v) { floats[r][v] = _mm512_setzero_ps(); }); });
  for (int32_t group = groups.begin; group < groups.end; ++group) {
    AskForRows(upcoming, kRowsAskedFor * kWeightGroupTokens / kLanes, head_size);
    const uint8_t* const codes = weights.codes + group * kWeightGroupTokens;
    __m512i sums[kRows][kVectors];
    Unroll<kRows>([&](auto r) { Unroll<kVectors>([&](auto v) { sums[r][v] = _mm512_setzero_si512(); }); });
    Unroll<kSteps>([&](auto step) {
      __m512i value[kVectors];
      Unroll<kVectors>([&](auto v) { value[v] = _mm512_load_si512(packed + v * kVectorBytes); });
      Unroll<kRows>([&](auto r) {
        const __m512i code = BroadcastFour(codes + r * kChunkTokens + step * 4);
        Unroll<kVectors>([&](auto v) { sums[r][v] = _mm512_dpbusd_epi32(sums[r][v], code, value[v]); });
      });
      packed += step_bytes;
    });
    Unroll<kRows>([&](auto r) {
      const __m512 scale = _mm512_set1_ps(weights.scales[r * kWeightGroups + group]);
      Unroll<kVectors>(
          [&](auto v) { floats[r][v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[r][v]), scale, floats[r][v]); });
    });
  }
  Unroll<kRows>([&](auto r) {
    if constexpr (kVectors == kWideVectors) {
      RestoreOrder(floats[r]);
      Unroll<kVectors>([&](auto v) { _mm512_storeu_ps(outputs[r] + d + v * kLanes, floats[r][v]); });
    } else {
      const int32_t rest = head_size - d;
      _mm512_mask_storeu_ps(outputs[r] + d, FirstLanes(rest < kLanes ? rest : kLanes), floats[r][0]);
    }
  });
}

template <int kRows>
void AccumulateRows(const WeightCodes& weights, const PackedRows& values, ChunkRange groups, int32_t head_size,
                    float* const* outputs, RowStream* upcoming) {
  int32_t d = 0;
  for (; d + kWideDimensions <= head_size; d += kWideDimensions) {
    AccumulateBlock<kRows, kWideVectors>(weights, values, groups, d, head_size, outputs, upcoming);
  }
  for (; d < head_size; d += kLanes)
    AccumulateBlock<kRows, 1>(weights, values, groups, d, head_size, outputs, upcoming);
}

void Accumulate(const WeightCodes& weights, int32_t rows, const PackedRows& values, ChunkRange groups,
                int32_t head_size, float* const* outputs, RowStream* upcoming) {
  WeightCodes rest = weights;
  for (; rows > kWideRows; rows -= kWideRows, outputs += kWideRows) {
    AccumulateRows<kWideRows>(rest, values, groups, head_size, outputs, upcoming);
    rest.codes += kWideRows * kChunkTokens;
    rest.scales += kWideRows * kWeightGroups;
  }
  if (rows == 1) return AccumulateRows<1>(rest, values, groups, head_size, outputs, upcoming);
  if (rows == 2) return AccumulateRows<2>(rest, values, groups, head_size, outputs, upcoming);
  AccumulateRows<3>(rest, values, groups, head_size, outputs, upcoming);
}

}  // namespace

const Int8AttentionMath& Avx512Int8AttentionMath() {
  static constexpr Int8AttentionMath kMath{PackQuery, PackKeys, PackValues, Scores, Weights, Accumulate};
  return kMath;
}

}  // namespace naiad
