// The inner loops of linear layers with quantised weights, once per instruction set. Every level gives the same bits.
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

// Rows of activations in 8 bits, cut into blocks of 32 as the weights are: activation = scale * code. All pointers are
// to the first row; a row has `blocks` entries of each of the last three and 32 * blocks codes.
struct QuantisedRows {
  int8_t* codes = nullptr;  // -127 .. 127
  float* scales = nullptr;
  float* sums = nullptr;       // scale * sum of the block's codes: what a minimum of the weights is multiplied by.
  int32_t* offsets = nullptr;  // -128 * sum of the block's codes: undoes the 128 in 8-bit weights.
  int32_t blocks = 0;
};

// One tile of outputs for some rows.
struct LinearTile {
  const uint8_t* packed = nullptr;  // The tile's first block.
  QuantisedRows rows;
  int32_t row_count = 0;
  const float* bias = nullptr;  // [columns], or null.
  float* output = nullptr;      // output[r * output_stride + c]
  ptrdiff_t output_stride = 0;
  int32_t columns = kTileOutputs;  // 1 .. kTileOutputs; no other is written.
};

struct LinearMath {
  // Writes one row from `inputs` floats; fills the last block up with zeros. `factor` multiplies all scales. A block
  // that is not finite gets the scale NaN, so that every output of the row shows it.
  void (*quantise_row)(const float* from, int32_t inputs, float factor, const QuantisedRows& row);

  void (*multiply_int4)(const LinearTile& tile);
  void (*multiply_int8)(const LinearTile& tile);
};

const LinearMath& LinearMathFor(SimdLevel level);

// Defined in their own translation units.
const LinearMath& ScalarLinearMath();
#if defined(__x86_64__)
const LinearMath& Avx2LinearMath();
const LinearMath& Avx512LinearMath();
#endif

// The rows from `first` on.
static inline QuantisedRows RowsFrom(const QuantisedRows& rows, ptrdiff_t first) {
  const ptrdiff_t skipped = first * rows.blocks;
  return {rows.codes + skipped * kBlockInputs, rows.scales + skipped, rows.sums + skipped, rows.offsets + skipped,
          rows.blocks};
}

}  // namespace naiad
