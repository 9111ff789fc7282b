// What the sessions of both runners have in common.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ort/ort_api.h"
#include "ort/ort_runtime.h"

namespace naiad {

// Opens the graph with our operators. intra_op_threads: 0 = one for each core that this process may use. Weights
// outside the graph are looked up beside it. cuda_gpu: on which GPU it runs; none = on the CPU. Throws what ONNX
// Runtime throws.
Ort::Session OpenSession(const OrtRuntime& runtime, const std::string& graph_path, int32_t intra_op_threads,
                         std::optional<int32_t> cuda_gpu = std::nullopt);

// The same for a small graph in memory that has none of our operators.
Ort::Session OpenSessionOfBytes(const OrtRuntime& runtime, const std::string& graph, std::optional<int32_t> cuda_gpu);

// A tensor over memory that the caller keeps while the value is in use. Inputs are declared const because no operator
// of ours or of ONNX Runtime writes to an input.
template <typename T>
Ort::Value TensorView(const Ort::MemoryInfo& memory, std::span<const T> elements, std::span<const int64_t> shape) {
  return Ort::Value::CreateTensor<T>(memory, const_cast<T*>(elements.data()), elements.size(), shape.data(),
                                     shape.size());
}

// Floats that the next run writes to. Grows when more are asked for and never shrinks, so that its size settles.
class OutputBuffer {
 public:
  // Room for `count` floats; what was there before is lost.
  std::span<float> Reserve(size_t count);

 private:
  std::vector<float> floats_;
};

}  // namespace naiad
