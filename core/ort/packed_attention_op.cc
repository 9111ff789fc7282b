#include "ort/packed_attention_op.h"

#include "kernels/packed_attention.h"

namespace naiad {
namespace {

enum Input { kQuery, kKey, kValue, kCuSeqlens };

}  // namespace

PackedAttentionOrtKernel::PackedAttentionOrtKernel(const OrtKernelInfo* info)
    : layer_(ReadAttentionLayer(Ort::ConstKernelInfo(info))),
      math_(PackedAttentionMathFor(SimdLevelForThisProcess())),
      window_math_(AttentionMathFor(SimdLevelForThisProcess())) {}

OrtStatusPtr PackedAttentionOrtKernel::ComputeV2(OrtKernelContext* raw_context) noexcept {
  return CatchAsOrtStatus([&] {
    const Ort::KernelContext context(raw_context);
    std::vector<int64_t> shape = ShapeOf(context.GetInput(kQuery));
    if (shape.size() != 3 || shape.front() != 1) CheckRank("query", shape, 2);
    const Ort::ConstValue key = context.GetInput(kKey);
    const Ort::ConstValue value = context.GetInput(kValue);

    PackedAttentionArgs args;
    args.layer = layer_;
    args.query = ElementsOf<float>(context.GetInput(kQuery));
    if (key != nullptr && value != nullptr) {
      args.key = ElementsOf<float>(key);
      args.value = ElementsOf<float>(value);
      args.layer.head_size = HeadSizeOf(shape, layer_.num_heads);
    } else {
      args.layer.head_size = HeadSizeOf(shape, layer_.num_heads + 2 * layer_.num_kv_heads);
      shape.back() = int64_t{layer_.num_heads} * args.layer.head_size;
    }
    args.cu_seqlens = ElementsOf<int32_t>(context.GetInput(kCuSeqlens));
    Ort::UnownedValue output = context.GetOutput(0, shape);
    args.output = {output.GetTensorMutableData<float>(), output.GetTensorTypeAndShapeInfo().GetElementCount()};
    ThrowIfFailed(PackedAttention(args, math_, window_math_, SessionThreads(raw_context)));
  });
}

OrtStatusPtr PackedAttentionOp::InferShapes(const OrtCustomOp*, OrtShapeInferContext* context) noexcept {
  // Without keys the output is narrower than the query, and its shape stays open.
  if (HasKnownShape(context, kKey)) CopyShape(context, kQuery, 0);
  return nullptr;
}

}  // namespace naiad
