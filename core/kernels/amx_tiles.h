// What the loops for AMX share: panels of up to 32 rows times two tiles of outputs, in eight tile registers.
//
// Registers are numbered, as instructions have to know them: 0 to 3 are the sums (both tiles of outputs for the first
// half of the panel, then for the second), 4 and 5 the activations of each half, 6 and 7 the weights of each tile.
#pragma once

#include <immintrin.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/linear_math.h"

namespace naiad {

static constexpr int32_t kTileRows = 16;  // Of a tile register, each of 64 bytes.
static constexpr int32_t kMaxTilePanelRows = 2 * kTileRows;

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
[[gnu::always_inline]] static inline void WriteOut(const void* from) { asm volatile("" : : "r"(from) : "memory"); }

// The tile registers have shapes while this lives; afterwards the kernel need not save them for this thread.
class ShapedTiles {
 public:
  [[gnu::always_inline]] explicit ShapedTiles(int32_t panel_rows) {
    constexpr size_t kActivations = 4;
    constexpr size_t kWeights = 6;
    TileShapes shapes;
    const auto shape = [&](size_t tile, int32_t rows) __attribute__((always_inline)) {
      shapes.rows[tile] = static_cast<uint8_t>(rows);
      shapes.row_bytes[tile] = kVectorBytes;
    };
    for (size_t half = 0; half < 2; ++half) {
      const int32_t first = static_cast<int32_t>(half) * kTileRows;
      if (panel_rows <= first) break;
      const int32_t rows = panel_rows - first < kTileRows ? panel_rows - first : kTileRows;
      shape(kActivations + half, rows);
      for (size_t tile = 0; tile < kMaxTiles; ++tile) shape(2 * half + tile, rows);
    }
    for (size_t tile = 0; tile < kMaxTiles; ++tile) shape(kWeights + tile, kTileRows);
    WriteOut(&shapes);
    _tile_loadconfig(&shapes);
  }
  [[gnu::always_inline]] ~ShapedTiles() { _tile_release(); }
  ShapedTiles(const ShapedTiles&) = delete;
  ShapedTiles& operator=(const ShapedTiles&) = delete;
};

// Sums for a panel on their way from the tile unit to AVX-512: [tile][row][output].
template <typename Number>
struct alignas(64) PanelSums {
  std::array<std::array<Number, kMaxTilePanelRows * kTileOutputs>, kMaxTiles> of_tile;
};

// Writes the registers of sums of kHalves halves of a panel and kTiles tiles to `sums`.
template <int kHalves, int kTiles, typename Number>
[[gnu::always_inline]] static inline void StoreSums(PanelSums<Number>* sums) {
  constexpr ptrdiff_t kHalf = ptrdiff_t{kTileRows} * kTileOutputs;
  _tile_stored(0, sums->of_tile[0].data(), kVectorBytes);
  if constexpr (kTiles == 2) _tile_stored(1, sums->of_tile[1].data(), kVectorBytes);
  if constexpr (kHalves == 2) _tile_stored(2, sums->of_tile[0].data() + kHalf, kVectorBytes);
  if constexpr (kHalves == 2 && kTiles == 2) _tile_stored(3, sums->of_tile[1].data() + kHalf, kVectorBytes);
}

template <int kHalves, int kTiles>
[[gnu::always_inline]] static inline void ZeroSums() {
  _tile_zero(0);
  if constexpr (kTiles == 2) _tile_zero(1);
  if constexpr (kHalves == 2) _tile_zero(2);
  if constexpr (kHalves == 2 && kTiles == 2) _tile_zero(3);
}

}  // namespace naiad
