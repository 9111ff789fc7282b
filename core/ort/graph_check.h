// Does a loaded graph have the inputs and outputs that docs/contracts.md asks for?
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/status.h"
#include "ort/ort_api.h"

namespace naiad {

inline constexpr int64_t kAnySize = -1;

struct TensorSpec {
  std::string name;
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  std::vector<int64_t> dims;  // kAnySize where the size changes from run to run.
};

// kInvalidArgument that names the graph and the first tensor that is missing, unknown, or of another type or shape. A
// size that the graph leaves open fits any. Throws what ONNX Runtime throws.
Status CheckGraph(const std::string& graph_path, const Ort::Session& session, const std::vector<TensorSpec>& inputs,
                  const std::vector<TensorSpec>& outputs);

}  // namespace naiad
