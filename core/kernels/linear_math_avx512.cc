// AVX-512 with VNNI. This file alone is compiled with those flags, so nothing that other units could inline may be
// defined here.
#include <immintrin.h>

#include <array>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "kernels/linear_math.h"
#include "kernels/quantised_row.h"

namespace naiad {
namespace {

constexpr int32_t kLanes = 16;
// 32 registers: for each row a sum of integers and a sum of floats, and a few for weights.
constexpr int32_t kMaxGroupRows = 12;
// Memory is asked for this far ahead of its use: the hardware stops at the end of each page.
constexpr ptrdiff_t kPrefetchBytes = 2048;

// Calls f with 0 .. kCount-1, each as a type of its own, so that arrays which f indexes stay in registers.
template <int kCount, typename Function>
[[gnu::always_inline]] inline void Unroll(Function f) {
  [&]<int... kIndex>(std::integer_sequence<int, kIndex...>) __attribute__((always_inline)) {
    (f(std::integral_constant<int, kIndex>{}), ...);
  }(std::make_integer_sequence<int, kCount>{});
}

__m512 LoadHalves(const uint8_t* from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

// Four codes of a row in every lane.
__m512i BroadcastCodes(const int8_t* codes) {
  int32_t four = 0;
  std::memcpy(&four, codes, sizeof(four));
  return _mm512_set1_epi32(four);
}

// Adds to kRows sums of integers what one block's codes give; codes is that block's in the first row.
template <LinearFormat kFormat, int kRows>
[[gnu::always_inline]] inline void AddCodes(const uint8_t* block, const int8_t* codes, ptrdiff_t row_codes,
                                            __m512i* sums) {
  const auto add = [&](__m512i weights, int32_t input) __attribute__((always_inline)) {
    Unroll<kRows>([&](auto r) {
      sums[r] = _mm512_dpbusd_epi32(sums[r], weights, BroadcastCodes(codes + r * row_codes + input));
    });
  };
  if constexpr (kFormat == LinearFormat::kInt4) {
    const __m512i low = _mm512_set1_epi8(15);
    Unroll<4>([&](auto v) {
      const __m512i both = _mm512_loadu_si512(block + v * kVectorBytes);
      add(_mm512_and_si512(both, low), 4 * v);
      add(_mm512_and_si512(_mm512_srli_epi16(both, 4), low), 16 + 4 * v);
    });
  } else {
    Unroll<8>([&](auto v) { add(_mm512_loadu_si512(block + v * kVectorBytes), 4 * v); });
  }
}

template <LinearFormat kFormat, int kRows>
void MultiplyRows(const LinearTile& tile, int32_t first_row) {
  const QuantisedRows rows = RowsFrom(tile.rows, first_row);
  const ptrdiff_t row_codes = ptrdiff_t{rows.blocks} * kBlockInputs;
  __m512 outputs[kRows];
  Unroll<kRows>([&](auto r) { outputs[r] = _mm512_setzero_ps(); });
  const uint8_t* block = tile.packed;
  for (ptrdiff_t b = 0; b < rows.blocks; ++b, block += BlockBytes(kFormat)) {
    for (int32_t line = 0; line < BlockBytes(kFormat); line += kVectorBytes) {
      _mm_prefetch(reinterpret_cast<const char*>(block + kPrefetchBytes + line), _MM_HINT_T0);
    }
    __m512i sums[kRows];
    Unroll<kRows>([&](auto r) {
      sums[r] = kFormat == LinearFormat::kInt8 ? _mm512_set1_epi32(rows.offsets[r * ptrdiff_t{rows.blocks} + b])
                                               : _mm512_setzero_si512();
    });
    AddCodes<kFormat, kRows>(block, rows.codes + b * kBlockInputs, row_codes, sums);
    const uint8_t* const halves = block + (kFormat == LinearFormat::kInt8 ? kInt8CodeBytes : kInt4CodeBytes);
    const __m512 scales = LoadHalves(halves);
    Unroll<kRows>([&](auto r) {
      const __m512 scale = _mm512_set1_ps(rows.scales[r * ptrdiff_t{rows.blocks} + b]);
      outputs[r] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sums[r]), scale), scales, outputs[r]);
    });
    if constexpr (kFormat == LinearFormat::kInt4) {
      const __m512 minimums = LoadHalves(halves + kTileHalfBytes);
      Unroll<kRows>([&](auto r) {
        const __m512 sum = _mm512_set1_ps(rows.sums[r * ptrdiff_t{rows.blocks} + b]);
        outputs[r] = _mm512_fmadd_ps(sum, minimums, outputs[r]);
      });
    }
  }
  const __mmask16 columns = static_cast<__mmask16>((1U << static_cast<unsigned>(tile.columns)) - 1U);
  Unroll<kRows>([&](auto r) {
    __m512 output = outputs[r];
    if (tile.bias != nullptr) output = _mm512_add_ps(output, _mm512_maskz_loadu_ps(columns, tile.bias));
    _mm512_mask_storeu_ps(tile.output + (first_row + r) * tile.output_stride, columns, output);
  });
}

template <LinearFormat kFormat>
void Multiply(const LinearTile& tile) {
  static constexpr auto kForRows = []<int... kIndex>(std::integer_sequence<int, kIndex...>) {
    return std::array{&MultiplyRows<kFormat, kIndex + 1>...};
  }(std::make_integer_sequence<int, kMaxGroupRows>{});
  // Groups as even as can be: a group of one costs almost as much as one of four.
  int32_t groups = (tile.row_count + kMaxGroupRows - 1) / kMaxGroupRows;
  for (int32_t row = 0; row < tile.row_count; --groups) {
    const int32_t rows = (tile.row_count - row + groups - 1) / groups;
    kForRows[static_cast<size_t>(rows - 1)](tile, row);
    row += rows;
  }
}

__mmask16 FirstLanes(int32_t count) {
  return static_cast<__mmask16>(count >= kLanes ? 0xffffU : (1U << static_cast<unsigned>(count < 0 ? 0 : count)) - 1U);
}

void QuantiseRow(const float* from, int32_t inputs, float factor, const QuantisedRows& row) {
  const __m512 infinity = _mm512_set1_ps(std::numeric_limits<float>::infinity());
  for (int32_t block = 0; block < row.blocks; ++block) {
    const int32_t first = block * kBlockInputs;
    const __m512 low = _mm512_maskz_loadu_ps(FirstLanes(inputs - first), from + first);
    const __m512 high = _mm512_maskz_loadu_ps(FirstLanes(inputs - first - kLanes), from + first + kLanes);
    const __m512 magnitudes = _mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high));
    const bool finite = _mm512_cmp_ps_mask(_mm512_abs_ps(low), infinity, _CMP_NLT_UQ) == 0 &&
                        _mm512_cmp_ps_mask(_mm512_abs_ps(high), infinity, _CMP_NLT_UQ) == 0;
    const float magnitude = _mm512_reduce_max_ps(magnitudes);
    const bool some = finite && magnitude >= kSmallestMagnitude;
    const __m512 inverse = _mm512_set1_ps(some ? kMaxQuantised / magnitude : 0.0F);
    // An infinity times 0 is a NaN, which converts to the least integer; so nothing is multiplied then.
    const __mmask16 all = some ? 0xffff : 0;
    const __m512i low_codes = _mm512_maskz_cvtps_epi32(all, _mm512_mul_ps(low, inverse));
    const __m512i high_codes = _mm512_maskz_cvtps_epi32(all, _mm512_mul_ps(high, inverse));
    __m128i* const codes = reinterpret_cast<__m128i*>(row.codes + first);
    _mm_storeu_si128(codes, _mm512_cvtepi32_epi8(low_codes));
    _mm_storeu_si128(codes + 1, _mm512_cvtepi32_epi8(high_codes));
    const int32_t sum = _mm512_reduce_add_epi32(_mm512_add_epi32(low_codes, high_codes));
    float scale = finite ? 0.0F : std::numeric_limits<float>::quiet_NaN();
    if (some) scale = magnitude / kMaxQuantised * factor;
    row.scales[block] = scale;
    row.sums[block] = scale * static_cast<float>(sum);
    row.offsets[block] = -128 * sum;
  }
}

}  // namespace

const LinearMath& Avx512LinearMath() {
  static constexpr LinearMath kMath{QuantiseRow, Multiply<LinearFormat::kInt4>, Multiply<LinearFormat::kInt8>};
  return kMath;
}

}  // namespace naiad
