// The inner loops of linear layers with quantised weights, once per instruction set. Every level gives the same bits,
// but for 4-bit codes where a tile unit multiplies bfloat16 (Bf16Tiles).
//
// Batch invariance: what comes out for a row depends only on that row and on the weights. Products of codes are summed
// in integers, exactly; the sums of the blocks are added as floats in the order of the blocks, one fused multiply-add
// each, whatever the number of rows.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu_features.h"
#include "kernels/linear_layout.h"

namespace naiad {

inline constexpr int32_t kMaxTiles = 2;  // Tiles that one call multiplies.

// Rows of activations in 8 bits, cut into blocks as the weights are: activation = scale * code. Rows lie in
// panels of panel_rows, of which the last may lack some: block after block, in each the rows of the panel. So block b
// of row r is entry (r / panel_rows * blocks + b) * panel_rows + r % panel_rows; an entry is one element of each of the
// last three arrays and block_inputs codes.
struct QuantisedRows {
  int8_t* codes = nullptr;  // -127 .. 127
  float* scales = nullptr;
  float* sums = nullptr;       // scale * sum of the block's codes: what a minimum of the weights is multiplied by.
  int32_t* offsets = nullptr;  // -128 * sum of the block's codes: undoes the 128 in 8-bit weights.
  int32_t blocks = 0;
  int32_t panel_rows = 1;
  int32_t block_inputs = kBlockInputs;  // Or kWideBlockInputs.
  int32_t code_bytes = 1;               // 2: the codes are the activations in bfloat16, and nothing else is used.
};

// RMSNorm of a row of activations.
struct RmsNorm {
  const float* weight = nullptr;  // [inputs]
  float epsilon = 0.0F;
};

// One or two tiles of outputs for some rows.
struct LinearTiles {
  const uint8_t* packed = nullptr;  // The first tile's first block.
  // What the caller multiplies next: memory to ask for by the way. Null if nothing.
  const uint8_t* next_packed = nullptr;
  ptrdiff_t tile_bytes = 0;
  QuantisedRows rows;  // From the start of a panel on.
  int32_t row_count = 0;
  const float* bias = nullptr;      // [columns], or null.
  bool has_gelu = false;            // Whether outputs go through GELU (gelu_constants.h) after the bias.
  const float* residual = nullptr;  // Added to the output, beside which it lies in the same way; or null.
  float* output = nullptr;          // output[r * output_stride + c]
  ptrdiff_t output_stride = 0;
  int32_t columns = 0;  // 1 .. kMaxTiles * kTileOutputs; no other is written.
};

struct LinearMath {
  int32_t max_panel_rows;       // Rows that share what is done to a block of weights.
  int32_t max_int4_panel_rows;  // The same with 4-bit codes.

  // Writes one row from `inputs` floats; fills the last block up with zeros. `factor` multiplies all scales. A block
  // that is not finite gets the scale NaN, so that every output of the row shows it.
  void (*quantise_row)(const float* from, int32_t inputs, float factor, const QuantisedRows& row);

  // The same for silu(gate) * up, with `inputs` gates at `from` and then as many ups; silu_constants.h has the steps.
  void (*quantise_gated_row)(const float* from, int32_t inputs, float factor, const QuantisedRows& row);

  // The same for the row divided by its root mean square, times the norm's weight, in steps that give the
  // same bits at every level: lane l of 32 sums the squares of the inputs 32 b + l in the order of b, each a fused
  // multiply-add; then lanes l and l + 16 are added, l and l + 8, ... l and l + 1; and an activation becomes
  // x * (1 / sqrt(sum / inputs + epsilon)) * weight.
  void (*quantise_normalised_row)(const float* from, const RmsNorm& norm, int32_t inputs, float factor,
                                  const QuantisedRows& row);

  void (*multiply_int4)(const LinearTiles& tiles);
  void (*multiply_int8)(const LinearTiles& tiles);
  void (*multiply_int8_wide)(const LinearTiles& tiles);

  // What is better for wide blocks from a number of rows on, if anything is.
  struct WideTiles {
    int32_t min_rows = 0;
    int32_t max_panel_rows = 0;
    void (*multiply)(const LinearTiles& tiles) = nullptr;
  };
  WideTiles wide_tiles = {};

  // What takes the place of all that for 4-bit codes, where a tile unit multiplies bfloat16: it adds the products up as
  // floats, so that no block has to be scaled on its way out. For any number of rows, as a row must not depend on
  // others. Each output is
  //
  //   sum over blocks b in their order of (even(b) + odd(b))
  //
  // where even and odd are chains of fused multiply-adds from zero over the block's inputs 0, 2, ... and 1, 3, ..., of
  // activations rounded and weights cut to bfloat16 (bf16.h), and numbers too small to be normal are zeros. These are
  // the steps of TDPBF16PS (Intel 64 Architectures Software Developer's Manual, volume 2D).
  struct Bf16Tiles {
    int32_t max_panel_rows = 0;
    void (*round_row)(const float* from, int32_t inputs, float factor, const QuantisedRows& row) = nullptr;
    void (*round_gated_row)(const float* from, int32_t inputs, float factor, const QuantisedRows& row) = nullptr;
    void (*round_normalised_row)(const float* from, const RmsNorm& norm, int32_t inputs, float factor,
                                 const QuantisedRows& row) = nullptr;
    void (*multiply)(const LinearTiles& tiles) = nullptr;
  };
  Bf16Tiles bf16_tiles = {};
};

const LinearMath& LinearMathFor(SimdLevel level);

// Defined in their own translation units.
const LinearMath& ScalarLinearMath();
// ScalarLinearMath with bf16_tiles: their reference, for tests.
const LinearMath& ScalarBf16LinearMath();
#if defined(__x86_64__)
const LinearMath& Avx2LinearMath();
const LinearMath& Avx512LinearMath();
const LinearMath& AmxLinearMath();
LinearMath::Bf16Tiles AmxBf16Tiles();
#endif

// The rows from `first` to the end of its panel, if it is not the first of its panel; else all from there on.
static inline QuantisedRows RowsFrom(const QuantisedRows& rows, ptrdiff_t first) {
  const ptrdiff_t skipped = first / rows.panel_rows * rows.panel_rows * rows.blocks + first % rows.panel_rows;
  return {rows.codes + skipped * rows.block_inputs * rows.code_bytes,
          rows.scales + skipped,
          rows.sums + skipped,
          rows.offsets + skipped,
          rows.blocks,
          rows.panel_rows,
          rows.block_inputs,
          rows.code_bytes};
}
}  // namespace naiad
