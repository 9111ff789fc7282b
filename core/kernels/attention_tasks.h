// What paged and packed attention share around the rows: checks of packed lengths, and the cut of a step into tasks.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/status.h"
#include "kernels/attention_rows.h"
#include "kernels/parallel_for.h"

namespace naiad {

// kInvalidArgument unless the head counts are positive and divide, and head_size is positive.
Status CheckLayer(const AttentionLayer& layer);

// kInvalidArgument unless cu_seqlens rises from 0 to `tokens` without a step down.
Status CheckCuSeqlens(std::span<const int32_t> cu_seqlens, int64_t tokens);

// kInvalidArgument naming `name` unless actual == expected.
Status CheckSize(const char* name, size_t actual, int64_t expected);

// Positions that a token sees, both ends included.
struct VisibleRange {
  int32_t first = 0;
  int32_t last = 0;
};
using RangeOfToken = std::function<VisibleRange(int32_t sequence, int32_t token)>;

// One KV head and a few tokens of one sequence, with all chunks that they see or some of them.
struct AttentionItem {
  int32_t sequence = 0;
  int32_t kv_head = 0;
  int32_t first_token = 0;  // Packed rows first_token .. end_token-1.
  int32_t end_token = 0;
  int32_t first_chunk = 0;
  int32_t end_chunk = 0;
  int32_t split = -1;  // Index into AttentionPlan::splits; -1 = all chunks are here.
  int64_t cost = 0;    // Query rows times positions, about.
};

// How a step is cut. A task is a run of items; costly items are split by chunks, when there are few.
struct AttentionPlan {
  struct Split {
    AttentionItem whole;
    int64_t first_part = 0;  // Of its parts: for each chunk, for each row.
  };
  std::vector<AttentionItem> wholes;  // Before splits.
  std::vector<AttentionItem> items;
  std::vector<int32_t> task_ends;  // Task t has the items from the end of the task before to task_ends[t].
  std::vector<Split> splits;
  int64_t num_parts = 0;  // Of all splits.
};

// Fills `plan`, whose memory it reuses. The cut never changes what a row's bits are.
void PlanAttention(const AttentionLayer& layer, std::span<const int32_t> cu_seqlens, const RangeOfToken& range_of,
                   AttentionPlan* plan);

// Runs one layer: `range_of` tells what the packed row `token` sees, and `locate(sequence, kv_head)` where keys and
// values are.
template <typename Element>
void Attend(const AttentionLayer& layer, const AttentionMath& math, std::span<const int32_t> cu_seqlens,
            const float* query, float* output, const RangeOfToken& range_of,
            const std::function<LocateRows<Element>(int32_t sequence, int32_t kv_head)>& locate,
            const ParallelFor& parallel_for);

}  // namespace naiad
