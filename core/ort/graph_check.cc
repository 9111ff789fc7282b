#include "ort/graph_check.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace naiad {
namespace {

std::string TypeName(ONNXTensorElementDataType type) {
  switch (type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
      return "float";
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16:
      return "float16";
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16:
      return "bfloat16";
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8:
      return "uint8";
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32:
      return "int32";
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64:
      return "int64";
    default:
      return "ONNX type " + std::to_string(static_cast<int>(type));
  }
}

std::string ShapeText(const std::vector<int64_t>& dims) {
  std::string text = "[";
  for (size_t i = 0; i < dims.size(); ++i) {
    text += (i == 0 ? "" : ", ") + (dims[i] < 0 ? std::string("?") : std::to_string(dims[i]));
  }
  return text + "]";
}

bool ShapeFits(const std::vector<int64_t>& actual, const std::vector<int64_t>& expected, bool may_be_unknown) {
  if (actual.empty() && may_be_unknown) return true;
  return std::equal(actual.begin(), actual.end(), expected.begin(), expected.end(),
                    [](int64_t a, int64_t e) { return a < 0 || e == kAnySize || a == e; });
}

TensorSpec ReadSpec(std::string name, const Ort::TypeInfo& info) {
  TensorSpec spec;
  spec.name = std::move(name);
  if (info.GetONNXType() != ONNX_TYPE_TENSOR) return spec;
  const Ort::ConstTensorTypeAndShapeInfo tensor = info.GetTensorTypeAndShapeInfo();
  spec.type = tensor.GetElementType();
  spec.dims = tensor.GetShape();
  return spec;
}

// `kind` is "input" or "output". Only of outputs may the graph not know the shape.
Status Compare(const std::string& graph_path, const std::string& kind, const std::vector<TensorSpec>& actual,
               const std::vector<TensorSpec>& expected) {
  const auto fail = [&](const std::string& what) {
    return Status::InvalidArgument(graph_path + ": " + kind + " " + what);
  };
  const auto find = [](const std::vector<TensorSpec>& specs, std::string_view name) {
    return std::find_if(specs.begin(), specs.end(), [&](const TensorSpec& spec) { return spec.name == name; });
  };
  for (const TensorSpec& want : expected) {
    const auto have = find(actual, want.name);
    if (have == actual.end()) return fail(want.name + " is missing");
    if (have->type != want.type) {
      return fail(want.name + " has type " + TypeName(have->type) + "; expected " + TypeName(want.type));
    }
    if (!ShapeFits(have->dims, want.dims, kind == "output")) {
      return fail(want.name + " has shape " + ShapeText(have->dims) + "; expected " + ShapeText(want.dims));
    }
  }
  for (const TensorSpec& have : actual) {
    if (find(expected, have.name) == expected.end()) return fail(have.name + " is not known");
  }
  return Status::Ok();
}

}  // namespace

Status CheckGraph(const std::string& graph_path, const Ort::Session& session, const std::vector<TensorSpec>& inputs,
                  const std::vector<TensorSpec>& outputs) {
  const Ort::AllocatorWithDefaultOptions allocator;
  std::vector<TensorSpec> actual;
  for (size_t i = 0; i < session.GetInputCount(); ++i) {
    actual.push_back(ReadSpec(session.GetInputNameAllocated(i, allocator).get(), session.GetInputTypeInfo(i)));
  }
  if (Status status = Compare(graph_path, "input", actual, inputs); !status.ok()) return status;
  actual.clear();
  for (size_t i = 0; i < session.GetOutputCount(); ++i) {
    actual.push_back(ReadSpec(session.GetOutputNameAllocated(i, allocator).get(), session.GetOutputTypeInfo(i)));
  }
  return Compare(graph_path, "output", actual, outputs);
}

}  // namespace naiad
