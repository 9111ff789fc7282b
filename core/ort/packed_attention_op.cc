#include "ort/packed_attention_op.h"

#include "kernels/packed_attention.h"

namespace naiad {
namespace {

enum Input { kQuery, kKey, kValue, kCuSeqlens };

}  // namespace

PackedAttentionOrtKernel::PackedAttentionOrtKernel(const OrtKernelInfo* info)
    : layer_(ReadAttentionLayer(Ort::ConstKernelInfo(info))), math_(AttentionMathForThisProcess()) {}

OrtStatusPtr PackedAttentionOrtKernel::ComputeV2(OrtKernelContext* raw_context) noexcept {
  return CatchAsOrtStatus([&] {
    const Ort::KernelContext context(raw_context);
    const std::vector<int64_t> query_shape = ShapeOf(context.GetInput(kQuery));
    CheckRank("query", query_shape, 2);

    PackedAttentionArgs args;
    args.layer = layer_;
    args.layer.head_size = HeadSizeOf(query_shape, layer_.num_heads);
    args.query = ElementsOf<float>(context.GetInput(kQuery));
    args.key = ElementsOf<float>(context.GetInput(kKey));
    args.value = ElementsOf<float>(context.GetInput(kValue));
    args.cu_seqlens = ElementsOf<int32_t>(context.GetInput(kCuSeqlens));
    Ort::UnownedValue output = context.GetOutput(0, query_shape);
    args.output = {output.GetTensorMutableData<float>(), args.query.size()};
    ThrowIfFailed(PackedAttention(args, math_, SessionThreads(raw_context)));
  });
}

OrtStatusPtr PackedAttentionOp::InferShapes(const OrtCustomOp*, OrtShapeInferContext* context) noexcept {
  CopyShape(context, kQuery, 0);
  return nullptr;
}

}  // namespace naiad
