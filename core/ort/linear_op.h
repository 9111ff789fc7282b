// naiad::Linear for ONNX Runtime.
#pragma once

#include "kernels/linear.h"
#include "ort/attention_op.h"

namespace naiad {

class LinearOrtKernel {
 public:
  // Reads attributes, weights, bias and norm once: all are constants. Throws Ort::Exception.
  explicit LinearOrtKernel(const OrtKernelInfo* info);
  OrtStatusPtr ComputeV2(OrtKernelContext* context) noexcept;

 private:
  LinearWeights weights_;  // Points into the session's initialisers, which outlive its kernels.
  const LinearMath& math_;
};

struct LinearOp : Ort::CustomOpBase<LinearOp, LinearOrtKernel, /*WithStatus=*/true> {
  const char* GetName() const { return "Linear"; }
  size_t GetInputTypeCount() const { return 5; }
  ONNXTensorElementDataType GetInputType(size_t index) const {
    return index == 1 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
  }
  OrtCustomOpInputOutputCharacteristic GetInputCharacteristic(size_t index) const {
    return index >= 2 ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
  }
  size_t GetOutputTypeCount() const { return 1; }
  ONNXTensorElementDataType GetOutputType(size_t) const { return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT; }
  OrtStatusPtr CreateKernelV2(const OrtApi&, const OrtKernelInfo* info, void** kernel) const {
    // ONNX Runtime calls KernelDestroy.
    return CatchAsOrtStatus([&] { *kernel = new LinearOrtKernel(info); });
  }
};

}  // namespace naiad
