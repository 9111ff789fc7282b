// Causal attention over a paged KV cache: the kernel behind naiad::PagedAttention.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "engine/status.h"
#include "kernels/attention_math.h"
#include "kernels/attention_rows.h"
#include "kernels/parallel_for.h"
#include "kernels/quantised_row.h"

namespace naiad {

// Elements of one row of the cache.
template <typename CacheElement>
constexpr int32_t CacheRowElements(int32_t head_size) {
  static_assert(std::is_same_v<CacheElement, float> || std::is_same_v<CacheElement, uint8_t>);
  return std::is_same_v<CacheElement, float> ? head_size : head_size + kRowScaleBytes;
}

// One layer's step: T packed tokens of S sequences, M block columns, B blocks of `block_tokens` positions.
// layer.window_tokens: a token sees itself and the window_tokens-1 before it; -1 = all before it.
// CacheElement: float, with rows of head_size floats; or uint8_t, with 8-bit rows (quantised_row.h).
// With key and value empty, `query` holds all three: each token's queries, then its keys, then its values.
template <typename CacheElement>
struct PagedAttentionArgs {
  AttentionLayer layer;
  std::span<const float> query;       // [T, num_heads * head_size], or [T, (num_heads + 2 * num_kv_heads) * head_size]
  std::span<const float> key;         // [T, num_kv_heads * head_size], or empty
  std::span<const float> value;       // [T, num_kv_heads * head_size], or empty
  std::span<CacheElement> key_cache;  // [B, num_kv_heads, block_tokens, CacheRowElements]
  std::span<CacheElement> value_cache;   // [B, num_kv_heads, block_tokens, CacheRowElements]
  std::span<const int32_t> cu_seqlens;   // [S+1]
  std::span<const int32_t> past_lens;    // [S]
  std::span<const int32_t> block_table;  // [S, M]
  int32_t block_columns = 0;             // M
  int32_t num_blocks = 0;                // B
  int32_t block_tokens = 0;
  std::span<float> output;   // [T, num_heads * head_size]; overlaps no input
  int32_t rotary_pairs = 0;  // Of each query and key head, turned by the token's angles first (rotary.h); 0 = none.
  std::span<const float> cos = {};  // [T, rotary_pairs]
  std::span<const float> sin = {};  // [T, rotary_pairs]
};

// Memory that calls leave behind for the next one, so that in the long run none allocates. One call at a time.
class PagedAttentionScratch {
 public:
  // Room for `floats` floats with unspecified content, from the start of a cache line on.
  float* Reserve(size_t floats);

 private:
  std::vector<float> memory_;
};

// Turns queries and keys if there are angles, writes the new keys and values into the cache, then lets token i of
// sequence s attend to positions 0 .. past_lens[s] + i. kInvalidArgument, with nothing written, if the lengths do not
// fit together or a block that is needed is not in the pool. No two sequences may write to the same block.
Status PagedAttention(const PagedAttentionArgs<float>& args, const AttentionMath& math, const ParallelFor& parallel_for,
                      PagedAttentionScratch* scratch);
Status PagedAttention(const PagedAttentionArgs<uint8_t>& args, const AttentionMath& math,
                      const ParallelFor& parallel_for, PagedAttentionScratch* scratch);

}  // namespace naiad
