// AMX: the tile unit multiplies activations and weights in bfloat16 and adds them up as floats. Weights are unpacked on
// the way, once for all rows. This file is compiled with flags of its own, so nothing that other units could inline may
// be defined here.
#include <immintrin.h>

#include <array>
#include <cstring>
#include <type_traits>
#include <vector>

#include "kernels/amx_tiles.h"
#include "kernels/bf16.h"
#include "kernels/linear_functions_avx512.h"
#include "kernels/linear_math.h"
#include "kernels/linear_rows_avx512.h"
#include "kernels/unroll.h"

namespace naiad {
namespace {

constexpr int32_t kBf16Bytes = 2;
constexpr int32_t kBlockRowBytes = kBlockInputs * kBf16Bytes;  // Of one row of activations: a line of memory.
constexpr ptrdiff_t kInt4BlockBytes = BlockBytes(LinearFormat::kInt4);
// Blocks that a single panel keeps unpacked, a power of two: enough that the tile unit reads what has long been
// written.
constexpr int32_t kRingBlocks = 4;

// One block of both tiles' weights as the tile unit takes them: [tile][pair of inputs][output][input of the pair].
struct alignas(kVectorBytes) UnpackedBlock {
  std::array<std::array<uint8_t, kTileRows * kVectorBytes>, kMaxTiles> of_tile;
};

// Of the tiles that this thread multiplies.
thread_local std::vector<UnpackedBlock> unpacked_blocks;

// What turns codes into weights, for 16 outputs.
struct Scales {
  __m512 scale;
  __m512 low_offset;   // Beside kBf16LowBase.
  __m512 high_offset;  // Beside kBf16HighBase.
};

[[gnu::always_inline]] inline Scales ScalesOf(const uint8_t* block) {
  const uint8_t* const scales = block + kInt4CodeBytes;
  const __m512 cut = _mm512_set1_ps(kBf16CutFactor);
  const __m512 scale = _mm512_mul_ps(LoadHalves(scales), cut);
  const __m512 minimum = _mm512_mul_ps(LoadHalves(scales + kTileHalfBytes), cut);
  return {scale, _mm512_fnmadd_ps(_mm512_set1_ps(kBf16LowBase), scale, minimum),
          _mm512_fnmadd_ps(_mm512_set1_ps(kBf16HighBase), scale, minimum)};
}

// The codes in bits kFirstBit to kFirstBit + 3 of each lane as weights.
template <int kFirstBit>
[[gnu::always_inline]] inline __m512 Weights(__m512i codes, __m512 scale, __m512 offset) {
  // The float whose bit kFirstBit counts as one.
  constexpr int32_t kBase = (127 + 23 - kFirstBit) << 23;
  constexpr int32_t kMask = 15 << kFirstBit;
  constexpr int kAndOr = 0xea;  // (a & b) | c
  const __m512i bits = _mm512_ternarylogic_epi32(codes, _mm512_set1_epi32(kMask), _mm512_set1_epi32(kBase), kAndOr);
  return _mm512_fmadd_ps(_mm512_castsi512_ps(bits), scale, offset);
}

// The upper halves of `first` and `second`, side by side in each lane.
[[gnu::always_inline]] inline __m512i CutPair(__m512 first, __m512 second) {
  constexpr __mmask64 kLowerHalves = 0x3333333333333333U;
  const __m512i down = _mm512_broadcast_i32x4(_mm_setr_epi8(2, 3, 2, 3, 6, 7, 6, 7, 10, 11, 10, 11, 14, 15, 14, 15));
  return _mm512_mask_shuffle_epi8(_mm512_castps_si512(second), kLowerHalves, _mm512_castps_si512(first), down);
}

[[gnu::always_inline]] inline void UnpackBlock(const uint8_t* block, uint8_t* pairs) {
  constexpr ptrdiff_t kUpperInputs = ptrdiff_t{kTileRows} / 2 * kVectorBytes;
  const Scales scales = ScalesOf(block);
  Unroll<kInt4CodeBytes / kVectorBytes>([&](auto v) __attribute__((always_inline)) {
    const __m512i codes = _mm512_loadu_si512(block + v * kVectorBytes);
    // Byte i of each lane in bits 15 to 22.
    const __m512i bytes[4] = {_mm512_slli_epi32(codes, 15), _mm512_slli_epi32(codes, 7), _mm512_srli_epi32(codes, 1),
                              _mm512_srli_epi32(codes, 9)};
    Unroll<2>([&](auto p) __attribute__((always_inline)) {
      uint8_t* const to = pairs + (2 * v + p) * kVectorBytes;
      const auto pair = [&](auto first_bit, __m512 offset) __attribute__((always_inline)) {
        return CutPair(Weights<first_bit>(bytes[2 * p], scales.scale, offset),
                       Weights<first_bit>(bytes[2 * p + 1], scales.scale, offset));
      };
      _mm512_store_si512(to, pair(std::integral_constant<int, 15>{}, scales.low_offset));
      _mm512_store_si512(to + kUpperInputs, pair(std::integral_constant<int, 19>{}, scales.high_offset));
    });
  });
}

// Adds to the sums what one block of tile kTile gives. The activations, the panel's `codes` of that block, stay in the
// registers for the second tile. kPast: they are read past the first-level cache, which then keeps the weights for the
// panels that follow. The intrinsics take numbers of registers as they are written here.
template <int kHalves, int kTile, bool kPast>
[[gnu::always_inline]] inline void AddBlock(const UnpackedBlock& weights, const int8_t* codes) {
  if constexpr (kTile == 1) {
    _tile_loadd(7, weights.of_tile[1].data(), kVectorBytes);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (kHalves == 2) _tile_dpbf16ps(3, 5, 7);
    return;
  }
  const int8_t* const lower = codes + kTileRows * kBlockRowBytes;
  _tile_loadd(6, weights.of_tile[0].data(), kVectorBytes);
  if constexpr (kPast) {
    _tile_stream_loadd(4, codes, kBlockRowBytes);
    if constexpr (kHalves == 2) _tile_stream_loadd(5, lower, kBlockRowBytes);
  } else {
    _tile_loadd(4, codes, kBlockRowBytes);
    if constexpr (kHalves == 2) _tile_loadd(5, lower, kBlockRowBytes);
  }
  _tile_dpbf16ps(0, 4, 6);
  if constexpr (kHalves == 2) _tile_dpbf16ps(2, 5, 6);
}

// Where the outputs of a panel can be written as they lie in the registers.
template <int kTiles>
bool ArePlain(const LinearTiles& tiles) {
  return tiles.bias == nullptr && !tiles.has_gelu && tiles.residual == nullptr &&
         tiles.columns >= kTiles * kTileOutputs;
}

// Writes the outputs of a panel from its sums in the registers.
template <int kHalves, int kTiles>
void StorePanel(const LinearTiles& tiles, int32_t first_row, int32_t row_count) {
  if (row_count == tiles.rows.panel_rows && ArePlain<kTiles>(tiles)) {
    const ptrdiff_t row_bytes = tiles.output_stride * ptrdiff_t{sizeof(float)};
    float* const upper = tiles.output + first_row * tiles.output_stride;
    float* const lower = upper + kTileRows * tiles.output_stride;
    _tile_stored(0, upper, row_bytes);
    if constexpr (kTiles == 2) _tile_stored(1, upper + kTileOutputs, row_bytes);
    if constexpr (kHalves == 2) _tile_stored(2, lower, row_bytes);
    if constexpr (kHalves == 2 && kTiles == 2) _tile_stored(3, lower + kTileOutputs, row_bytes);
    WriteOut(upper);
    return;
  }
  PanelSums<float> sums;
  StoreSums<kHalves, kTiles>(&sums);
  WriteOut(&sums);
  for (int32_t r = 0; r < row_count; ++r) {
    __m512 row[kTiles];
    Unroll<kTiles>([&](auto t) __attribute__((always_inline)) {
      row[t] = _mm512_load_ps(sums.of_tile[t].data() + r * kTileOutputs);
    });
    StoreOutputs<1, kTiles>(tiles, first_row + r, row);
  }
}

// One panel, the first row of which is `first_row`. kUnpack: the first panel, which also unpacks the weights and asks
// memory for the tiles that come next; others find them unpacked. Block b is at place `b & place_mask`.
template <int kHalves, int kTiles, bool kUnpack>
void MultiplyPanel(const LinearTiles& tiles, int32_t first_row, int32_t place_mask) {
  const QuantisedRows rows = RowsFrom(tiles.rows, first_row);
  const int32_t rest = tiles.row_count - first_row;
  const int32_t row_count = rest < rows.panel_rows ? rest : rows.panel_rows;
  for (int32_t r = 0; r < row_count; ++r) PrefetchResidual<1, kTiles>(tiles, first_row + r);
  UnpackedBlock* const unpacked = unpacked_blocks.data();
  const uint8_t* block = tiles.packed;
  const uint8_t* next = tiles.next_packed;
  const int8_t* const codes = rows.codes;
  ZeroSums<kHalves, kTiles>();
  const ptrdiff_t panel_bytes = ptrdiff_t{rows.panel_rows} * kBlockRowBytes;
  // While AVX-512 unpacks a block of one tile, the tile unit multiplies the block before it.
  const int32_t lag = kUnpack ? 1 : 0;
  for (int32_t b = 0; b < rows.blocks + lag; ++b) {
    UnpackedBlock* const unpacking = unpacked + (b & place_mask);
    Unroll<kTiles>([&](auto t) __attribute__((always_inline)) {
      if (kUnpack && b < rows.blocks) {
        UnpackBlock(block + t * tiles.tile_bytes, unpacking->of_tile[t].data());
        WriteOut(unpacking);
      }
      if (b >= lag) AddBlock<kHalves, t, !kUnpack>(unpacked[(b - lag) & place_mask], codes + (b - lag) * panel_bytes);
    });
    if (kUnpack && next != nullptr && b < rows.blocks) {
      for (ptrdiff_t line = 0; line < kTiles * kInt4BlockBytes; line += kVectorBytes) {
        _mm_prefetch(reinterpret_cast<const char*>(next + line), _MM_HINT_T0);
      }
      next += kTiles * kInt4BlockBytes;
    }
    block += kInt4BlockBytes;
  }
  StorePanel<kHalves, kTiles>(tiles, first_row, row_count);
}

template <int kHalves, int kTiles>
void MultiplyPanels(const LinearTiles& tiles) {
  const int32_t panel_rows = tiles.rows.panel_rows;
  const bool is_one_panel = tiles.row_count <= panel_rows;
  const size_t places = static_cast<size_t>(is_one_panel ? kRingBlocks : tiles.rows.blocks);
  if (unpacked_blocks.size() < places) unpacked_blocks.resize(places);
  const ShapedTiles shaped(panel_rows);
  const int32_t place_mask = is_one_panel ? kRingBlocks - 1 : -1;
  MultiplyPanel<kHalves, kTiles, true>(tiles, 0, place_mask);
  for (int32_t row = panel_rows; row < tiles.row_count; row += panel_rows) {
    MultiplyPanel<kHalves, kTiles, false>(tiles, row, place_mask);
  }
}

void Multiply(const LinearTiles& tiles) {
  const bool two_halves = tiles.rows.panel_rows > kTileRows;
  if (tiles.columns > kTileOutputs) {
    two_halves ? MultiplyPanels<2, 2>(tiles) : MultiplyPanels<1, 2>(tiles);
  } else {
    two_halves ? MultiplyPanels<2, 1>(tiles) : MultiplyPanels<1, 1>(tiles);
  }
}

template <typename Load>
[[gnu::always_inline]] inline void RoundBlocks(const Load& load, float factor, const QuantisedRows& row) {
  for (int32_t block = 0; block < row.blocks; ++block) {
    int8_t* const codes = row.codes + ptrdiff_t{block} * row.panel_rows * kBlockRowBytes;
    Unroll<kBlockInputs / kLanes>([&](auto v) __attribute__((always_inline)) {
      const __m512 value = _mm512_mul_ps(load(block * kBlockInputs + v * kLanes), _mm512_set1_ps(factor));
      // An infinity becomes a NaN as well, which shows in every output.
      const __m512 finite = _mm512_add_ps(value, _mm512_sub_ps(value, value));
      const __m256bh rounded = _mm512_cvtneps_pbh(finite);
      std::memcpy(codes + v * kLanes * kBf16Bytes, &rounded, sizeof(rounded));
    });
  }
}

void RoundRow(const float* from, int32_t inputs, float factor, const QuantisedRows& row) {
  RoundBlocks(PlainActivations(from, inputs), factor, row);
}

void RoundGatedRow(const float* from, int32_t inputs, float factor, const QuantisedRows& row) {
  RoundBlocks(GatedActivations(from, inputs), factor, row);
}

void RoundNormalisedRow(const float* from, const RmsNorm& norm, int32_t inputs, float factor,
                        const QuantisedRows& row) {
  RoundBlocks(NormalisedActivations(from, norm, inputs), factor, row);
}

}  // namespace

LinearMath::Bf16Tiles AmxBf16Tiles() {
  return {kMaxTilePanelRows, RoundRow, RoundGatedRow, RoundNormalisedRow, Multiply};
}

}  // namespace naiad
