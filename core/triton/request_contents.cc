#include "triton/request_contents.h"

#include <cstring>

#include "triton/status_codes.h"

namespace naiad {
namespace {

Status ReadInput(TRITONBACKEND_Input* handle, InputTensor* input) {
  const char* name = nullptr;
  const int64_t* shape = nullptr;
  uint32_t dims_count = 0;
  uint64_t byte_size = 0;
  uint32_t buffer_count = 0;
  Status status = TakeTritonError(
      TRITONBACKEND_InputProperties(handle, &name, &input->type, &shape, &dims_count, &byte_size, &buffer_count));
  if (!status.ok()) return status;
  input->name = name;
  input->shape.assign(shape, shape + dims_count);
  input->bytes.reserve(byte_size);
  for (uint32_t index = 0; index < buffer_count; ++index) {
    const void* buffer = nullptr;
    uint64_t buffer_bytes = 0;
    TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
    int64_t memory_id = 0;
    status = TakeTritonError(TRITONBACKEND_InputBuffer(handle, index, &buffer, &buffer_bytes, &memory, &memory_id));
    if (!status.ok()) return status;
    if (memory == TRITONSERVER_MEMORY_GPU) return Status::InvalidArgument(input->name + " must not be in GPU memory");
    const auto* bytes = static_cast<const unsigned char*>(buffer);
    input->bytes.insert(input->bytes.end(), bytes, bytes + buffer_bytes);
  }
  return Status::Ok();
}

Status ReadInputs(TRITONBACKEND_Request* request, RequestContents* contents) {
  uint32_t count = 0;
  if (Status status = TakeTritonError(TRITONBACKEND_RequestInputCount(request, &count)); !status.ok()) return status;
  contents->inputs.resize(count);
  for (uint32_t index = 0; index < count; ++index) {
    TRITONBACKEND_Input* handle = nullptr;
    Status status = TakeTritonError(TRITONBACKEND_RequestInputByIndex(request, index, &handle));
    if (status.ok()) status = ReadInput(handle, &contents->inputs[index]);
    if (!status.ok()) return status;
  }
  return Status::Ok();
}

Status ReadParameters(TRITONBACKEND_Request* request, RequestContents* contents) {
  uint32_t count = 0;
  if (Status status = TakeTritonError(TRITONBACKEND_RequestParameterCount(request, &count)); !status.ok())
    return status;
  for (uint32_t index = 0; index < count; ++index) {
    const char* name = nullptr;
    const void* value = nullptr;
    TRITONSERVER_ParameterType type = TRITONSERVER_PARAMETER_STRING;
    Status status = TakeTritonError(TRITONBACKEND_RequestParameter(request, index, &name, &type, &value));
    if (!status.ok()) return status;
    switch (type) {
      case TRITONSERVER_PARAMETER_STRING:
        contents->parameters.push_back({name, std::string(static_cast<const char*>(value))});
        break;
      case TRITONSERVER_PARAMETER_INT:
        contents->parameters.push_back({name, *static_cast<const int64_t*>(value)});
        break;
      case TRITONSERVER_PARAMETER_BOOL:
        contents->parameters.push_back({name, *static_cast<const bool*>(value)});
        break;
      case TRITONSERVER_PARAMETER_DOUBLE:
        contents->parameters.push_back({name, *static_cast<const double*>(value)});
        break;
      case TRITONSERVER_PARAMETER_BYTES:
        return Status::InvalidArgument(std::string(name) + " must not be a parameter of bytes");
    }
  }
  return Status::Ok();
}

Status ReadRequestedOutputs(TRITONBACKEND_Request* request, RequestContents* contents) {
  uint32_t count = 0;
  if (Status status = TakeTritonError(TRITONBACKEND_RequestOutputCount(request, &count)); !status.ok()) return status;
  for (uint32_t index = 0; index < count; ++index) {
    const char* name = nullptr;
    Status status = TakeTritonError(TRITONBACKEND_RequestOutputName(request, index, &name));
    if (!status.ok()) return status;
    contents->requested_outputs.emplace_back(name);
  }
  return Status::Ok();
}

template <typename Number>
Status FindInput(const RequestContents& contents, const std::string& name, TRITONSERVER_DataType type,
                 std::vector<Number>* values) {
  values->clear();
  for (const InputTensor& input : contents.inputs) {
    if (input.name != name) continue;
    if (input.type != type) {
      return Status::InvalidArgument(name + " must be " + TRITONSERVER_DataTypeString(type));
    }
    if (input.shape.size() != 1) return Status::InvalidArgument(name + " must have one dimension");
    const auto count = static_cast<uint64_t>(input.shape[0]);
    // Divided, not multiplied: the shape is the client's, and 2^62 times 4 is 0.
    if (input.shape[0] < 0 || input.bytes.size() % sizeof(Number) != 0 ||
        count != input.bytes.size() / sizeof(Number)) {
      return Status::InvalidArgument(name + " has " + std::to_string(input.bytes.size()) +
                                     " bytes, which do not make " + std::to_string(input.shape[0]) + " values");
    }
    values->resize(count);
    if (count > 0) std::memcpy(values->data(), input.bytes.data(), input.bytes.size());
  }
  return Status::Ok();
}

}  // namespace

Status ReadRequest(TRITONBACKEND_Request* request, RequestContents* contents) {
  const char* id = nullptr;
  if (Status status = TakeTritonError(TRITONBACKEND_RequestId(request, &id)); !status.ok()) return status;
  contents->id = id;
  if (Status status = ReadInputs(request, contents); !status.ok()) return status;
  if (Status status = ReadParameters(request, contents); !status.ok()) return status;
  return ReadRequestedOutputs(request, contents);
}

Status FindInt32Input(const RequestContents& contents, const std::string& name, std::vector<int32_t>* values) {
  return FindInput(contents, name, TRITONSERVER_TYPE_INT32, values);
}

Status FindFloatInput(const RequestContents& contents, const std::string& name, std::vector<float>* values) {
  return FindInput(contents, name, TRITONSERVER_TYPE_FP32, values);
}

}  // namespace naiad
