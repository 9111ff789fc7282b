// naiad::PagedAttention for ONNX Runtime.
#pragma once

#include "ort/attention_op.h"

namespace naiad {

// CacheElement: float, or uint8_t for 8-bit rows (kernels/quantised_row.h).
template <typename CacheElement>
class PagedAttentionOrtKernel {
 public:
  explicit PagedAttentionOrtKernel(const OrtKernelInfo* info);
  OrtStatusPtr ComputeV2(OrtKernelContext* context) noexcept;

 private:
  AttentionLayer layer_;
  const AttentionMath& math_;
};

OrtStatusPtr InferPagedAttentionShapes(const OrtCustomOp*, OrtShapeInferContext* context) noexcept;

// Registered once for each type of cache; ONNX Runtime takes the one that fits a node's inputs.
template <typename CacheElement>
struct PagedAttentionOp
    : Ort::CustomOpBase<PagedAttentionOp<CacheElement>, PagedAttentionOrtKernel<CacheElement>, /*WithStatus=*/true> {
  PagedAttentionOp() { this->InferOutputShapeFn = InferPagedAttentionShapes; }

  const char* GetName() const { return "PagedAttention"; }
  size_t GetInputTypeCount() const { return 10; }
  ONNXTensorElementDataType GetInputType(size_t index) const {
    if (index == 3 || index == 4) return kCacheType;
    return index < 3 || index > 7 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT : ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
  }
  OrtCustomOpInputOutputCharacteristic GetInputCharacteristic(size_t index) const {
    const bool is_optional = index == 1 || index == 2 || index > 7;  // key, value, cos, sin
    return is_optional ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
  }
  size_t GetOutputTypeCount() const { return 3; }
  ONNXTensorElementDataType GetOutputType(size_t index) const {
    return index == 0 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT : kCacheType;
  }
  OrtStatusPtr CreateKernelV2(const OrtApi&, const OrtKernelInfo* info, void** kernel) const {
    // ONNX Runtime calls KernelDestroy.
    return CatchAsOrtStatus([&] { *kernel = new PagedAttentionOrtKernel<CacheElement>(info); });
  }

 private:
  static constexpr ONNXTensorElementDataType kCacheType = Ort::TypeToTensorType<CacheElement>::type;
};

}  // namespace naiad
