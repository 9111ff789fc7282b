// AVX-512 with VNNI. This file alone is compiled with those flags, so nothing that other units could inline may be
// defined here.
#include <immintrin.h>

#include <array>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "kernels/linear_functions_avx512.h"
#include "kernels/linear_math.h"
#include "kernels/linear_rows_avx512.h"
#include "kernels/quantised_row.h"
#include "kernels/unroll.h"

namespace naiad {
namespace {

// 32 registers: for each row and tile a sum of integers and a sum of floats, the rest for weights. Seven rows leave
// four of those, which pays for 4 bits only (linear_benchmark).
constexpr int32_t kMaxPanelRows = 6;
constexpr int32_t kMaxInt4PanelRows = 7;
// From so many rows on 4-bit codes are unpacked once for all panels (linear_benchmark).
constexpr int32_t kRowsToUnpackFor = 32;

// Four codes of a row in every lane.
__m512i BroadcastCodes(const int8_t* codes) {
  int32_t four = 0;
  std::memcpy(&four, codes, sizeof(four));
  return _mm512_set1_epi32(four);
}

// Adds to the sums [row][tile] what one block's codes give; `codes` are the panel's of that block.
template <LinearFormat kFormat, int kRows, int kTiles>
[[gnu::always_inline]] inline void AddCodes(const uint8_t* block, ptrdiff_t tile_bytes, const int8_t* codes,
                                            __m512i* sums) {
  const auto add = [&](const __m512i* weights, int32_t input) __attribute__((always_inline)) {
    Unroll<kRows>([&](auto r) {
      const __m512i four = BroadcastCodes(codes + r * BlockInputs(kFormat) + input);
      Unroll<kTiles>(
          [&](auto t) { sums[r * kTiles + t] = _mm512_dpbusd_epi32(sums[r * kTiles + t], weights[t], four); });
    });
  };
  __m512i weights[kTiles];
  if constexpr (kFormat == LinearFormat::kInt4) {
    const __m512i low = _mm512_set1_epi8(15);
    Unroll<4>([&](auto v) {
      __m512i both[kTiles];
      Unroll<kTiles>([&](auto t) {
        both[t] = _mm512_loadu_si512(block + t * tile_bytes + v * kVectorBytes);
        weights[t] = _mm512_and_si512(both[t], low);
      });
      add(weights, 4 * v);
      Unroll<kTiles>([&](auto t) { weights[t] = _mm512_and_si512(_mm512_srli_epi16(both[t], 4), low); });
      add(weights, 16 + 4 * v);
    });
  } else {
    for (int32_t first = 0; first < BlockInputs(kFormat); first += kBlockInputs) {
      const uint8_t* const vectors = block + first / 4 * kVectorBytes;
      Unroll<8>([&](auto v) {
        Unroll<kTiles>([&](auto t) { weights[t] = _mm512_loadu_si512(vectors + t * tile_bytes + v * kVectorBytes); });
        add(weights, first + 4 * v);
      });
    }
  }
}

// Adds to the outputs [row][tile] what the sums of one block stand for; `entry` is that of the block's first row.
template <LinearFormat kFormat, int kRows, int kTiles>
[[gnu::always_inline]] inline void AddBlock(const uint8_t* block, ptrdiff_t tile_bytes, const QuantisedRows& rows,
                                            ptrdiff_t entry, const __m512i* sums, __m512* outputs) {
  const uint8_t* const scales = block + CodeBytes(kFormat);
  __m512 weights[kTiles];
  Unroll<kTiles>([&](auto t) {
    weights[t] = kFormat == LinearFormat::kInt8Wide ? _mm512_loadu_ps(scales + t * tile_bytes)
                                                    : LoadHalves(scales + t * tile_bytes);
  });
  Unroll<kRows>([&](auto r) {
    const __m512 scale = _mm512_set1_ps(rows.scales[entry + r]);
    Unroll<kTiles>([&](auto t) {
      const __m512 products = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[r * kTiles + t]), scale);
      outputs[r * kTiles + t] = _mm512_fmadd_ps(products, weights[t], outputs[r * kTiles + t]);
    });
  });
  if constexpr (kFormat == LinearFormat::kInt4) {
    Unroll<kTiles>([&](auto t) { weights[t] = LoadHalves(scales + kTileHalfBytes + t * tile_bytes); });
    Unroll<kRows>([&](auto r) {
      const __m512 sum = _mm512_set1_ps(rows.sums[entry + r]);
      Unroll<kTiles>(
          [&](auto t) { outputs[r * kTiles + t] = _mm512_fmadd_ps(sum, weights[t], outputs[r * kTiles + t]); });
    });
  }
}

// 4-bit codes of a block, a byte each, in the order of kInt8's.
struct alignas(kVectorBytes) UnpackedBlock {
  std::array<uint8_t, kInt8CodeBytes> codes;
};

// Of the last two tiles that this thread has unpacked: the blocks of one after the other's.
thread_local std::vector<UnpackedBlock> unpacked_tiles;

void UnpackTiles(const LinearTiles& tiles) {
  const size_t blocks = static_cast<size_t>(tiles.rows.blocks);
  if (unpacked_tiles.size() < kMaxTiles * blocks) unpacked_tiles.resize(kMaxTiles * blocks);
  const __m512i low = _mm512_set1_epi8(15);
  UnpackedBlock* to = unpacked_tiles.data();
  for (int32_t t = 0; t < kMaxTiles; ++t) {
    const uint8_t* from = tiles.packed + t * tiles.tile_bytes;
    for (int32_t b = 0; b < tiles.rows.blocks; ++b, ++to, from += BlockBytes(LinearFormat::kInt4)) {
      Unroll<4>([&](auto v) {
        const __m512i both = _mm512_loadu_si512(from + v * kVectorBytes);
        uint8_t* const vector = to->codes.data() + v * kVectorBytes;
        _mm512_store_si512(vector, _mm512_and_si512(both, low));
        _mm512_store_si512(vector + kInt4CodeBytes, _mm512_and_si512(_mm512_srli_epi16(both, 4), low));
      });
    }
  }
}

// One panel of kRows rows, the first of which is `first_row`; kUnpacked: with the codes of unpacked_tiles.
template <LinearFormat kFormat, int kRows, int kTiles, bool kUnpacked = false>
void MultiplyPanel(const LinearTiles& tiles, int32_t first_row) {
  const QuantisedRows rows = RowsFrom(tiles.rows, first_row);
  __m512 outputs[kRows * kTiles];
  Unroll<kRows * kTiles>([&](auto i) { outputs[i] = _mm512_setzero_ps(); });
  const uint8_t* block = tiles.packed;
  const int8_t* codes = rows.codes;
  const ptrdiff_t end = ptrdiff_t{rows.blocks} * rows.panel_rows;
  Prefetch prefetch = PrefetchOf<kFormat, kTiles>(tiles, first_row);
  PrefetchResidual<kRows, kTiles>(tiles, first_row);
  const UnpackedBlock* unpacked = kUnpacked ? unpacked_tiles.data() : nullptr;
  for (ptrdiff_t entry = 0; entry < end; entry += rows.panel_rows) {
    PrefetchShare(&prefetch);
    __m512i sums[kRows * kTiles];
    Unroll<kRows * kTiles>([&](auto i) {
      sums[i] =
          kFormat == LinearFormat::kInt4 ? _mm512_setzero_si512() : _mm512_set1_epi32(rows.offsets[entry + i / kTiles]);
    });
    if constexpr (kUnpacked) {
      AddCodes<LinearFormat::kInt8, kRows, kTiles>(unpacked->codes.data(), rows.blocks * ptrdiff_t{kInt8CodeBytes},
                                                   codes, sums);
      ++unpacked;
    } else {
      AddCodes<kFormat, kRows, kTiles>(block, tiles.tile_bytes, codes, sums);
    }
    AddBlock<kFormat, kRows, kTiles>(block, tiles.tile_bytes, rows, entry, sums, outputs);
    block += BlockBytes(kFormat);
    codes += ptrdiff_t{rows.panel_rows} * BlockInputs(kFormat);
  }
  StoreOutputs<kRows, kTiles>(tiles, first_row, outputs);
}

template <LinearFormat kFormat, int kTiles, bool kUnpacked = false>
void MultiplyPanels(const LinearTiles& tiles) {
  static constexpr auto kForRows = []<int... kIndex>(std::integer_sequence<int, kIndex...>) {
    return std::array{&MultiplyPanel<kFormat, kIndex + 1, kTiles, kUnpacked>...};
  }(std::make_integer_sequence<int, kFormat == LinearFormat::kInt4 ? kMaxInt4PanelRows : kMaxPanelRows>{});
  for (int32_t row = 0; row < tiles.row_count; row += tiles.rows.panel_rows) {
    const int32_t rest = tiles.row_count - row;
    const int32_t rows = rest < tiles.rows.panel_rows ? rest : tiles.rows.panel_rows;
    kForRows[static_cast<size_t>(rows - 1)](tiles, row);
  }
}

template <LinearFormat kFormat>
void Multiply(const LinearTiles& tiles) {
  if (tiles.row_count == 1) {
    // Nothing to share between tiles: one stream of memory after the other is faster than two at once.
    LinearTiles tile = tiles;
    for (int32_t column = 0; column < tiles.columns; column += kTileOutputs) {
      tile.columns = tiles.columns - column;
      MultiplyPanel<kFormat, 1, 1>(tile, 0);
      tile.packed += tile.tile_bytes;
      tile.output += kTileOutputs;
      if (tile.bias != nullptr) tile.bias += kTileOutputs;
      if (tile.residual != nullptr) tile.residual += kTileOutputs;
    }
  } else if (tiles.columns > kTileOutputs) {
    if constexpr (kFormat == LinearFormat::kInt4) {
      if (tiles.row_count >= kRowsToUnpackFor) {
        UnpackTiles(tiles);
        MultiplyPanels<kFormat, 2, true>(tiles);
        return;
      }
    }
    MultiplyPanels<kFormat, 2>(tiles);
  } else {
    MultiplyPanels<kFormat, 1>(tiles);
  }
}

// `load(first)` gives activations first .. first+15, with zeros for those that the row lacks.
template <int kBlock, typename Load>
[[gnu::always_inline]] inline void QuantiseBlocksOf(const Load& load, float factor, const QuantisedRows& row) {
  constexpr int kVectors = kBlock / kLanes;
  const __m512 infinity = _mm512_set1_ps(std::numeric_limits<float>::infinity());
  for (int32_t block = 0; block < row.blocks; ++block) {
    const ptrdiff_t entry = ptrdiff_t{block} * row.panel_rows;
    __m512 values[kVectors];
    __m512 magnitudes = _mm512_setzero_ps();
    __mmask16 infinite = 0;  // Lanes in which there was an infinity or a NaN.
    Unroll<kVectors>([&](auto v) {
      values[v] = load(block * kBlock + v * kLanes);
      const __m512 magnitude = _mm512_abs_ps(values[v]);
      infinite = _kor_mask16(infinite, _mm512_cmp_ps_mask(magnitude, infinity, _CMP_NLT_UQ));
      magnitudes = _mm512_max_ps(magnitudes, magnitude);
    });
    const bool finite = infinite == 0;
    const float magnitude = _mm512_reduce_max_ps(magnitudes);
    const bool some = finite && magnitude >= kSmallestMagnitude;
    const __m512 inverse = _mm512_set1_ps(some ? kMaxQuantised / magnitude : 0.0F);
    // An infinity times 0 is a NaN, which converts to the least integer; so nothing is multiplied then.
    const __mmask16 all = some ? 0xffff : 0;
    int8_t* const codes = row.codes + entry * kBlock;
    __m512i sums = _mm512_setzero_si512();
    Unroll<kVectors>([&](auto v) {
      const __m512i integers = _mm512_maskz_cvtps_epi32(all, _mm512_mul_ps(values[v], inverse));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + v * kLanes), _mm512_cvtepi32_epi8(integers));
      sums = _mm512_add_epi32(sums, integers);
    });
    const int32_t sum = _mm512_reduce_add_epi32(sums);
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
  QuantiseBlocks(PlainActivations(from, inputs), factor, row);
}

void QuantiseGatedRow(const float* from, int32_t inputs, float factor, const QuantisedRows& row) {
  QuantiseBlocks(GatedActivations(from, inputs), factor, row);
}

void QuantiseNormalisedRow(const float* from, const RmsNorm& norm, int32_t inputs, float factor,
                           const QuantisedRows& row) {
  QuantiseBlocks(NormalisedActivations(from, norm, inputs), factor, row);
}

}  // namespace

const LinearMath& Avx512LinearMath() {
  static constexpr LinearMath kMath{kMaxPanelRows,
                                    kMaxInt4PanelRows,
                                    QuantiseRow,
                                    QuantiseGatedRow,
                                    QuantiseNormalisedRow,
                                    Multiply<LinearFormat::kInt4>,
                                    Multiply<LinearFormat::kInt8>,
                                    Multiply<LinearFormat::kInt8Wide>};
  return kMath;
}

}  // namespace naiad
