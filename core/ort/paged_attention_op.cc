#include "ort/paged_attention_op.h"

#include <algorithm>

#include "kernels/paged_attention.h"

namespace naiad {
namespace {

enum Input { kQuery, kKey, kValue, kKeyCache, kValueCache, kCuSeqlens, kPastLens, kBlockTable };
enum Output { kOutput, kKeyCacheOut, kValueCacheOut };

// The output cache: the input's own memory if the caller bound it so, else a copy of the input.
std::span<float> OpenCache(const Ort::KernelContext& context, Input input, Output output,
                           const std::vector<int64_t>& shape) {
  const std::span<const float> from = ElementsOf<float>(context.GetInput(input));
  Ort::UnownedValue value = context.GetOutput(output, shape);
  float* const to = value.GetTensorMutableData<float>();
  if (to != from.data()) std::copy(from.begin(), from.end(), to);
  return {to, from.size()};
}

}  // namespace

PagedAttentionOrtKernel::PagedAttentionOrtKernel(const OrtKernelInfo* info)
    : layer_(ReadAttentionLayer(Ort::ConstKernelInfo(info))), math_(AttentionMathForThisProcess()) {
  layer_.softcap = Ort::ConstKernelInfo(info).GetAttribute<float>("softcap");
  if (!(layer_.softcap >= 0.0F)) throw Ort::Exception("softcap must be 0 or more", ORT_INVALID_GRAPH);
  if (layer_.window_tokens == 0) throw Ort::Exception("local_window_size must be -1 or at least 1", ORT_INVALID_GRAPH);
}

OrtStatusPtr PagedAttentionOrtKernel::ComputeV2(OrtKernelContext* raw_context) noexcept {
  return CatchAsOrtStatus([&] {
    const Ort::KernelContext context(raw_context);
    const std::vector<int64_t> query_shape = ShapeOf(context.GetInput(kQuery));
    const std::vector<int64_t> cache_shape = ShapeOf(context.GetInput(kKeyCache));
    const std::vector<int64_t> table_shape = ShapeOf(context.GetInput(kBlockTable));
    CheckRank("query", query_shape, 2);
    CheckRank("key_cache", cache_shape, 4);
    CheckRank("block_table", table_shape, 2);

    PagedAttentionArgs args;
    args.layer = layer_;
    args.layer.head_size = HeadSizeOf(query_shape, layer_.num_heads);
    if (cache_shape[1] != layer_.num_kv_heads || cache_shape[3] != args.layer.head_size ||
        cache_shape != ShapeOf(context.GetInput(kValueCache))) {
      throw Ort::Exception("key_cache and value_cache must have shape [blocks, kv_num_heads, block, head_size]",
                           ORT_INVALID_ARGUMENT);
    }
    args.num_blocks = static_cast<int32_t>(cache_shape[0]);
    args.block_tokens = static_cast<int32_t>(cache_shape[2]);
    args.block_columns = static_cast<int32_t>(table_shape[1]);
    args.query = ElementsOf<float>(context.GetInput(kQuery));
    args.key = ElementsOf<float>(context.GetInput(kKey));
    args.value = ElementsOf<float>(context.GetInput(kValue));
    args.cu_seqlens = ElementsOf<int32_t>(context.GetInput(kCuSeqlens));
    args.past_lens = ElementsOf<int32_t>(context.GetInput(kPastLens));
    args.block_table = ElementsOf<int32_t>(context.GetInput(kBlockTable));
    args.key_cache = OpenCache(context, kKeyCache, kKeyCacheOut, cache_shape);
    args.value_cache = OpenCache(context, kValueCache, kValueCacheOut, cache_shape);
    Ort::UnownedValue output = context.GetOutput(kOutput, query_shape);
    args.output = {output.GetTensorMutableData<float>(), args.query.size()};
    ThrowIfFailed(PagedAttention(args, math_, SessionThreads(raw_context)));
  });
}

OrtStatusPtr PagedAttentionOp::InferShapes(const OrtCustomOp*, OrtShapeInferContext* context) noexcept {
  CopyShape(context, kQuery, kOutput);
  CopyShape(context, kKeyCache, kKeyCacheOut);
  CopyShape(context, kValueCache, kValueCacheOut);
  return nullptr;
}

}  // namespace naiad
