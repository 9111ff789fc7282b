// How the weights of a linear layer lie in memory, packed by the exporter (exporters/pack_linear.py) and read as they
// are.
//
// K inputs, N outputs. The weights are cut into tiles of 16 outputs, a tile into blocks of 32 inputs; what N and K lack
// of whole tiles and blocks is filled up. A block stands for weight = scale * code + minimum, with one scale and one
// minimum an output, both IEEE half. Blocks of a tile follow each other, tiles too, so that one output tile is one
// stream of memory:
//
//   4 bits: 4 vectors of 64 bytes, 16 scales, 16 minimums. Byte 4c + i of vector v holds the codes (0 .. 15) of output
//           c: in its low half that of input 4v + i, in its high half that of input 16 + 4v + i.
//   8 bits: 8 vectors of 64 bytes, 16 scales. Byte 4c + i of vector v holds the code of output c and input 4v + i, plus
//           128; the minimum is -128 * scale.
#pragma once

#include <cstddef>
#include <cstdint>

namespace naiad {

inline constexpr int32_t kTileOutputs = 16;
inline constexpr int32_t kBlockInputs = 32;
inline constexpr int32_t kVectorBytes = 64;  // 16 outputs, 4 inputs each.
inline constexpr int32_t kInt4CodeBytes = 4 * kVectorBytes;
inline constexpr int32_t kInt8CodeBytes = 8 * kVectorBytes;
inline constexpr int32_t kTileHalfBytes = 2 * kTileOutputs;  // The scales, or the minimums, of one block.

enum class LinearFormat { kInt4, kInt8 };

// Static, as they are compiled for several instruction sets: the linker must not merge them.
static inline constexpr int32_t BlockBytes(LinearFormat format) {
  return format == LinearFormat::kInt4 ? kInt4CodeBytes + 2 * kTileHalfBytes : kInt8CodeBytes + kTileHalfBytes;
}
static inline constexpr int32_t BlocksOf(int32_t inputs) { return (inputs + kBlockInputs - 1) / kBlockInputs; }
static inline constexpr int32_t TilesOf(int32_t outputs) { return (outputs + kTileOutputs - 1) / kTileOutputs; }
static inline constexpr ptrdiff_t TileBytes(LinearFormat format, int32_t inputs) {
  return ptrdiff_t{BlocksOf(inputs)} * BlockBytes(format);
}

}  // namespace naiad
