// Two tiny graphs that work on a pool of KV blocks wherever it is: ONNX Runtime runs them on the device that holds the
// pool, so that naiad needs neither CUDA's headers nor its libraries to move memory there.
#pragma once

#include <cstdint>
#include <string>

namespace naiad {

// Both work on elements of two bytes, declared as float16; their bits are only moved.

// Inputs `source` int64 [n], `target` int64 [n, 1], and `pool.0` .. `pool.N-1`, each [blocks, ...]; outputs
// `pool_out.0` .. `pool_out.N-1`, where block target[i] holds what block source[i] held before. With an output bound to
// its input's memory only those blocks are written. Targets must differ from each other.
[[nodiscard]] std::string BlockCopyGraph(int32_t num_tensors);

// Input `shape` int64 [rank]; output `zeros`, a tensor of that shape.
[[nodiscard]] std::string ZerosGraph();

}  // namespace naiad
