#include "kernels/paged_attention.h"

#include <algorithm>
#include <cstddef>
#include <string>

#include "kernels/attention_tasks.h"

namespace naiad {
namespace {

// Copies smaller than this are not worth waking threads for.
constexpr int64_t kMinParallelCopyFloats = 65536;

template <typename Element>
Status CheckSizes(const PagedAttentionArgs<Element>& args, int64_t tokens) {
  const AttentionLayer& layer = args.layer;
  const int64_t kv_width = int64_t{layer.num_kv_heads} * layer.head_size;
  const int64_t sequences = static_cast<int64_t>(args.past_lens.size());
  const int64_t cache_size =
      int64_t{args.num_blocks} * args.block_tokens * layer.num_kv_heads * CacheRowElements<Element>(layer.head_size);
  if (args.block_tokens < 1) return Status::InvalidArgument("block_tokens must be at least 1");
  if (Status s = CheckSize("query", args.query.size(), tokens * layer.num_heads * layer.head_size); !s.ok()) return s;
  if (Status s = CheckSize("key", args.key.size(), tokens * kv_width); !s.ok()) return s;
  if (Status s = CheckSize("value", args.value.size(), tokens * kv_width); !s.ok()) return s;
  if (Status s = CheckSize("output", args.output.size(), static_cast<int64_t>(args.query.size())); !s.ok()) return s;
  if (Status s = CheckSize("key_cache", args.key_cache.size(), cache_size); !s.ok()) return s;
  if (Status s = CheckSize("value_cache", args.value_cache.size(), cache_size); !s.ok()) return s;
  if (Status s = CheckSize("cu_seqlens", args.cu_seqlens.size(), sequences + 1); !s.ok()) return s;
  return CheckSize("block_table", args.block_table.size(), sequences * args.block_columns);
}

// Every block that sequence `s` reads or writes has to be in the pool.
template <typename Element>
Status CheckBlocks(const PagedAttentionArgs<Element>& args, size_t s) {
  const int64_t new_tokens = args.cu_seqlens[s + 1] - args.cu_seqlens[s];
  if (new_tokens == 0) return Status::Ok();
  const std::string sequence = "sequence " + std::to_string(s);
  if (args.past_lens[s] < 0) return Status::InvalidArgument("past_lens is negative for " + sequence);
  const int64_t blocks = (args.past_lens[s] + new_tokens + args.block_tokens - 1) / args.block_tokens;
  if (blocks > args.block_columns) {
    return Status::InvalidArgument("block_table has " + std::to_string(args.block_columns) + " columns; " + sequence +
                                   " needs " + std::to_string(blocks));
  }
  for (int32_t block :
       args.block_table.subspan(s * static_cast<size_t>(args.block_columns), static_cast<size_t>(blocks))) {
    if (block < 0 || block >= args.num_blocks) {
      return Status::InvalidArgument("block_table names block " + std::to_string(block) + " for " + sequence +
                                     "; the pool has " + std::to_string(args.num_blocks));
    }
  }
  return Status::Ok();
}

// Offset into the cache of the row of one position of one sequence's KV head.
template <typename Element>
ptrdiff_t CacheOffset(const PagedAttentionArgs<Element>& args, int32_t sequence, int32_t kv_head, int32_t position) {
  const int64_t column = position / args.block_tokens;
  const int64_t block = args.block_table[static_cast<size_t>(int64_t{sequence} * args.block_columns + column)];
  const int64_t slot = (block * args.layer.num_kv_heads + kv_head) * args.block_tokens + position % args.block_tokens;
  return slot * CacheRowElements<Element>(args.layer.head_size);
}

void WriteRow(const AttentionMath&, const float* from, int32_t head_size, float* row) {
  std::copy_n(from, head_size, row);
}
void WriteRow(const AttentionMath& math, const float* from, int32_t head_size, uint8_t* row) {
  math.quantise_row(from, head_size, row);
}

template <typename Element>
void WriteToken(const PagedAttentionArgs<Element>& args, const AttentionMath& math, int32_t sequence, int32_t token) {
  const int32_t head_size = args.layer.head_size;
  const int32_t position = args.past_lens[sequence] + token - args.cu_seqlens[sequence];
  for (int32_t head = 0; head < args.layer.num_kv_heads; ++head) {
    const ptrdiff_t from = (int64_t{token} * args.layer.num_kv_heads + head) * head_size;
    const ptrdiff_t to = CacheOffset(args, sequence, head, position);
    WriteRow(math, args.key.data() + from, head_size, args.key_cache.data() + to);
    WriteRow(math, args.value.data() + from, head_size, args.value_cache.data() + to);
  }
}

template <typename Element>
void WriteNewTokens(const PagedAttentionArgs<Element>& args, const AttentionMath& math,
                    const ParallelFor& parallel_for) {
  const bool parallel = static_cast<int64_t>(args.key.size()) >= kMinParallelCopyFloats;
  const auto write_sequence = [&](size_t s) {
    for (int32_t t = args.cu_seqlens[s]; t < args.cu_seqlens[s + 1]; ++t) {
      WriteToken(args, math, static_cast<int32_t>(s), t);
    }
  };
  (parallel ? parallel_for : ParallelFor(SerialFor))(args.past_lens.size(), write_sequence);
}

// See LocateRows.
template <typename Element>
void LocateInCache(const PagedAttentionArgs<Element>& args, int32_t sequence, int32_t kv_head, int32_t first_position,
                   int32_t count, const Element** keys, const Element** values) {
  const int32_t row = CacheRowElements<Element>(args.layer.head_size);
  for (int32_t i = 0; i < count;) {
    const ptrdiff_t offset = CacheOffset(args, sequence, kv_head, first_position + i);
    const Element* key = args.key_cache.data() + offset;
    const Element* value = args.value_cache.data() + offset;
    const int32_t in_block = (first_position + i) % args.block_tokens;
    const int32_t end = std::min(count, i + args.block_tokens - in_block);
    for (; i < end; ++i, key += row, value += row) {
      keys[i] = key;
      values[i] = value;
    }
  }
}

template <typename Element>
Status Run(const PagedAttentionArgs<Element>& args, const AttentionMath& math, const ParallelFor& parallel_for) {
  if (Status s = CheckLayer(args.layer); !s.ok()) return s;
  const int64_t tokens = args.cu_seqlens.empty() ? 0 : args.cu_seqlens.back();
  if (Status s = CheckSizes(args, tokens); !s.ok()) return s;
  if (Status s = CheckCuSeqlens(args.cu_seqlens, tokens); !s.ok()) return s;
  for (size_t i = 0; i < args.past_lens.size(); ++i) {
    if (Status s = CheckBlocks(args, i); !s.ok()) return s;
  }

  WriteNewTokens(args, math, parallel_for);

  const auto range_of = [&](int32_t sequence, int32_t token) {
    const int32_t position = args.past_lens[sequence] + token - args.cu_seqlens[sequence];
    const int32_t window = args.layer.window_tokens;
    return VisibleRange{window < 0 ? 0 : std::max(0, position - window + 1), position};
  };
  const auto locate = [&](int32_t sequence, int32_t kv_head) -> LocateRows<Element> {
    return [&args, sequence, kv_head](int32_t first_position, int32_t count, const Element** keys,
                                      const Element** values) {
      LocateInCache(args, sequence, kv_head, first_position, count, keys, values);
    };
  };
  Attend<Element>(args.layer, math, args.cu_seqlens, args.query.data(), args.output.data(), range_of, locate,
                  parallel_for);
  return Status::Ok();
}

}  // namespace

Status PagedAttention(const PagedAttentionArgs<float>& args, const AttentionMath& math,
                      const ParallelFor& parallel_for) {
  return Run(args, math, parallel_for);
}

Status PagedAttention(const PagedAttentionArgs<uint8_t>& args, const AttentionMath& math,
                      const ParallelFor& parallel_for) {
  return Run(args, math, parallel_for);
}

}  // namespace naiad
