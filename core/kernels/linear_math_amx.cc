// AMX: the tile unit multiplies 8-bit codes, whose sums AVX-512 then scales. Only for wide blocks, which need to be
// scaled a quarter as often; linear_math_amx_bf16.cc has the others. This file is compiled with flags of its own, so
// nothing that other units could inline may be defined here.
#include <immintrin.h>

#include <array>
#include <cstring>

#include "kernels/amx_tiles.h"
#include "kernels/linear_functions_avx512.h"
#include "kernels/linear_math.h"
#include "kernels/unroll.h"

namespace naiad {
namespace {

constexpr int32_t kTileDepth = 64;  // Inputs that one instruction multiplies, at most.
constexpr int32_t kInputsOfVector = 4;
// From so many rows on a panel of tiles is faster than AVX-512's own products (linear_benchmark).
constexpr int32_t kManyRows = 24;

// Products of one block's codes for a panel of kHalves times 16 rows, of which the last may lack some; `codes` are the
// panel's of that block.
template <int kHalves, int kTiles>
[[gnu::always_inline]] inline void MultiplyCodes(const uint8_t* block, ptrdiff_t tile_bytes, const int8_t* codes,
                                                 PanelSums<int32_t>* sums) {
  ZeroSums<kHalves, kTiles>();
  WriteOut(codes);
  for (int32_t input = 0; input < kWideBlockInputs; input += kTileDepth) {
    const uint8_t* const weights = block + input / kInputsOfVector * kVectorBytes;
    _tile_loadd(6, weights, kVectorBytes);
    _tile_loadd(4, codes + input, kWideBlockInputs);
    _tile_dpbsud(0, 4, 6);
    if constexpr (kTiles == 2) {
      _tile_loadd(7, weights + tile_bytes, kVectorBytes);
      _tile_dpbsud(1, 4, 7);
    }
    if constexpr (kHalves == 2) {
      _tile_loadd(5, codes + kTileRows * kWideBlockInputs + input, kWideBlockInputs);
      _tile_dpbsud(2, 5, 6);
    }
    if constexpr (kHalves == 2 && kTiles == 2) _tile_dpbsud(3, 5, 7);
  }
  StoreSums<kHalves, kTiles>(sums);
}

// Adds to the outputs what the sums of one block stand for; `entry` is that of the block's first row.
[[gnu::always_inline]] inline void AddBlock(const uint8_t* block, const QuantisedRows& rows, ptrdiff_t entry,
                                            const int32_t* sums, __m512* outputs) {
  const __m512 weights = _mm512_loadu_ps(block + kWideCodeBytes);
#pragma GCC unroll 4
  for (int32_t r = 0; r < rows.panel_rows; ++r) {
    const __m512i sum =
        _mm512_add_epi32(_mm512_load_si512(sums + r * kTileOutputs), _mm512_set1_epi32(rows.offsets[entry + r]));
    const __m512 products = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(rows.scales[entry + r]));
    outputs[r] = _mm512_fmadd_ps(products, weights, outputs[r]);
  }
}

// One panel, the first row of which is `first_row`. The tile unit is one block ahead.
template <int kHalves, int kTiles>
void MultiplyPanel(const LinearTiles& tiles, int32_t first_row) {
  const QuantisedRows rows = RowsFrom(tiles.rows, first_row);
  const ptrdiff_t code_bytes = ptrdiff_t{rows.panel_rows} * kWideBlockInputs;
  __m512 outputs[kTiles][kMaxTilePanelRows];  // As they add up.
  for (int32_t r = 0; r < rows.panel_rows; ++r) {
    Unroll<kTiles>([&](auto t) { outputs[t][r] = _mm512_setzero_ps(); });
  }
  std::array<PanelSums<int32_t>, 2> sums;
  Prefetch prefetch = PrefetchOf<LinearFormat::kInt8Wide, kTiles>(tiles, first_row);
  MultiplyCodes<kHalves, kTiles>(tiles.packed, tiles.tile_bytes, rows.codes, sums.data());
  for (ptrdiff_t b = 0; b < rows.blocks; ++b) {
    const uint8_t* const block = tiles.packed + b * BlockBytes(LinearFormat::kInt8Wide);
    PrefetchShare(&prefetch);
    if (b + 1 < rows.blocks) {
      MultiplyCodes<kHalves, kTiles>(block + BlockBytes(LinearFormat::kInt8Wide), tiles.tile_bytes,
                                     rows.codes + (b + 1) * code_bytes, &sums[(b + 1) % 2]);
    }
    Unroll<kTiles>([&](auto t) {
      AddBlock(block + t * tiles.tile_bytes, rows, b * rows.panel_rows, sums[b % 2].of_tile[t].data(), outputs[t]);
    });
  }
  const int32_t rest = tiles.row_count - first_row;
  for (int32_t r = 0; r < (rest < rows.panel_rows ? rest : rows.panel_rows); ++r) {
    __m512 row[kTiles];
    Unroll<kTiles>([&](auto t) { row[t] = outputs[t][r]; });
    StoreOutputs<1, kTiles>(tiles, first_row + r, row);
  }
}

template <int kHalves, int kTiles>
void MultiplyPanels(const LinearTiles& tiles) {
  const ShapedTiles shaped(tiles.rows.panel_rows);
  for (int32_t row = 0; row < tiles.row_count; row += tiles.rows.panel_rows) {
    MultiplyPanel<kHalves, kTiles>(tiles, row);
  }
}

void MultiplyWide(const LinearTiles& tiles) {
  const bool two_halves = tiles.rows.panel_rows > kTileRows;
  if (tiles.columns > kTileOutputs) {
    two_halves ? MultiplyPanels<2, 2>(tiles) : MultiplyPanels<1, 2>(tiles);
  } else {
    two_halves ? MultiplyPanels<2, 1>(tiles) : MultiplyPanels<1, 1>(tiles);
  }
}

}  // namespace

const LinearMath& AmxLinearMath() {
  static const LinearMath kMath = [] {
    LinearMath math = Avx512LinearMath();
    math.wide_tiles = {kManyRows, kMaxTilePanelRows, MultiplyWide};
    math.bf16_tiles = AmxBf16Tiles();
    return math;
  }();
  return kMath;
}

}  // namespace naiad
