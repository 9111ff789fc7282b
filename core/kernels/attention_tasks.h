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

// One KV head and a few tokens of one sequence.
struct AttentionTask {
  int32_t sequence = 0;
  int32_t kv_head = 0;
  int32_t first_token = 0;  // Packed rows first_token .. end_token-1.
  int32_t end_token = 0;
};

// kInvalidArgument unless the head counts are positive and divide, and head_size is positive.
Status CheckLayer(const AttentionLayer& layer);

// kInvalidArgument unless cu_seqlens rises from 0 to `tokens` without a step down.
Status CheckCuSeqlens(std::span<const int32_t> cu_seqlens, int64_t tokens);

// kInvalidArgument naming `name` unless actual == expected.
Status CheckSize(const char* name, size_t actual, int64_t expected);

std::vector<AttentionTask> CutIntoTasks(const AttentionLayer& layer, std::span<const int32_t> cu_seqlens);

// Positions that a token sees, both ends included.
struct VisibleRange {
  int32_t first = 0;
  int32_t last = 0;
};

// Runs the tasks of one layer. `range_of(sequence, token)` tells what the packed row `token` sees; `attend(task, rows)`
// computes at most kMaxRowsPerPass rows, which all read task.kv_head of task.sequence.
void ForEachRowPass(const AttentionLayer& layer, std::span<const int32_t> cu_seqlens, const float* query, float* output,
                    const std::function<VisibleRange(int32_t sequence, int32_t token)>& range_of,
                    const std::function<void(const AttentionTask& task, std::span<const AttentionRow> rows)>& attend,
                    const ParallelFor& parallel_for);

}  // namespace naiad
