#include "ort/paged_attention_op.h"

#include <algorithm>
#include <string>

#include "kernels/paged_attention.h"

namespace naiad {
namespace {

enum Input { kQuery, kKey, kValue, kKeyCache, kValueCache, kCuSeqlens, kPastLens, kBlockTable, kCos, kSin };
enum Output { kOutput, kKeyCacheOut, kValueCacheOut };

// The output cache: the input's own memory if the caller bound it so, else a copy of the input.
template <typename CacheElement>
std::span<CacheElement> OpenCache(const Ort::KernelContext& context, Input input, Output output,
                                  const std::vector<int64_t>& shape) {
  const std::span<const CacheElement> from = ElementsOf<CacheElement>(context.GetInput(input));
  Ort::UnownedValue value = context.GetOutput(output, shape);
  CacheElement* const to = value.GetTensorMutableData<CacheElement>();
  if (to != from.data()) std::copy(from.begin(), from.end(), to);
  return {to, from.size()};
}

bool IsGiven(const Ort::KernelContext& context, Input input) {
  return context.GetInputCount() > input && context.GetInput(input) != nullptr;
}

// Of an input that the node may lack: empty then.
std::span<const float> OptionalElements(const Ort::KernelContext& context, Input input) {
  return IsGiven(context, input) ? ElementsOf<float>(context.GetInput(input)) : std::span<const float>();
}

// Of each head, as the width of `cos` tells.
int32_t RotaryPairs(const Ort::KernelContext& context) {
  if (!IsGiven(context, kCos)) return 0;
  const std::vector<int64_t> shape = ShapeOf(context.GetInput(kCos));
  const int64_t width = shape.empty() ? 0 : shape.back();
  return static_cast<int32_t>(std::min<int64_t>(width, INT32_MAX));
}

// Shared by the layers that a thread runs, one after the other; several sessions may run the same kernel at once.
PagedAttentionScratch& ScratchOfThisThread() {
  static thread_local PagedAttentionScratch scratch;
  return scratch;
}

}  // namespace

template <typename CacheElement>
PagedAttentionOrtKernel<CacheElement>::PagedAttentionOrtKernel(const OrtKernelInfo* info)
    : layer_(ReadAttentionLayer(Ort::ConstKernelInfo(info))), math_(AttentionMathForThisProcess()) {
  layer_.softcap = Ort::ConstKernelInfo(info).GetAttribute<float>("softcap");
  if (!(layer_.softcap >= 0.0F)) throw Ort::Exception("softcap must be 0 or more", ORT_INVALID_GRAPH);
  if (layer_.window_tokens == 0) throw Ort::Exception("local_window_size must be -1 or at least 1", ORT_INVALID_GRAPH);
}

template <typename CacheElement>
OrtStatusPtr PagedAttentionOrtKernel<CacheElement>::ComputeV2(OrtKernelContext* raw_context) noexcept {
  return CatchAsOrtStatus([&] {
    const Ort::KernelContext context(raw_context);
    std::vector<int64_t> shape = ShapeOf(context.GetInput(kQuery));
    const std::vector<int64_t> cache_shape = ShapeOf(context.GetInput(kKeyCache));
    const std::vector<int64_t> table_shape = ShapeOf(context.GetInput(kBlockTable));
    if (shape.size() != 3) CheckRank("query", shape, 2);
    CheckRank("key_cache", cache_shape, 4);
    CheckRank("block_table", table_shape, 2);

    PagedAttentionArgs<CacheElement> args;
    args.layer = layer_;
    args.query = ElementsOf<float>(context.GetInput(kQuery));
    args.key = OptionalElements(context, kKey);
    args.value = OptionalElements(context, kValue);
    const bool is_packed = !IsGiven(context, kKey) && !IsGiven(context, kValue);
    args.layer.head_size = HeadSizeOf(shape, layer_.num_heads + (is_packed ? 2 * layer_.num_kv_heads : 0));
    const int32_t row_elements = CacheRowElements<CacheElement>(args.layer.head_size);
    if (cache_shape[1] != layer_.num_kv_heads || cache_shape[3] != row_elements ||
        cache_shape != ShapeOf(context.GetInput(kValueCache))) {
      throw Ort::Exception("key_cache and value_cache must have shape [blocks, kv_num_heads, block, " +
                               std::to_string(row_elements) + "]",
                           ORT_INVALID_ARGUMENT);
    }
    args.num_blocks = static_cast<int32_t>(cache_shape[0]);
    args.block_tokens = static_cast<int32_t>(cache_shape[2]);
    args.block_columns = static_cast<int32_t>(table_shape[1]);
    args.cu_seqlens = ElementsOf<int32_t>(context.GetInput(kCuSeqlens));
    args.past_lens = ElementsOf<int32_t>(context.GetInput(kPastLens));
    args.block_table = ElementsOf<int32_t>(context.GetInput(kBlockTable));
    args.key_cache = OpenCache<CacheElement>(context, kKeyCache, kKeyCacheOut, cache_shape);
    args.value_cache = OpenCache<CacheElement>(context, kValueCache, kValueCacheOut, cache_shape);
    args.rotary_pairs = RotaryPairs(context);
    args.cos = OptionalElements(context, kCos);
    args.sin = OptionalElements(context, kSin);
    const size_t tokens = args.query.size() / static_cast<size_t>(shape.back());
    shape.back() = int64_t{layer_.num_heads} * args.layer.head_size;
    Ort::UnownedValue output = context.GetOutput(kOutput, shape);
    args.output = {output.GetTensorMutableData<float>(), tokens * static_cast<size_t>(shape.back())};
    ThrowIfFailed(PagedAttention(args, math_, SessionThreads(raw_context), &ScratchOfThisThread()));
  });
}

template class PagedAttentionOrtKernel<float>;
template class PagedAttentionOrtKernel<uint8_t>;

OrtStatusPtr InferPagedAttentionShapes(const OrtCustomOp*, OrtShapeInferContext* context) noexcept {
  // A query that holds keys and values too is wider than the output.
  if (HasKnownShape(context, kKey)) CopyShape(context, kQuery, kOutput);
  CopyShape(context, kKeyCache, kKeyCacheOut);
  CopyShape(context, kValueCache, kValueCacheOut);
  return nullptr;
}

}  // namespace naiad
