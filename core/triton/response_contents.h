// A Triton response as plain values, so that encoding needs no Triton.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "triton/abi.h"

namespace naiad {

// Views memory of whoever made it.
struct OutputTensor {
  const char* name = nullptr;
  TRITONSERVER_DataType type = TRITONSERVER_TYPE_INVALID;
  std::vector<int64_t> shape;
  const void* data = nullptr;
  size_t byte_size = 0;
};

struct TextParameter {
  const char* name = nullptr;
  std::string value;
};

struct IntParameter {
  const char* name = nullptr;
  int64_t value = 0;
};

struct ResponseContents {
  std::vector<OutputTensor> tensors;
  std::vector<TextParameter> texts;
  std::vector<IntParameter> numbers;
};

inline OutputTensor Int32Tensor(const char* name, const std::vector<int32_t>& values, std::vector<int64_t> shape) {
  return {name, TRITONSERVER_TYPE_INT32, std::move(shape), values.data(), values.size() * sizeof(int32_t)};
}

inline OutputTensor FloatTensor(const char* name, const std::vector<float>& values, std::vector<int64_t> shape) {
  return {name, TRITONSERVER_TYPE_FP32, std::move(shape), values.data(), values.size() * sizeof(float)};
}

}  // namespace naiad
