// The portable reference. Written to be read, not to be fast.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/linear_functions_scalar.h"
#include "kernels/linear_math.h"
#include "kernels/quantised_row.h"

namespace naiad {
namespace {

void QuantiseBlock(const float* from, int32_t count, float factor, int32_t block, const QuantisedRows& row) {
  const ptrdiff_t entry = ptrdiff_t{block} * row.panel_rows;
  int8_t* const codes = row.codes + entry * row.block_inputs;
  std::memset(codes, 0, static_cast<size_t>(row.block_inputs));
  float magnitude = 0.0F;
  bool finite = true;
  for (int32_t i = 0; i < count; ++i) {
    finite = finite && std::isfinite(from[i]);
    magnitude = std::max(magnitude, std::abs(from[i]));
  }
  int32_t sum = 0;
  float scale = finite ? 0.0F : std::numeric_limits<float>::quiet_NaN();
  if (finite && magnitude >= kSmallestMagnitude) {
    const float inverse = kMaxQuantised / magnitude;
    for (int32_t i = 0; i < count; ++i) {
      codes[i] = static_cast<int8_t>(std::nearbyint(from[i] * inverse));
      sum += codes[i];
    }
    scale = magnitude / kMaxQuantised * factor;
  }
  row.scales[entry] = scale;
  row.sums[entry] = scale * static_cast<float>(sum);
  row.offsets[entry] = -128 * sum;
}

void QuantiseRow(const float* from, int32_t inputs, float factor, const QuantisedRows& row) {
  for (int32_t block = 0; block < row.blocks; ++block) {
    const int32_t first = block * row.block_inputs;
    QuantiseBlock(from + first, std::min(row.block_inputs, inputs - first), factor, block, row);
  }
}

void QuantiseGatedRow(const float* from, int32_t inputs, float factor, const QuantisedRows& row) {
  for (int32_t block = 0; block < row.blocks; ++block) {
    const int32_t first = block * row.block_inputs;
    const int32_t count = std::min(row.block_inputs, inputs - first);
    float values[kWideBlockInputs];
    for (int32_t i = 0; i < count; ++i) values[i] = Silu(from[first + i]) * from[inputs + first + i];
    QuantiseBlock(values, count, factor, block, row);
  }
}

void QuantiseNormalisedRow(const float* from, const RmsNorm& norm, int32_t inputs, float factor,
                           const QuantisedRows& row) {
  const float inverse = InverseRootMeanSquare(from, inputs, norm.epsilon);
  for (int32_t block = 0; block < row.blocks; ++block) {
    const int32_t first = block * row.block_inputs;
    const int32_t count = std::min(row.block_inputs, inputs - first);
    float values[kWideBlockInputs];
    for (int32_t i = 0; i < count; ++i) values[i] = from[first + i] * inverse * norm.weight[first + i];
    QuantiseBlock(values, count, factor, block, row);
  }
}

template <LinearFormat kFormat>
float ScaleAt(const uint8_t* scales, int32_t column) {
  if constexpr (kFormat != LinearFormat::kInt8Wide) return HalfToFloat(scales + 2 * column);
  float scale = 0.0F;
  std::memcpy(&scale, scales + 4 * column, sizeof(scale));
  return scale;
}

template <LinearFormat kFormat>
float Output(const uint8_t* packed, const QuantisedRows& row, int32_t column) {
  float output = 0.0F;
  for (int32_t b = 0; b < row.blocks; ++b) {
    const uint8_t* const block = packed + ptrdiff_t{b} * BlockBytes(kFormat);
    const ptrdiff_t entry = ptrdiff_t{b} * row.panel_rows;
    const int8_t* const codes = row.codes + entry * row.block_inputs;
    int32_t sum = kFormat == LinearFormat::kInt4 ? 0 : row.offsets[entry];
    for (int32_t i = 0; i < BlockInputs(kFormat); ++i) {
      sum += codes[i] * (kFormat == LinearFormat::kInt4 ? Int4Code(block, column, i) : Int8Code(block, column, i));
    }
    const uint8_t* const scales = block + CodeBytes(kFormat);
    output = std::fma(static_cast<float>(sum) * row.scales[entry], ScaleAt<kFormat>(scales, column), output);
    if (kFormat == LinearFormat::kInt4) {
      output = std::fma(row.sums[entry], HalfToFloat(scales + kTileHalfBytes + 2 * column), output);
    }
  }
  return output;
}

template <LinearFormat kFormat>
void Multiply(const LinearTiles& tiles) {
  for (int32_t r = 0; r < tiles.row_count; ++r) {
    for (int32_t c = 0; c < tiles.columns; ++c) {
      const uint8_t* const packed = tiles.packed + c / kTileOutputs * tiles.tile_bytes;
      StoreOutput(tiles, r, c, Output<kFormat>(packed, RowsFrom(tiles.rows, r), c % kTileOutputs));
    }
  }
}

}  // namespace

const LinearMath& ScalarLinearMath() {
  static constexpr LinearMath kMath{4,
                                    4,
                                    QuantiseRow,
                                    QuantiseGatedRow,
                                    QuantiseNormalisedRow,
                                    Multiply<LinearFormat::kInt4>,
                                    Multiply<LinearFormat::kInt8>,
                                    Multiply<LinearFormat::kInt8Wide>};
  return kMath;
}

}  // namespace naiad
