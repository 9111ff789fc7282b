// naiad::PackedAttention for ONNX Runtime.
#pragma once

#include "kernels/packed_attention.h"
#include "ort/attention_op.h"

namespace naiad {

class PackedAttentionOrtKernel {
 public:
  explicit PackedAttentionOrtKernel(const OrtKernelInfo* info);
  OrtStatusPtr ComputeV2(OrtKernelContext* context) noexcept;

 private:
  AttentionLayer layer_;
  const PackedAttentionMath& math_;
  const AttentionMath& window_math_;
};

struct PackedAttentionOp : Ort::CustomOpBase<PackedAttentionOp, PackedAttentionOrtKernel, /*WithStatus=*/true> {
  PackedAttentionOp() { InferOutputShapeFn = InferShapes; }
  static OrtStatusPtr InferShapes(const OrtCustomOp*, OrtShapeInferContext* context) noexcept;

  const char* GetName() const { return "PackedAttention"; }
  size_t GetInputTypeCount() const { return 4; }
  ONNXTensorElementDataType GetInputType(size_t index) const {
    return index < 3 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT : ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
  }
  OrtCustomOpInputOutputCharacteristic GetInputCharacteristic(size_t index) const {
    return index == 1 || index == 2 ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
  }
  size_t GetOutputTypeCount() const { return 1; }
  ONNXTensorElementDataType GetOutputType(size_t) const { return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT; }
  OrtStatusPtr CreateKernelV2(const OrtApi&, const OrtKernelInfo* info, void** kernel) const {
    return CatchAsOrtStatus(
        [&] { *kernel = new PackedAttentionOrtKernel(info); });  // ONNX Runtime calls KernelDestroy.
  }
};

}  // namespace naiad
