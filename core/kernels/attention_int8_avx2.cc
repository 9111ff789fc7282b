// AVX2 and FMA. This file alone is compiled with -mavx2 -mfma, so nothing that other units could inline may be defined
// here. Bytes are packed as 16-bit integers: instructions that multiply bytes would saturate.
#include <immintrin.h>

#include <array>
#include <cstring>
#include <limits>
#include <utility>

#include "kernels/attention_functions_avx2.h"
#include "kernels/attention_math.h"
#include "kernels/quantised_row.h"
#include "kernels/unroll.h"

namespace naiad {
namespace {

constexpr int32_t kLanes = 8;
constexpr int32_t kBlock = 16;  // Keys, or dimensions, that are taken together: two vectors of sums.
constexpr int32_t kVectorBytes = 32;
constexpr int32_t kMaxTogether = 3;  // Rows of Accumulate: 16 registers, of which each takes two sums of either kind.

// `count` signed bytes (1 .. 16) as 16-bit integers, then zeros.
__m256i LoadWide(const uint8_t* from, int32_t count) {
  if (count >= kBlock) return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  alignas(16) uint8_t bytes[kBlock] = {};
  std::memcpy(bytes, from, static_cast<size_t>(count));
  return _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(bytes)));
}

void Store(uint8_t* to, __m256i v) { _mm256_store_si256(reinterpret_cast<__m256i*>(to), v); }
__m256i LoadVector(const uint8_t* from) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(from)); }

// Two 16-bit integers in every lane.
__m256i BroadcastTwo(const uint8_t* from) {
  int32_t two = 0;
  std::memcpy(&two, from, sizeof(two));
  return _mm256_set1_epi32(two);
}

// A query is its codes in 16 bits.
float PackQuery(const float* query, int32_t head_size, uint8_t* packed) {
  const int32_t size = PackedHeadSize(head_size);
  uint8_t* const codes = packed + size;  // Behind the 16-bit codes that are written over them, block by block.
  Avx2AttentionMath().quantise_row(query, head_size, codes);
  const float scale = RowScale(codes, head_size);
  for (int32_t d = 0; d < head_size; d += kBlock) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(packed + d * 2), LoadWide(codes + d, head_size - d));
  }
  return scale;
}

void Transpose(__m256i (&v)[8]) {
  __m256i pairs[8];
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
  }
  __m256i fours[8];
  for (int i = 0; i < 8; i += 4) {
    fours[i] = _mm256_unpacklo_epi64(pairs[i], pairs[i + 2]);
    fours[i + 1] = _mm256_unpackhi_epi64(pairs[i], pairs[i + 2]);
    fours[i + 2] = _mm256_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
    fours[i + 3] = _mm256_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x20);
    v[i + 4] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x31);
  }
}

// For each group of sixteen keys, for each two dimensions: two vectors, of eight keys each.
void PackKeys(const uint8_t* const* keys, ChunkRange at, int32_t head_size, const PackedRows& to, RowStream* upcoming) {
  const ptrdiff_t size = PackedHeadSize(head_size);
  for (int32_t j = at.begin; j < at.end; j += kLanes, keys += kLanes) {
    uint8_t* const group = to.bytes + (j / kBlock * kBlock * size) * 2 + (j % kBlock / kLanes) * kVectorBytes;
    for (int32_t i = 0; i < kLanes; ++i) {
      if (i % 2 == 0) AskForRows(upcoming, kRowsAskedFor * 2 / kBlock, head_size);
      to.scales[j + i] = RowScale(keys[i], head_size);
    }
    for (int32_t d = 0; d < head_size; d += kBlock) {
      __m256i v[8];
      for (int i = 0; i < 8; ++i) v[i] = LoadWide(keys[i] + d, head_size - d);
      Transpose(v);
      for (int i = 0; i < 8; ++i) Store(group + (d / 2 + i) * 2 * kVectorBytes, v[i]);
    }
  }
}

// For each two positions, for each sixteen dimensions: two vectors, of eight dimensions each.
void PackValues(const uint8_t* const* values, ChunkRange at, int32_t head_size, const PackedRows& to,
                RowStream* upcoming) {
  const ptrdiff_t size = PackedHeadSize(head_size);
  for (int32_t j = at.begin; j < at.end; j += 2, values += 2) {
    AskForRows(upcoming, kRowsAskedFor * 2 / kBlock, head_size);
    for (int32_t i = 0; i < 2; ++i) {
      to.scales[j + i] = RowScale(values[i], head_size);
    }
    for (int32_t d = 0; d < head_size; d += kBlock) {
      const __m256i a = LoadWide(values[0] + d, head_size - d);
      const __m256i b = LoadWide(values[1] + d, head_size - d);
      const __m256i low = _mm256_unpacklo_epi16(a, b);
      const __m256i high = _mm256_unpackhi_epi16(a, b);
      uint8_t* const packed = to.bytes + j * size * 2 + d * 4;
      Store(packed, _mm256_permute2x128_si256(low, high, 0x20));
      Store(packed + kVectorBytes, _mm256_permute2x128_si256(low, high, 0x31));
    }
  }
}

// kRows queries against a group of sixteen keys.
template <int kRows>
void ScoreRows(const PackedQueries& queries, const PackedRows& keys, ChunkRange range, int32_t head_size, float* scores,
               RowStream* upcoming) {
  const ptrdiff_t size = PackedHeadSize(head_size);
  for (int32_t j = range.begin; j < range.end; j += kBlock) {
    const uint8_t* packed = keys.bytes + j * size * 2;
    AskForRows(upcoming, kRowsAskedFor, head_size);
    __m256i sums[kRows][2];
    Unroll<kRows>([&](auto r) { Unroll<2>([&](auto v) { sums[r][v] = _mm256_setzero_si256(); }); });
    for (ptrdiff_t d = 0; d < size; d += 2, packed += 2 * kVectorBytes) {
      const __m256i key[2] = {LoadVector(packed), LoadVector(packed + kVectorBytes)};
      Unroll<kRows>([&](auto r) {
        const __m256i query = BroadcastTwo(queries.bytes + r * queries.stride + d * 2);
        Unroll<2>([&](auto v) { sums[r][v] = _mm256_add_epi32(sums[r][v], _mm256_madd_epi16(key[v], query)); });
      });
    }
    Unroll<2>([&](auto v) {
      const __m256 scale = _mm256_loadu_ps(keys.scales + j + v * kLanes);
      Unroll<kRows>([&](auto r) {
        const __m256 score = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[r][v]), scale);
        _mm256_storeu_ps(scores + r * kScoreStride + j + v * kLanes,
                         _mm256_mul_ps(score, _mm256_set1_ps(queries.factors[r])));
      });
    });
  }
}

void Scores(const PackedQueries& queries, const PackedRows& keys, ChunkRange range, int32_t head_size, float* scores,
            RowStream* upcoming) {
  static constexpr auto kForRows = []<int... kIndex>(std::integer_sequence<int, kIndex...>) {
    return std::array{&ScoreRows<kIndex + 1>...};
  }(std::make_integer_sequence<int, kMaxInt8StripRows>{});
  kForRows[static_cast<size_t>(queries.rows - 1)](queries, keys, range, head_size, scores, upcoming);
}

// 2^x for x <= 0.
__m256 Exp2NonPositive(__m256 x) {
  x = _mm256_max_ps(_mm256_set1_ps(kLowestExponentOfTwo), x);  // In this order NaN stays.
  const __m256 n = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(Polynomial(kExp2Polynomial, _mm256_sub_ps(x, n)), _mm256_castsi256_ps(exponent));
}

// Lanes of the vector from position `at` on that are in the range.
__m256 LanesOf(ChunkRange range, int32_t at) {
  const __m256i position = _mm256_add_epi32(_mm256_set1_epi32(at), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  const __m256i below_end = _mm256_cmpgt_epi32(_mm256_set1_epi32(range.end), position);
  const __m256i below_begin = _mm256_cmpgt_epi32(_mm256_set1_epi32(range.begin), position);
  return _mm256_castsi256_ps(_mm256_andnot_si256(below_begin, below_end));
}

float LargestLane(__m256 v) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

float SumOfLanes(__m256 v) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// Products are not negative, or no number, which is the largest of all: floats in the order of unsigned integers.
float LargestProduct(const float* products) {
  __m256i largest = _mm256_setzero_si256();
  for (int32_t j = 0; j < kWeightGroupTokens; j += kLanes) {
    largest = _mm256_max_epu32(largest, _mm256_castps_si256(_mm256_load_ps(products + j)));
  }
  __m128i four = _mm_max_epu32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
  four = _mm_max_epu32(four, _mm_shuffle_epi32(four, _MM_SHUFFLE(1, 0, 3, 2)));
  four = _mm_max_epu32(four, _mm_shuffle_epi32(four, _MM_SHUFFLE(2, 3, 0, 1)));
  return _mm_cvtss_f32(_mm_castsi128_ps(four));
}

void QuantiseGroup(const float* products, uint8_t* codes, float* scale) {
  const float largest = LargestProduct(products);
  *scale = largest * (1.0F / kMaxWeightCode);
  const bool is_finite = largest <= std::numeric_limits<float>::max();
  const float inverse = !is_finite || largest < kSmallestMagnitude ? 0.0F : kMaxWeightCode / largest;
  for (int32_t j = 0; j < kWeightGroupTokens; j += kLanes) {
    const __m256 scaled = _mm256_mul_ps(_mm256_load_ps(products + j), _mm256_set1_ps(inverse));
    // What is no number becomes INT32_MIN, and 0 as it saturates.
    const __m256i integers = _mm256_cvtps_epi32(scaled);
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(integers), _mm256_extracti128_si256(integers, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(codes + j), _mm_packus_epi16(words, words));
  }
}

SoftmaxState Weights(float* scores, ChunkRange range, const float* value_scales, float softcap, const WeightCodes& to) {
  const int32_t begin = range.begin / kBlock * kBlock;
  const int32_t end = (range.end + kBlock - 1) / kBlock * kBlock;
  const __m256 minus_infinity = _mm256_set1_ps(-std::numeric_limits<float>::infinity());
  __m256 maxima = minus_infinity;
  for (int32_t j = begin; j < end; j += kLanes) {
    __m256 score = _mm256_loadu_ps(scores + j);
    if (softcap > 0.0F) {
      score = _mm256_mul_ps(_mm256_set1_ps(softcap), Tanh(_mm256_div_ps(score, _mm256_set1_ps(softcap))));
      score = _mm256_mul_ps(score, _mm256_set1_ps(kLog2OfE));
      _mm256_storeu_ps(scores + j, score);
    }
    maxima = _mm256_max_ps(maxima, _mm256_blendv_ps(minus_infinity, score, LanesOf(range, j)));
  }
  const float max = LargestLane(maxima);
  alignas(kVectorBytes) float products[kChunkTokens] = {};
  __m256 sums[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};  // Of lanes of sixteen, as at every level.
  for (int32_t j = begin; j < end; j += kLanes) {
    const __m256 lanes = LanesOf(range, j);
    const __m256 weight =
        _mm256_and_ps(lanes, Exp2NonPositive(_mm256_sub_ps(_mm256_loadu_ps(scores + j), _mm256_set1_ps(max))));
    __m256& sum = sums[j / kLanes % 2];
    sum = _mm256_add_ps(sum, weight);
    const __m256 product = _mm256_mul_ps(weight, _mm256_loadu_ps(value_scales + j));
    _mm256_store_ps(products + j, _mm256_and_ps(lanes, product));
  }
  for (int32_t g = 0; g < kWeightGroups; ++g) {
    QuantiseGroup(products + g * kWeightGroupTokens, to.codes + g * kWeightGroupTokens, to.scales + g);
  }
  return {max * kLn2, SumOfLanes(_mm256_add_ps(sums[0], sums[1]))};
}

// Two codes as 16-bit integers in every lane.
__m256i BroadcastCodes(const uint8_t* codes) {
  return _mm256_set1_epi32(static_cast<int32_t>(codes[0]) | static_cast<int32_t>(codes[1]) << 16);
}

// kRows x 16 outputs from dimension d on.
template <int kRows>
void AccumulateBlock(const WeightCodes& weights, const PackedRows& values, ChunkRange groups, int32_t d,
                     int32_t head_size, float* const* outputs, RowStream* upcoming) {
  const ptrdiff_t pair_bytes = ptrdiff_t{PackedHeadSize(head_size)} * 4;
  const uint8_t* packed = values.bytes + groups.begin * (kWeightGroupTokens / 2) * pair_bytes + d * 4;
  __m256 floats[kRows][2];
  Unroll<kRows>([&](auto r) { Unroll<2>([&](auto v) { floats[r][v] = _mm256_setzero_ps(); }); });
  for (int32_t group = groups.begin; group < groups.end; ++group) {
    AskForRows(upcoming, kRowsAskedFor * kWeightGroupTokens / kBlock, head_size);
    __m256i sums[kRows][2];
    Unroll<kRows>([&](auto r) { Unroll<2>([&](auto v) { sums[r][v] = _mm256_setzero_si256(); }); });
    for (int32_t j = group * kWeightGroupTokens; j < (group + 1) * kWeightGroupTokens; j += 2, packed += pair_bytes) {
      const __m256i value[2] = {LoadVector(packed), LoadVector(packed + kVectorBytes)};
      Unroll<kRows>([&](auto r) {
        const __m256i codes = BroadcastCodes(weights.codes + r * kChunkTokens + j);
        Unroll<2>([&](auto v) { sums[r][v] = _mm256_add_epi32(sums[r][v], _mm256_madd_epi16(value[v], codes)); });
      });
    }
    Unroll<kRows>([&](auto r) {
      const __m256 scale = _mm256_set1_ps(weights.scales[r * kWeightGroups + group]);
      Unroll<2>([&](auto v) { floats[r][v] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[r][v]), scale, floats[r][v]); });
    });
  }
  alignas(kVectorBytes) float results[kBlock];
  const auto count = static_cast<size_t>(head_size - d < kBlock ? head_size - d : kBlock);
  Unroll<kRows>([&](auto r) {
    _mm256_store_ps(results, floats[r][0]);
    _mm256_store_ps(results + kLanes, floats[r][1]);
    std::memcpy(outputs[r] + d, results, count * sizeof(float));
  });
}

template <int kRows>
void AccumulateRows(const WeightCodes& weights, const PackedRows& values, ChunkRange groups, int32_t head_size,
                    float* const* outputs, RowStream* upcoming) {
  for (int32_t d = 0; d < head_size; d += kBlock) {
    AccumulateBlock<kRows>(weights, values, groups, d, head_size, outputs, upcoming);
  }
}

void Accumulate(const WeightCodes& weights, int32_t rows, const PackedRows& values, ChunkRange groups,
                int32_t head_size, float* const* outputs, RowStream* upcoming) {
  WeightCodes rest = weights;
  for (; rows > kMaxTogether; rows -= kMaxTogether, outputs += kMaxTogether) {
    AccumulateRows<kMaxTogether>(rest, values, groups, head_size, outputs, upcoming);
    rest.codes += kMaxTogether * kChunkTokens;
    rest.scales += kMaxTogether * kWeightGroups;
  }
  if (rows == 1) return AccumulateRows<1>(rest, values, groups, head_size, outputs, upcoming);
  if (rows == 2) return AccumulateRows<2>(rest, values, groups, head_size, outputs, upcoming);
  AccumulateRows<3>(rest, values, groups, head_size, outputs, upcoming);
}

}  // namespace

const Int8AttentionMath& Avx2Int8AttentionMath() {
  static constexpr Int8AttentionMath kMath{PackQuery, PackKeys, PackValues, Scores, Weights, Accumulate};
  return kMath;
}

}  // namespace naiad
