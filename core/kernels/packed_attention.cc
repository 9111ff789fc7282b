#include "kernels/packed_attention.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <vector>

#include "kernels/attention_tasks.h"

namespace naiad {
namespace {

// Rows that share transposed keys; longer texts are cut, so that several threads can work on one.
constexpr int32_t kRowsPerItem = 192;
// A task is worth having if it multiplies about this often, some microseconds; and there need not be more of them than
// keep many threads busy to the end.
constexpr int64_t kMinTaskProducts = 500'000;
constexpr int64_t kMaxTasks = 64;

int64_t KvWidth(const AttentionLayer& layer) { return int64_t{layer.num_kv_heads} * layer.head_size; }
int64_t QueryWidth(const AttentionLayer& layer) { return int64_t{layer.num_heads} * layer.head_size; }

Status Check(const PackedAttentionArgs& args, int64_t tokens) {
  const AttentionLayer& layer = args.layer;
  if (Status s = CheckLayer(layer); !s.ok()) return s;
  if (Status s = CheckCuSeqlens(args.cu_seqlens, tokens); !s.ok()) return s;
  const int64_t kv_size = tokens * KvWidth(layer);
  const int64_t query_size = tokens * QueryWidth(layer);
  if (args.key.empty() && args.value.empty()) {
    if (layer.window_tokens >= 0) return Status::InvalidArgument("a layer with a window needs keys and values apart");
    if (Status s = CheckSize("query", args.query.size(), query_size + 2 * kv_size); !s.ok()) return s;
  } else {
    if (Status s = CheckSize("query", args.query.size(), query_size); !s.ok()) return s;
    if (Status s = CheckSize("key", args.key.size(), kv_size); !s.ok()) return s;
    if (Status s = CheckSize("value", args.value.size(), kv_size); !s.ok()) return s;
  }
  return CheckSize("output", args.output.size(), query_size);
}

// The whole layer as if it were one head of one text: where things begin, and their strides.
PackedHead WholeLayer(const PackedAttentionArgs& args) {
  const AttentionLayer& layer = args.layer;
  const bool is_joined = args.key.empty();
  PackedHead whole;
  whole.query = args.query.data();
  whole.key = is_joined ? whole.query + QueryWidth(layer) : args.key.data();
  whole.value = is_joined ? whole.key + KvWidth(layer) : args.value.data();
  whole.output = args.output.data();
  whole.output_stride = QueryWidth(layer);
  whole.query_stride = is_joined ? QueryWidth(layer) + 2 * KvWidth(layer) : QueryWidth(layer);
  whole.key_stride = whole.value_stride = is_joined ? whole.query_stride : KvWidth(layer);
  whole.head_size = layer.head_size;
  whole.scale = layer.scale;
  return whole;
}

PackedHead HeadOf(const PackedHead& whole, const AttentionLayer& layer, int32_t first_token, int32_t head) {
  PackedHead part = whole;
  const int64_t query_offset = int64_t{head} * layer.head_size;
  const int64_t kv_offset = int64_t{head / (layer.num_heads / layer.num_kv_heads)} * layer.head_size;
  part.query += first_token * whole.query_stride + query_offset;
  part.key += first_token * whole.key_stride + kv_offset;
  part.value += first_token * whole.value_stride + kv_offset;
  part.output += first_token * whole.output_stride + query_offset;
  return part;
}

// Memory of the thread that runs a task; grows to what its longest text needs. Aligned to lines.
float* ScratchOfThisThread(size_t floats) {
  constexpr size_t kLineFloats = 16;
  static thread_local std::vector<float> memory;
  if (memory.size() < floats + kLineFloats) memory.resize(floats + kLineFloats);
  void* at = memory.data();
  size_t space = memory.size() * sizeof(float);
  return static_cast<float*>(std::align(kLineFloats * sizeof(float), floats * sizeof(float), at, space));
}

// Rows of one head of one text, or a task of several.
struct Items {
  std::vector<PackedHead> heads;
  std::vector<size_t> task_ends;  // Task t has the heads from the end of the task before to task_ends[t].
};

void ListItems(const PackedAttentionArgs& args, Items* items) {
  const AttentionLayer& layer = args.layer;
  const PackedHead whole = WholeLayer(args);
  items->heads.clear();
  items->task_ends.clear();
  int64_t total = 0;
  const auto cost = [](const PackedHead& head) {
    return int64_t{head.end_row - head.first_row} * head.tokens * head.head_size * 2;
  };
  for (size_t s = 0; s + 1 < args.cu_seqlens.size(); ++s) {
    const int32_t first = args.cu_seqlens[s];
    const int32_t tokens = args.cu_seqlens[s + 1] - first;
    for (int32_t head = 0; head < layer.num_heads; ++head) {
      PackedHead item = HeadOf(whole, layer, first, head);
      item.tokens = tokens;
      for (int32_t row = 0; row < tokens; row += kRowsPerItem) {
        item.first_row = row;
        item.end_row = std::min(row + kRowsPerItem, tokens);
        items->heads.push_back(item);
        total += cost(item);
      }
    }
  }
  const int64_t task_cost = std::max(kMinTaskProducts, total / kMaxTasks);
  int64_t sum = 0;
  for (size_t i = 0; i < items->heads.size(); ++i) {
    sum += cost(items->heads[i]);
    if (sum < task_cost && i + 1 < items->heads.size()) continue;
    items->task_ends.push_back(i + 1);
    sum = 0;
  }
}

void AttendWholeTexts(const PackedAttentionArgs& args, const PackedAttentionMath& math,
                      const ParallelFor& parallel_for) {
  static thread_local Items items_of_thread;  // Of the thread that runs the step.
  const Items& items = items_of_thread;
  ListItems(args, &items_of_thread);
  parallel_for(items.task_ends.size(), [&](size_t task) {
    for (size_t i = task == 0 ? 0 : items.task_ends[task - 1]; i < items.task_ends[task]; ++i) {
      const PackedHead& head = items.heads[i];
      math.attend(head, ScratchOfThisThread(math.scratch_floats(head.tokens, head.head_size)));
    }
  });
}

void AttendWindows(const PackedAttentionArgs& args, const AttentionMath& math, const ParallelFor& parallel_for) {
  const auto range_of = [&](int32_t sequence, int32_t token) {
    const int32_t length = args.cu_seqlens[sequence + 1] - args.cu_seqlens[sequence];
    const int32_t position = token - args.cu_seqlens[sequence];
    const int32_t window = args.layer.window_tokens;
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
}

}  // namespace

Status PackedAttention(const PackedAttentionArgs& args, const PackedAttentionMath& math,
                       const AttentionMath& window_math, const ParallelFor& parallel_for) {
  const int64_t tokens = args.cu_seqlens.empty() ? 0 : args.cu_seqlens.back();
  if (Status s = Check(args, tokens); !s.ok()) return s;
  if (args.layer.window_tokens < 0) {
    AttendWholeTexts(args, math, parallel_for);
  } else {
    AttendWindows(args, window_math, parallel_for);
  }
  return Status::Ok();
}

}  // namespace naiad
