// AMX: the tile unit multiplies what AVX-512 then scales. Only for wide blocks, which need to be scaled a quarter as
// often: with others the way from one unit to the other takes what the products gain. This file alone is compiled with
// those flags, so nothing that other units could inline may be defined here.
#include <immintrin.h>

#include <array>
#include <cstring>
#include <utility>

#include "kernels/linear_functions_avx512.h"
#include "kernels/linear_math.h"
#include "kernels/unroll.h"

namespace naiad {
namespace {

constexpr int32_t kTileRows = 16;   // Of a tile register, each of at most 64 bytes.
constexpr int32_t kTileDepth = 64;  // Inputs that one instruction multiplies, at most.
constexpr int32_t kInputsOfVector = 4;
constexpr int32_t kMaxPanelRows = 2 * kTileRows;
// From so many rows on a panel of tiles is faster than AVX-512's own products (linear_benchmark).
constexpr int32_t kManyRows = 24;
// The registers by number, as instructions have to know them: sums of both halves of a panel and both tiles of outputs,
// the activations of each half, the weights of each tile.
constexpr size_t kSums = 0;
constexpr size_t kActivations = 4;
constexpr size_t kWeights = 6;

// What _tile_loadconfig reads (Intel 64 Architectures Software Developer's Manual, volume 1, chapter 18).
struct alignas(64) TileShapes {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  std::array<uint8_t, 14> reserved = {};
  std::array<uint16_t, 16> row_bytes = {};
  std::array<uint8_t, 16> rows = {};
};
static_assert(sizeof(TileShapes) == 64);

// GCC 12 does not know of the tile instructions that they read memory: what `from` points to has to be there.
[[gnu::always_inline]] inline void WriteOut(const void* from) { asm volatile("" : : "r"(from) : "memory"); }

// The tile registers have shapes while this lives; afterwards the kernel need not save them for this thread.
class ShapedTiles {
 public:
  explicit ShapedTiles(int32_t panel_rows) {
    TileShapes shapes;
    const auto shape = [&](size_t tile, int32_t rows, int32_t row_bytes) {
      shapes.rows[tile] = static_cast<uint8_t>(rows);
      shapes.row_bytes[tile] = static_cast<uint16_t>(row_bytes);
    };
    for (size_t half = 0; half < 2; ++half) {
      const int32_t first = static_cast<int32_t>(half) * kTileRows;
      if (panel_rows <= first) break;
      const int32_t rows = panel_rows - first < kTileRows ? panel_rows - first : kTileRows;
      shape(kActivations + half, rows, kTileDepth);
      for (size_t tile = 0; tile < kMaxTiles; ++tile) shape(kSums + 2 * half + tile, rows, kVectorBytes);
    }
    for (size_t tile = 0; tile < kMaxTiles; ++tile) {
      shape(kWeights + tile, kTileDepth / kInputsOfVector, kVectorBytes);
    }
    WriteOut(&shapes);
    _tile_loadconfig(&shapes);
  }
  ~ShapedTiles() { _tile_release(); }
  ShapedTiles(const ShapedTiles&) = delete;
  ShapedTiles& operator=(const ShapedTiles&) = delete;
};

// Sums of a block for a panel, on their way from the tile unit to AVX-512: [tile][row][output].
struct alignas(64) BlockSums {
  std::array<std::array<int32_t, kMaxPanelRows * kTileOutputs>, kMaxTiles> of_tile;
};

// Products of one block's codes for a panel of kHalves times 16 rows, of which the last may lack some; `codes` are the
// panel's of that block.
template <int kHalves, int kTiles>
[[gnu::always_inline]] inline void MultiplyCodes(const uint8_t* block, ptrdiff_t tile_bytes, const int8_t* codes,
                                                 BlockSums* sums) {
  _tile_zero(0);
  if constexpr (kTiles == 2) _tile_zero(1);
  if constexpr (kHalves == 2) _tile_zero(2);
  if constexpr (kHalves == 2 && kTiles == 2) _tile_zero(3);
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
  constexpr ptrdiff_t kHalf = ptrdiff_t{kTileRows} * kTileOutputs;
  _tile_stored(0, sums->of_tile[0].data(), kVectorBytes);
  if constexpr (kTiles == 2) _tile_stored(1, sums->of_tile[1].data(), kVectorBytes);
  if constexpr (kHalves == 2) _tile_stored(2, sums->of_tile[0].data() + kHalf, kVectorBytes);
  if constexpr (kHalves == 2 && kTiles == 2) _tile_stored(3, sums->of_tile[1].data() + kHalf, kVectorBytes);
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
  __m512 outputs[kTiles][kMaxPanelRows];  // As they add up.
  for (int32_t r = 0; r < rows.panel_rows; ++r) {
    Unroll<kTiles>([&](auto t) { outputs[t][r] = _mm512_setzero_ps(); });
  }
  std::array<BlockSums, 2> sums;
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
    math.wide_tiles = {kManyRows, kMaxPanelRows, MultiplyWide};
    return math;
  }();
  return kMath;
}

}  // namespace naiad
