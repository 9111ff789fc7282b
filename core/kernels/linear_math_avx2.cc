// AVX2, FMA and F16C. This file alone is compiled with those flags, so nothing that other units could inline may be
// defined here.
#include <immintrin.h>

#include <array>
#include <cstring>
#include <limits>
#include <utility>

#include "kernels/gelu_constants.h"
#include "kernels/linear_math.h"
#include "kernels/quantised_row.h"
#include "kernels/silu_constants.h"
#include "kernels/unroll.h"

namespace naiad {
namespace {

constexpr int32_t kLanes = 8;
// 16 registers: for each row a sum of integers and a sum of floats, and a few for weights.
constexpr int32_t kMaxPanelRows = 4;
constexpr ptrdiff_t kLineBytes = 64;

// The lanes below `count` set; any count.
__m256i LaneMask(int32_t count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

__m256 LoadHalves(const uint8_t* from) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

__m256i LoadBytes(const uint8_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }

// Four codes of a row in every lane.
__m256i BroadcastCodes(const int8_t* codes) {
  int32_t four = 0;
  std::memcpy(&four, codes, sizeof(four));
  return _mm256_set1_epi32(four);
}

// sums[r] = the products of one block's codes, for eight outputs; `block` is the first byte of their codes. Pairs of
// products are added in 16 bits: 32 products of 4-bit codes fit (8 * 2 * 15 * 127), two of 8-bit codes do too
// (2 * 128 * 127), so that nothing saturates.
template <LinearFormat kFormat, int kRows>
[[gnu::always_inline]] inline void SumCodes(const uint8_t* block, const int8_t* codes, __m256i* sums) {
  const __m256i ones = _mm256_set1_epi16(1);
  Unroll<kRows>([&](auto r) { sums[r] = _mm256_setzero_si256(); });
  if constexpr (kFormat == LinearFormat::kInt4) {
    const __m256i low = _mm256_set1_epi8(15);
    const auto add = [&](__m256i weights, int32_t input) __attribute__((always_inline)) {
      Unroll<kRows>([&](auto r) {
        const __m256i pairs = _mm256_maddubs_epi16(weights, BroadcastCodes(codes + r * kBlockInputs + input));
        sums[r] = _mm256_add_epi16(sums[r], pairs);
      });
    };
    Unroll<4>([&](auto v) {
      const __m256i both = LoadBytes(block + v * kVectorBytes);
      add(_mm256_and_si256(both, low), 4 * v);
      add(_mm256_and_si256(_mm256_srli_epi16(both, 4), low), 16 + 4 * v);
    });
    Unroll<kRows>([&](auto r) { sums[r] = _mm256_madd_epi16(sums[r], ones); });
  } else {
    for (int32_t first = 0; first < BlockInputs(kFormat); first += kBlockInputs) {
      const uint8_t* const vectors = block + first / 4 * kVectorBytes;
      Unroll<8>([&](auto v) {
        const __m256i weights = _mm256_xor_si256(LoadBytes(vectors + v * kVectorBytes), _mm256_set1_epi8(-128));
        const __m256i magnitudes = _mm256_abs_epi8(weights);  // -128 becomes 128, unsigned.
        Unroll<kRows>([&](auto r) {
          const int8_t* const four = codes + r * BlockInputs(kFormat) + first + 4 * v;
          const __m256i signs = _mm256_sign_epi8(BroadcastCodes(four), weights);
          sums[r] = _mm256_add_epi32(sums[r], _mm256_madd_epi16(_mm256_maddubs_epi16(magnitudes, signs), ones));
        });
      });
    }
  }
}

// What one pass over a tile asks memory for at each of its blocks: `bytes` bytes, `at` for the first block.
struct Prefetch {
  const uint8_t* at = nullptr;
  ptrdiff_t bytes = 0;
};

// Each of several panels asks for its share of the next tiles, in each of its passes over eight outputs. A single row
// leaves that to the hardware, which is faster.
template <LinearFormat kFormat>
Prefetch PrefetchOf(const LinearTiles& tiles, int32_t first_row, int32_t first_column) {
  if (tiles.row_count == 1 || tiles.next_packed == nullptr) return {};
  const ptrdiff_t columns = kMaxTiles * kTileOutputs / kLanes;
  const ptrdiff_t passes = (tiles.row_count + tiles.rows.panel_rows - 1) / tiles.rows.panel_rows * columns;
  const ptrdiff_t bytes =
      (kMaxTiles * BlockBytes(kFormat) + passes * kLineBytes - 1) / (passes * kLineBytes) * kLineBytes;
  const ptrdiff_t pass = first_row / tiles.rows.panel_rows * columns + first_column / kLanes;
  return {tiles.next_packed + pass * bytes * tiles.rows.blocks, bytes};
}

__m256 Gelu(__m256 x) {
  const __m256 t = _mm256_fmadd_ps(_mm256_mul_ps(x, x), _mm256_set1_ps(kGeluScale), _mm256_set1_ps(-1.0F));
  __m256 p = _mm256_setzero_ps();
  for (const float coefficient : kGeluPolynomial) p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(coefficient));
  __m256 phi = _mm256_fmadd_ps(x, p, _mm256_set1_ps(0.5F));
  const __m256 high = _mm256_cmp_ps(x, _mm256_set1_ps(kGeluLimit), _CMP_GE_OQ);
  const __m256 low = _mm256_cmp_ps(x, _mm256_set1_ps(-kGeluLimit), _CMP_LE_OQ);
  phi = _mm256_blendv_ps(phi, _mm256_set1_ps(1.0F), high);
  return _mm256_mul_ps(x, _mm256_andnot_ps(low, phi));
}

// One panel of kRows rows, the first of which is `first_row`; eight outputs from column `first_column` on.
template <LinearFormat kFormat, int kRows>
void MultiplyPanel(const LinearTiles& tiles, int32_t first_row, int32_t first_column) {
  const QuantisedRows rows = RowsFrom(tiles.rows, first_row);
  __m256 outputs[kRows];
  Unroll<kRows>([&](auto r) { outputs[r] = _mm256_setzero_ps(); });
  const uint8_t* block = tiles.packed + first_column / kTileOutputs * tiles.tile_bytes;
  const int32_t column = first_column % kTileOutputs;
  const int8_t* codes = rows.codes;
  const ptrdiff_t end = ptrdiff_t{rows.blocks} * rows.panel_rows;
  Prefetch prefetch = PrefetchOf<kFormat>(tiles, first_row, first_column);
  for (ptrdiff_t entry = 0; entry < end; entry += rows.panel_rows) {
    for (ptrdiff_t line = 0; line < prefetch.bytes; line += kLineBytes) {
      _mm_prefetch(reinterpret_cast<const char*>(prefetch.at + line), _MM_HINT_T0);
    }
    prefetch.at += prefetch.bytes;
    __m256i sums[kRows];
    SumCodes<kFormat, kRows>(block + 4 * column, codes, sums);
    const uint8_t* const halves = block + CodeBytes(kFormat) + 2 * column;
    const __m256 scales = kFormat == LinearFormat::kInt8Wide
                              ? _mm256_loadu_ps(reinterpret_cast<const float*>(halves + 2 * column))
                              : LoadHalves(halves);
    Unroll<kRows>([&](auto r) {
      const __m256 products = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[r]), _mm256_set1_ps(rows.scales[entry + r]));
      outputs[r] = _mm256_fmadd_ps(products, scales, outputs[r]);
    });
    if constexpr (kFormat == LinearFormat::kInt4) {
      const __m256 minimums = LoadHalves(halves + kTileHalfBytes);
      Unroll<kRows>(
          [&](auto r) { outputs[r] = _mm256_fmadd_ps(_mm256_set1_ps(rows.sums[entry + r]), minimums, outputs[r]); });
    }
    block += BlockBytes(kFormat);
    codes += ptrdiff_t{rows.panel_rows} * BlockInputs(kFormat);
  }
  const __m256i columns = LaneMask(tiles.columns - first_column);
  Unroll<kRows>([&](auto r) {
    __m256 output = outputs[r];
    if (tiles.bias != nullptr) {
      output = _mm256_add_ps(output, _mm256_maskload_ps(tiles.bias + first_column, columns));
    }
    if (tiles.has_gelu) output = Gelu(output);
    const ptrdiff_t at = (first_row + r) * tiles.output_stride + first_column;
    if (tiles.residual != nullptr) {
      output = _mm256_add_ps(output, _mm256_maskload_ps(tiles.residual + at, columns));
    }
    _mm256_maskstore_ps(tiles.output + at, columns, output);
  });
}

template <LinearFormat kFormat>
void Multiply(const LinearTiles& tiles) {
  static constexpr auto kForRows = []<int... kIndex>(std::integer_sequence<int, kIndex...>) {
    return std::array{&MultiplyPanel<kFormat, kIndex + 1>...};
  }(std::make_integer_sequence<int, kMaxPanelRows>{});
  for (int32_t row = 0; row < tiles.row_count; row += tiles.rows.panel_rows) {
    const int32_t rest = tiles.row_count - row;
    const int32_t rows = rest < tiles.rows.panel_rows ? rest : tiles.rows.panel_rows;
    for (int32_t column = 0; column < tiles.columns; column += kLanes) {
      kForRows[static_cast<size_t>(rows - 1)](tiles, row, column);
    }
  }
}

__m256 ExpNonPositive(__m256 y) {
  const __m256 lowest = _mm256_set1_ps(kLowestExponent);
  const __m256 keep = _mm256_cmp_ps(y, lowest, _CMP_NLT_UQ);  // Also true for NaN, which has to come out as NaN.
  y = _mm256_blendv_ps(lowest, y, keep);
  const __m256 n =
      _mm256_round_ps(_mm256_mul_ps(y, _mm256_set1_ps(kLog2OfE)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(kLn2Low), _mm256_fnmadd_ps(n, _mm256_set1_ps(kLn2High), y));
  __m256 p = _mm256_setzero_ps();
  for (const float coefficient : kExpPolynomial) p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(coefficient));
  const __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_and_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(exponent)), keep);
}

__m256 Silu(__m256 x) {
  const __m256 one = _mm256_set1_ps(1.0F);
  const __m256 e = ExpNonPositive(_mm256_or_ps(x, _mm256_set1_ps(-0.0F)));
  const __m256 negative = _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ);
  return _mm256_mul_ps(x, _mm256_div_ps(_mm256_blendv_ps(one, e, negative), _mm256_add_ps(one, e)));
}

// Floats `first` .. first+7 of `count`, with zeros for those that lack.
__m256 LoadFloats(const float* from, int32_t count, int32_t first) {
  if (first >= count) return _mm256_setzero_ps();
  return _mm256_maskload_ps(from + first, LaneMask(count - first));
}

float HorizontalMax(__m256 v) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

int32_t HorizontalSum(__m256i v) {
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  const __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
}

// Four vectors of integers within a signed byte, as 32 bytes in order.
__m256i PackBytes(const __m256i* v) {
  const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
  return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

// `load(first)` gives activations first .. first+7, with zeros for those that the row lacks.
template <int kBlock, typename Load>
[[gnu::always_inline]] inline void QuantiseBlocksOf(const Load& load, float factor, const QuantisedRows& row) {
  constexpr int kVectors = kBlock / kLanes;
  const __m256 sign = _mm256_set1_ps(-0.0F);
  const __m256 infinity = _mm256_set1_ps(std::numeric_limits<float>::infinity());
  for (int32_t block = 0; block < row.blocks; ++block) {
    const ptrdiff_t entry = ptrdiff_t{block} * row.panel_rows;
    alignas(32) __m256 values[kVectors];
    __m256 magnitudes = _mm256_setzero_ps();
    __m256 infinite = _mm256_setzero_ps();  // Lanes in which there was an infinity or a NaN.
    Unroll<kVectors>([&](auto v) {
      values[v] = load(block * kBlock + v * kLanes);
      const __m256 magnitude = _mm256_andnot_ps(sign, values[v]);
      infinite = _mm256_or_ps(infinite, _mm256_cmp_ps(magnitude, infinity, _CMP_NLT_UQ));
      magnitudes = _mm256_max_ps(magnitudes, magnitude);
    });
    const bool finite = _mm256_movemask_ps(infinite) == 0;
    const float magnitude = finite ? HorizontalMax(magnitudes) : 0.0F;
    const bool some = magnitude >= kSmallestMagnitude;
    const __m256 inverse = _mm256_set1_ps(some ? kMaxQuantised / magnitude : 0.0F);
    const __m256i all = _mm256_set1_epi32(some ? -1 : 0);  // Whether codes are kept: an infinity gives none.
    __m256i* const codes = reinterpret_cast<__m256i*>(row.codes + entry * kBlock);
    __m256i sums = _mm256_setzero_si256();
    Unroll<kVectors / 4>([&](auto four) {
      __m256i integers[4];
      Unroll<4>([&](auto v) {
        integers[v] = _mm256_and_si256(all, _mm256_cvtps_epi32(_mm256_mul_ps(values[4 * four + v], inverse)));
        sums = _mm256_add_epi32(sums, integers[v]);
      });
      _mm256_storeu_si256(codes + four, PackBytes(integers));
    });
    const int32_t sum = HorizontalSum(sums);
    float scale = finite ? 0.0F : std::numeric_limits<float>::quiet_NaN();
    if (some) scale = magnitude / kMaxQuantised * factor;
    row.scales[entry] = scale;
    row.sums[entry] = scale * static_cast<float>(sum);
    row.offsets[entry] = -128 * sum;
  }
}

template <typename Load>
[[gnu::always_inline]] inline void QuantiseBlocks(const Load& load, float factor, const QuantisedRows& row) {
  row.block_inputs == kWideBlockInputs ? QuantiseBlocksOf<kWideBlockInputs>(load, factor, row)
                                       : QuantiseBlocksOf<kBlockInputs>(load, factor, row);
}

void QuantiseRow(const float* from, int32_t inputs, float factor, const QuantisedRows& row) {
  const auto load = [&](int32_t first) { return LoadFloats(from, inputs, first); };
  QuantiseBlocks(load, factor, row);
}

void QuantiseGatedRow(const float* from, int32_t inputs, float factor, const QuantisedRows& row) {
  const auto load = [&](int32_t first) {
    return _mm256_mul_ps(Silu(LoadFloats(from, inputs, first)), LoadFloats(from + inputs, inputs, first));
  };
  QuantiseBlocks(load, factor, row);
}

float InverseRootMeanSquare(const float* from, int32_t inputs, float epsilon) {
  __m256 squares[4];
  Unroll<4>([&](auto v) { squares[v] = _mm256_setzero_ps(); });
  for (int32_t first = 0; first < inputs; first += kBlockInputs) {
    Unroll<4>([&](auto v) {
      const __m256 values = LoadFloats(from, inputs, first + v * kLanes);
      squares[v] = _mm256_fmadd_ps(values, values, squares[v]);
    });
  }
  const __m256 eight = _mm256_add_ps(_mm256_add_ps(squares[0], squares[2]), _mm256_add_ps(squares[1], squares[3]));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  const float sum = _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  return 1.0F / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(sum / static_cast<float>(inputs) + epsilon)));
}

void QuantiseNormalisedRow(const float* from, const RmsNorm& norm, int32_t inputs, float factor,
                           const QuantisedRows& row) {
  const __m256 inverse = _mm256_set1_ps(InverseRootMeanSquare(from, inputs, norm.epsilon));
  const auto load = [&](int32_t first) {
    const __m256 normalised = _mm256_mul_ps(LoadFloats(from, inputs, first), inverse);
    return _mm256_mul_ps(normalised, LoadFloats(norm.weight, inputs, first));
  };
  QuantiseBlocks(load, factor, row);
}

}  // namespace

const LinearMath& Avx2LinearMath() {
  static constexpr LinearMath kMath{kMaxPanelRows,
                                    kMaxPanelRows,
                                    QuantiseRow,
                                    QuantiseGatedRow,
                                    QuantiseNormalisedRow,
                                    Multiply<LinearFormat::kInt4>,
                                    Multiply<LinearFormat::kInt8>,
                                    Multiply<LinearFormat::kInt8Wide>};
  return kMath;
}

}  // namespace naiad
