#include "kernels/attention_tasks.h"

#include <algorithm>
#include <array>
#include <string>

namespace naiad {
namespace {

// About this many rows a task: enough to share each key and value that comes from memory, few enough to spread.
constexpr int32_t kRowsPerTask = 32;

}  // namespace

Status CheckLayer(const AttentionLayer& layer) {
  if (layer.num_heads < 1 || layer.num_kv_heads < 1 || layer.num_heads % layer.num_kv_heads != 0) {
    return Status::InvalidArgument("num_heads is " + std::to_string(layer.num_heads) + " and kv_num_heads is " +
                                   std::to_string(layer.num_kv_heads) + "; the second must divide the first");
  }
  if (layer.head_size < 1) return Status::InvalidArgument("head_size must be at least 1");
  return Status::Ok();
}

Status CheckCuSeqlens(std::span<const int32_t> cu_seqlens, int64_t tokens) {
  if (cu_seqlens.empty() || cu_seqlens.front() != 0 || cu_seqlens.back() != tokens ||
      !std::is_sorted(cu_seqlens.begin(), cu_seqlens.end())) {
    return Status::InvalidArgument("cu_seqlens must rise from 0 to the number of tokens, " + std::to_string(tokens));
  }
  return Status::Ok();
}

Status CheckSize(const char* name, size_t actual, int64_t expected) {
  if (static_cast<int64_t>(actual) == expected) return Status::Ok();
  return Status::InvalidArgument(std::string(name) + " has " + std::to_string(actual) + " elements; expected " +
                                 std::to_string(expected));
}

std::vector<AttentionTask> CutIntoTasks(const AttentionLayer& layer, std::span<const int32_t> cu_seqlens) {
  const int32_t group = layer.num_heads / layer.num_kv_heads;
  const int32_t tokens_per_task = std::max(1, kRowsPerTask / group);
  std::vector<AttentionTask> tasks;
  for (size_t s = 0; s + 1 < cu_seqlens.size(); ++s) {
    for (int32_t first = cu_seqlens[s]; first < cu_seqlens[s + 1]; first += tokens_per_task) {
      const int32_t end = std::min(first + tokens_per_task, cu_seqlens[s + 1]);
      for (int32_t head = 0; head < layer.num_kv_heads; ++head) {
        tasks.push_back({static_cast<int32_t>(s), head, first, end});
      }
    }
  }
  return tasks;
}

void ForEachRowPass(const AttentionLayer& layer, std::span<const int32_t> cu_seqlens, const float* query, float* output,
                    const std::function<VisibleRange(int32_t sequence, int32_t token)>& range_of,
                    const std::function<void(const AttentionTask& task, std::span<const AttentionRow> rows)>& attend,
                    const ParallelFor& parallel_for) {
  const std::vector<AttentionTask> tasks = CutIntoTasks(layer, cu_seqlens);
  const int32_t group = layer.num_heads / layer.num_kv_heads;
  const int64_t token_stride = int64_t{layer.num_heads} * layer.head_size;
  parallel_for(tasks.size(), [&](size_t index) {
    const AttentionTask& task = tasks[index];
    std::array<AttentionRow, kMaxRowsPerPass> rows;
    size_t count = 0;
    for (int32_t token = task.first_token; token < task.end_token; ++token) {
      const VisibleRange range = range_of(task.sequence, token);
      for (int32_t g = 0; g < group; ++g) {
        const int64_t offset = token * token_stride + int64_t{task.kv_head * group + g} * layer.head_size;
        rows[count++] = {query + offset, output + offset, range.first, range.last};
        if (count == rows.size()) {
          attend(task, rows);
          count = 0;
        }
      }
    }
    if (count > 0) attend(task, std::span<const AttentionRow>(rows).first(count));
  });
}

}  // namespace naiad
