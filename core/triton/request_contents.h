// A Triton request copied into plain values, so that decoding needs no Triton.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "engine/status.h"
#include "triton/abi.h"

namespace naiad {

struct InputTensor {
  std::string name;
  TRITONSERVER_DataType type = TRITONSERVER_TYPE_INVALID;
  std::vector<int64_t> shape;
  std::vector<unsigned char> bytes;
};

using ParameterValue = std::variant<std::string, int64_t, bool, double>;

struct RequestParameter {
  std::string name;
  ParameterValue value;
};

struct RequestContents {
  std::string id;
  std::vector<InputTensor> inputs;
  std::vector<RequestParameter> parameters;
  std::vector<std::string> requested_outputs;  // All of the model's if the client named none.
};

// Copies everything out of `request`.
Status ReadRequest(TRITONBACKEND_Request* request, RequestContents* contents);

// Sets `values` to the 1-D tensor `name`; leaves it empty if the request has no such input.
Status FindInt32Input(const RequestContents& contents, const std::string& name, std::vector<int32_t>* values);
Status FindFloatInput(const RequestContents& contents, const std::string& name, std::vector<float>* values);

}  // namespace naiad
