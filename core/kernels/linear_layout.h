// How the weights of a linear layer lie in memory, packed by the exporter (exporters/pack_linear.py) and read as they
// are.
//
// K inputs, N outputs. The weights are cut into tiles of 16 outputs, a tile into blocks of 32 inputs (128 in the wide
// format); what N and K lack of whole tiles and blocks is filled up. A block stands for weight = scale * code +
// minimum, with one scale and one minimum an output, both IEEE half unless said otherwise. Blocks of a tile follow each
// other, tiles too, so that one output tile is one stream of memory:
//
//   4 bits: 4 vectors of 64 bytes, 16 scales, 16 minimums. Byte 4c + i of vector v holds the codes (0 .. 15) of output
//           c: in its low half that of input 4v + i, in its high half that of input 16 + 4v + i.
//   8 bits: 8 vectors of 64 bytes, 16 scales. Byte 4c + i of vector v holds the code of output c and input 4v + i, plus
//           128; the minimum is -128 * scale.
//   8 bits, wide: the same with blocks of 128 inputs, so 32 vectors, and then 16 scales as floats, which keeps every
//           block in whole lines of memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace naiad {

inline constexpr int32_t kTileOutputs = 16;
inline constexpr int32_t kBlockInputs = 32;
inline constexpr int32_t kWideBlockInputs = 128;
inline constexpr int32_t kVectorBytes = 64;  // 16 outputs, 4 inputs each.
inline constexpr int32_t kInt4CodeBytes = 4 * kVectorBytes;
inline constexpr int32_t kInt8CodeBytes = 8 * kVectorBytes;
inline constexpr int32_t kWideCodeBytes = 32 * kVectorBytes;
inline constexpr int32_t kTileFloatBytes = 4 * kTileOutputs;  // The scales of one wide block.
inline constexpr int32_t kTileHalfBytes = 2 * kTileOutputs;   // The scales, or the minimums, of one block.

// The wide one spares a quarter of the arithmetic, for a little more rounding.
enum class LinearFormat { kInt4, kInt8, kInt8Wide };

// Static, as they are compiled for several instruction sets: the linker must not merge them.
static inline constexpr int32_t BlockInputs(LinearFormat format) {
  return format == LinearFormat::kInt8Wide ? kWideBlockInputs : kBlockInputs;
}
static inline constexpr int32_t CodeBytes(LinearFormat format) {
  if (format == LinearFormat::kInt8Wide) return kWideCodeBytes;
  return format == LinearFormat::kInt8 ? kInt8CodeBytes : kInt4CodeBytes;
}
static inline constexpr int32_t BlockBytes(LinearFormat format) {
  if (format == LinearFormat::kInt8Wide) return kWideCodeBytes + kTileFloatBytes;
  return CodeBytes(format) + (format == LinearFormat::kInt4 ? 2 : 1) * kTileHalfBytes;
}
static inline constexpr int32_t BlocksOf(LinearFormat format, int32_t inputs) {
  return (inputs + BlockInputs(format) - 1) / BlockInputs(format);
}
static inline constexpr int32_t TilesOf(int32_t outputs) { return (outputs + kTileOutputs - 1) / kTileOutputs; }
static inline constexpr ptrdiff_t TileBytes(LinearFormat format, int32_t inputs) {
  return ptrdiff_t{BlocksOf(format, inputs)} * BlockBytes(format);
}

}  // namespace naiad
