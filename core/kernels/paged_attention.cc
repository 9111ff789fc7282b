#include "kernels/paged_attention.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>

#include "kernels/attention_tasks.h"
#include "kernels/rotary.h"

namespace naiad {
namespace {

// Copies smaller than this are not worth waking threads for.
constexpr int64_t kMinParallelCopyFloats = 65536;
constexpr int64_t kTokensPerCopyTask = 16;

template <typename Element>
bool IsPacked(const PagedAttentionArgs<Element>& args) {
  return args.key.empty() && args.value.empty();
}

int64_t QueryWidth(const AttentionLayer& layer) { return int64_t{layer.num_heads} * layer.head_size; }
int64_t KvWidth(const AttentionLayer& layer) { return int64_t{layer.num_kv_heads} * layer.head_size; }

template <typename Element>
Status CheckSizes(const PagedAttentionArgs<Element>& args, int64_t tokens) {
  const AttentionLayer& layer = args.layer;
  const int64_t kv_elements = tokens * KvWidth(layer);
  const int64_t query_elements = tokens * QueryWidth(layer);
  const int64_t packed_elements = query_elements + 2 * kv_elements;
  const int64_t sequences = static_cast<int64_t>(args.past_lens.size());
  const int64_t cache_size =
      int64_t{args.num_blocks} * args.block_tokens * layer.num_kv_heads * CacheRowElements<Element>(layer.head_size);
  if (args.block_tokens < 1) return Status::InvalidArgument("block_tokens must be at least 1");
  if (args.rotary_pairs < 0 || 2 * int64_t{args.rotary_pairs} > layer.head_size) {
    return Status::InvalidArgument("cos and sin are " + std::to_string(args.rotary_pairs) + " wide; a head has " +
                                   std::to_string(layer.head_size) + " elements");
  }
  if (IsPacked(args)) {
    if (Status s = CheckSize("query", args.query.size(), packed_elements); !s.ok()) return s;
  } else {
    if (Status s = CheckSize("query", args.query.size(), query_elements); !s.ok()) return s;
    if (Status s = CheckSize("key", args.key.size(), kv_elements); !s.ok()) return s;
    if (Status s = CheckSize("value", args.value.size(), kv_elements); !s.ok()) return s;
  }
  if (Status s = CheckSize("cos", args.cos.size(), tokens * args.rotary_pairs); !s.ok()) return s;
  if (Status s = CheckSize("sin", args.sin.size(), tokens * args.rotary_pairs); !s.ok()) return s;
  if (Status s = CheckSize("output", args.output.size(), query_elements); !s.ok()) return s;
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

// One operand of the call: the row of token t begins at data + t * stride.
struct Operand {
  const float* data = nullptr;
  ptrdiff_t stride = 0;
};

// What a call works on besides the cache, with all decisions taken about where it lies.
struct Operands {
  Operand query;
  Operand key;
  Operand value;
  float* ready_query =
      nullptr;                  // [T, num_heads * head_size] for turned and unpacked queries, or null if they are both.
  float* turned_key = nullptr;  // [T, num_kv_heads * head_size], or null if turned keys go to the cache as they are.
};

template <typename Element>
Operands Prepare(const PagedAttentionArgs<Element>& args, int64_t tokens, PagedAttentionScratch* scratch) {
  const int64_t query_width = QueryWidth(args.layer);
  const int64_t kv_width = KvWidth(args.layer);
  const int64_t width = query_width + 2 * kv_width;
  const float* const query = args.query.data();
  Operands operands{{query, query_width}, {args.key.data(), kv_width}, {args.value.data(), kv_width}};
  if (IsPacked(args))
    operands = {{query, width}, {query + query_width, width}, {query + query_width + kv_width, width}};
  if (!IsPacked(args) && args.rotary_pairs == 0) return operands;
  const bool rounds_keys = std::is_same_v<Element, uint8_t> && args.rotary_pairs > 0;
  const auto floats = static_cast<size_t>(tokens * (query_width + (rounds_keys ? kv_width : 0)));
  operands.ready_query = scratch->Reserve(floats);
  if (rounds_keys) operands.turned_key = operands.ready_query + tokens * query_width;
  return operands;
}

// One new token: its queries to where attention reads them, its keys and values to the cache.
template <typename Element>
class TokenWriter {
 public:
  TokenWriter(const PagedAttentionArgs<Element>& args, const Operands& operands, const AttentionMath& math)
      : args_(args), operands_(operands), math_(math) {}

  void Write(int32_t sequence, int32_t token) const {
    const AttentionLayer& layer = args_.layer;
    const float* const query = operands_.query.data + token * operands_.query.stride;
    const float* const key = operands_.key.data + token * operands_.key.stride;
    const float* const value = operands_.value.data + token * operands_.value.stride;
    if (operands_.ready_query != nullptr) {
      float* const to = operands_.ready_query + token * QueryWidth(layer);
      for (int32_t at = 0; at < QueryWidth(layer); at += layer.head_size) Turn(query + at, token, to + at);
    }
    const int32_t position =
        args_.past_lens[static_cast<size_t>(sequence)] + token - args_.cu_seqlens[static_cast<size_t>(sequence)];
    for (int32_t head = 0; head < layer.num_kv_heads; ++head) {
      const int32_t at = head * layer.head_size;
      const ptrdiff_t row = CacheOffset(args_, sequence, head, position);
      WriteKey(key + at, token, token * KvWidth(layer) + at, args_.key_cache.data() + row);
      WriteValue(value + at, args_.value_cache.data() + row);
    }
  }

 private:
  void Turn(const float* from, int32_t token, float* to) const {
    const ptrdiff_t angles = ptrdiff_t{token} * args_.rotary_pairs;
    RotateHead(from, args_.cos.data() + angles, args_.sin.data() + angles, args_.rotary_pairs, args_.layer.head_size,
               to);
  }

  void WriteKey(const float* from, int32_t token, ptrdiff_t, float* row) const { Turn(from, token, row); }
  void WriteKey(const float* from, int32_t token, ptrdiff_t turned_at, uint8_t* row) const {
    if (operands_.turned_key != nullptr) {
      Turn(from, token, operands_.turned_key + turned_at);
      from = operands_.turned_key + turned_at;
    }
    math_.quantise_row(from, args_.layer.head_size, row);
  }

  void WriteValue(const float* from, float* row) const { std::copy_n(from, args_.layer.head_size, row); }
  void WriteValue(const float* from, uint8_t* row) const { math_.quantise_row(from, args_.layer.head_size, row); }

  const PagedAttentionArgs<Element>& args_;
  const Operands& operands_;
  const AttentionMath& math_;
};

template <typename Element>
void WriteNewTokens(const PagedAttentionArgs<Element>& args, const Operands& operands, const AttentionMath& math,
                    const ParallelFor& parallel_for) {
  const TokenWriter<Element> writer(args, operands, math);
  const int64_t tokens = args.cu_seqlens.back();
  const auto write = [&](int64_t first, int64_t end) {
    // The last sequence that begins at or before `first` and is not empty.
    auto sequence =
        std::upper_bound(args.cu_seqlens.begin(), args.cu_seqlens.end(), first) - args.cu_seqlens.begin() - 1;
    for (int64_t token = first; token < end; ++token) {
      while (args.cu_seqlens[static_cast<size_t>(sequence) + 1] <= token) ++sequence;
      writer.Write(static_cast<int32_t>(sequence), static_cast<int32_t>(token));
    }
  };
  if (tokens * (QueryWidth(args.layer) + 2 * KvWidth(args.layer)) < kMinParallelCopyFloats) return write(0, tokens);
  parallel_for(static_cast<size_t>((tokens + kTokensPerCopyTask - 1) / kTokensPerCopyTask), [&](size_t task) {
    const int64_t first = static_cast<int64_t>(task) * kTokensPerCopyTask;
    write(first, std::min(first + kTokensPerCopyTask, tokens));
  });
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
Status Run(const PagedAttentionArgs<Element>& args, const AttentionMath& math, const ParallelFor& parallel_for,
           PagedAttentionScratch* scratch) {
  if (Status s = CheckLayer(args.layer); !s.ok()) return s;
  const int64_t tokens = args.cu_seqlens.empty() ? 0 : args.cu_seqlens.back();
  if (Status s = CheckSizes(args, tokens); !s.ok()) return s;
  if (Status s = CheckCuSeqlens(args.cu_seqlens, tokens); !s.ok()) return s;
  for (size_t i = 0; i < args.past_lens.size(); ++i) {
    if (Status s = CheckBlocks(args, i); !s.ok()) return s;
  }

  const Operands operands = Prepare(args, tokens, scratch);
  WriteNewTokens(args, operands, math, parallel_for);
  const float* const query = operands.ready_query == nullptr ? args.query.data() : operands.ready_query;

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
  Attend<Element>(args.layer, math, args.cu_seqlens, query, args.output.data(), range_of, locate, parallel_for);
  return Status::Ok();
}

}  // namespace

float* PagedAttentionScratch::Reserve(size_t floats) {
  constexpr size_t kLineBytes = 64;
  if (memory_.size() < floats + kLineBytes / sizeof(float)) memory_.resize(floats + kLineBytes / sizeof(float));
  void* at = memory_.data();
  size_t bytes = memory_.size() * sizeof(float);
  // Queries that straddle lines cost attention over 512 tokens a tenth of its time.
  return static_cast<float*>(std::align(kLineBytes, floats * sizeof(float), at, bytes));
}

Status PagedAttention(const PagedAttentionArgs<float>& args, const AttentionMath& math, const ParallelFor& parallel_for,
                      PagedAttentionScratch* scratch) {
  return Run(args, math, parallel_for, scratch);
}

Status PagedAttention(const PagedAttentionArgs<uint8_t>& args, const AttentionMath& math,
                      const ParallelFor& parallel_for, PagedAttentionScratch* scratch) {
  return Run(args, math, parallel_for, scratch);
}

}  // namespace naiad
