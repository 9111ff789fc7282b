#include "kernels/packed_attention.h"

#include <algorithm>
#include <cstddef>

#include "kernels/attention_tasks.h"

namespace naiad {
namespace {

Status Check(const PackedAttentionArgs& args, int64_t tokens) {
  const AttentionLayer& layer = args.layer;
  if (Status s = CheckLayer(layer); !s.ok()) return s;
  if (Status s = CheckCuSeqlens(args.cu_seqlens, tokens); !s.ok()) return s;
  const int64_t kv_size = tokens * layer.num_kv_heads * layer.head_size;
  if (Status s = CheckSize("query", args.query.size(), tokens * layer.num_heads * layer.head_size); !s.ok()) return s;
  if (Status s = CheckSize("key", args.key.size(), kv_size); !s.ok()) return s;
  if (Status s = CheckSize("value", args.value.size(), kv_size); !s.ok()) return s;
  return CheckSize("output", args.output.size(), static_cast<int64_t>(args.query.size()));
}

}  // namespace

Status PackedAttention(const PackedAttentionArgs& args, const AttentionMath& math, const ParallelFor& parallel_for) {
  const int64_t tokens = args.cu_seqlens.empty() ? 0 : args.cu_seqlens.back();
  if (Status s = Check(args, tokens); !s.ok()) return s;

  const auto range_of = [&](int32_t sequence, int32_t token) {
    const int32_t length = args.cu_seqlens[sequence + 1] - args.cu_seqlens[sequence];
    const int32_t position = token - args.cu_seqlens[sequence];
    const int32_t window = args.layer.window_tokens;
    if (window < 0) return VisibleRange{0, length - 1};
    return VisibleRange{position - std::min(position, window), position + std::min(length - 1 - position, window)};
  };
  // Captures are few enough to need no memory of their own.
  const auto locate = [&](int32_t sequence, int32_t kv_head) -> LocateRows<float> {
    return [&args, sequence, kv_head](int32_t first_position, int32_t count, const float** keys, const float** values) {
      const int64_t stride = int64_t{args.layer.num_kv_heads} * args.layer.head_size;
      const int64_t token = int64_t{args.cu_seqlens[sequence]} + first_position;
      const int64_t offset = token * stride + int64_t{kv_head} * args.layer.head_size;
      for (int32_t i = 0; i < count; ++i) {
        keys[i] = args.key.data() + offset + i * stride;
        values[i] = args.value.data() + offset + i * stride;
      }
    };
  };
  Attend<float>(args.layer, math, args.cu_seqlens, args.query.data(), args.output.data(), range_of, locate,
                parallel_for);
  return Status::Ok();
}

}  // namespace naiad
