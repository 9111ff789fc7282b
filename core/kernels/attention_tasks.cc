#include "kernels/attention_tasks.h"

#include <algorithm>
#include <array>
#include <string>
#include <type_traits>

namespace naiad {
namespace {

// About this many rows an item: they share each key and value that comes from memory.
constexpr int32_t kRowsPerItem = kMaxRowsPerPass;
// A task should not be shorter than handing it to a thread pays for, about 10 us; nor need there be more of them than
// it takes to keep many threads busy to the end.
constexpr int64_t kMinTaskCost = 5000;
constexpr int64_t kMaxTasks = 32;
// What a position costs that no row pays for, in rows.
constexpr int64_t kRowsOfAPosition = 2;

int32_t GroupOf(const AttentionLayer& layer) { return layer.num_heads / layer.num_kv_heads; }

int32_t RowsOf(const AttentionLayer& layer, const AttentionItem& item) {
  return (item.end_token - item.first_token) * GroupOf(layer);
}

// Lists the items without splits; returns the cost of all.
int64_t ListWholes(const AttentionLayer& layer, std::span<const int32_t> cu_seqlens, const RangeOfToken& range_of,
                   std::vector<AttentionItem>* wholes) {
  wholes->clear();
  const int32_t tokens_per_item = std::max(1, kRowsPerItem / GroupOf(layer));
  int64_t total = 0;
  for (size_t s = 0; s + 1 < cu_seqlens.size(); ++s) {
    const auto sequence = static_cast<int32_t>(s);
    for (int32_t first = cu_seqlens[s]; first < cu_seqlens[s + 1]; first += tokens_per_item) {
      const int32_t end = std::min(first + tokens_per_item, cu_seqlens[s + 1]);
      // Neither end of what tokens see steps back from one to the next.
      const VisibleRange of_first = range_of(sequence, first);
      const VisibleRange of_last = range_of(sequence, end - 1);
      AttentionItem item{sequence, 0, first, end, of_first.first / kChunkTokens, of_last.last / kChunkTokens + 1,
                         -1,       0};
      item.cost = (RowsOf(layer, item) + kRowsOfAPosition) * (int64_t{of_last.last} - of_first.first + 1);
      for (int32_t head = 0; head < layer.num_kv_heads; ++head) {
        item.kv_head = head;
        wholes->push_back(item);
        total += item.cost;
      }
    }
  }
  return total;
}

// The positions of an item, of all its rows.
VisibleRange RangeOf(const AttentionItem& item, const RangeOfToken& range_of) {
  return {std::max(range_of(item.sequence, item.first_token).first, item.first_chunk * kChunkTokens),
          std::min(range_of(item.sequence, item.end_token - 1).last, item.end_chunk * kChunkTokens - 1)};
}

// Calls f with the rows of an item, at most kMaxRowsPerPass at a time, and the number of the first of them.
template <typename Function>
void ForEachPass(const AttentionLayer& layer, const AttentionItem& item, const float* query, float* output,
                 const RangeOfToken& range_of, const Function& f) {
  const int32_t group = GroupOf(layer);
  const int64_t token_stride = int64_t{layer.num_heads} * layer.head_size;
  std::array<AttentionRow, kMaxRowsPerPass> rows;
  size_t count = 0;
  int32_t done = 0;
  for (int32_t token = item.first_token; token < item.end_token; ++token) {
    const VisibleRange range = range_of(item.sequence, token);
    for (int32_t g = 0; g < group; ++g) {
      const int64_t offset = token * token_stride + int64_t{item.kv_head * group + g} * layer.head_size;
      rows[count++] = {query + offset, output + offset, range.first, range.last};
      if (count < rows.size()) continue;
      f(done, std::span<const AttentionRow>(rows));
      done += static_cast<int32_t>(count);
      count = 0;
    }
  }
  if (count > 0) f(done, std::span<const AttentionRow>(rows).first(count));
}

// Number of the part that the first row of a split item has from a chunk.
int64_t PartOf(const AttentionLayer& layer, const AttentionPlan::Split& split, int32_t chunk) {
  return split.first_part + int64_t{chunk - split.whole.first_chunk} * RowsOf(layer, split.whole);
}

// Merges the chunks of a split item, in their order as AttendRows does, into its outputs.
void MergeSplit(const AttentionLayer& layer, const AttentionPlan::Split& split, std::span<const RowPart> parts,
                float* output) {
  const int32_t group = GroupOf(layer);
  const int64_t token_stride = int64_t{layer.num_heads} * layer.head_size;
  for (int32_t row = 0; row < RowsOf(layer, split.whole); ++row) {
    const int64_t token = split.whole.first_token + row / group;
    const int64_t head = split.whole.kv_head * group + row % group;
    RowPart merged{output + token * token_stride + head * layer.head_size, {}};
    for (int32_t chunk = split.whole.first_chunk; chunk < split.whole.end_chunk; ++chunk) {
      MergePart(parts[static_cast<size_t>(PartOf(layer, split, chunk) + row)], layer.head_size, &merged);
    }
    Normalise(layer.head_size, &merged);
  }
}

// For the first item of a task, which no other has asked for.
void AskForAll(std::span<const uint8_t* const> rows, int32_t head_size) {
  RowStream stream{rows.data(), rows.data() + rows.size()};
  AskForRows(&stream, static_cast<int32_t>(rows.size()), head_size);
}

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

void PlanAttention(const AttentionLayer& layer, std::span<const int32_t> cu_seqlens, const RangeOfToken& range_of,
                   AttentionPlan* plan) {
  plan->items.clear();
  plan->task_ends.clear();
  plan->splits.clear();
  plan->num_parts = 0;
  std::vector<AttentionItem>& wholes = plan->wholes;
  const int64_t total = ListWholes(layer, cu_seqlens, range_of, &wholes);
  const int64_t task_cost = std::max(kMinTaskCost, total / kMaxTasks);
  int64_t cost = 0;
  for (const AttentionItem& whole : wholes) {
    const int32_t chunks = whole.end_chunk - whole.first_chunk;
    const auto pieces = static_cast<int32_t>(std::clamp<int64_t>(whole.cost / task_cost, 1, chunks));
    if (pieces > 1) {
      plan->splits.push_back({whole, plan->num_parts});
      plan->num_parts += int64_t{chunks} * RowsOf(layer, whole);
    }
    for (int32_t piece = 0; piece < pieces; ++piece) {
      AttentionItem item = whole;
      item.first_chunk = whole.first_chunk + chunks * piece / pieces;
      item.end_chunk = whole.first_chunk + chunks * (piece + 1) / pieces;
      item.cost = whole.cost / pieces;
      item.split = pieces > 1 ? static_cast<int32_t>(plan->splits.size()) - 1 : -1;
      // Closes the task where that comes nearest to the cost that it should have.
      if (cost > 0 && cost + item.cost / 2 > task_cost) {
        plan->task_ends.push_back(static_cast<int32_t>(plan->items.size()));
        cost = 0;
      }
      plan->items.push_back(item);
      cost += item.cost;
    }
  }
  if (cost > 0) plan->task_ends.push_back(static_cast<int32_t>(plan->items.size()));
}

template <typename Element>
void Attend(const AttentionLayer& layer, const AttentionMath& math, std::span<const int32_t> cu_seqlens,
            const float* query, float* output, const RangeOfToken& range_of,
            const std::function<LocateRows<Element>(int32_t sequence, int32_t kv_head)>& locate,
            const ParallelFor& parallel_for) {
  // Of the thread that runs the step; they grow to what its largest step needs.
  static thread_local AttentionPlan plan_of_thread;
  static thread_local std::vector<RowPart> parts_of_thread;
  static thread_local std::vector<float> sums_of_thread;
  AttentionPlan& plan = plan_of_thread;
  PlanAttention(layer, cu_seqlens, range_of, &plan);
  std::vector<RowPart>& parts = parts_of_thread;
  if (plan.num_parts > 0) {
    const auto count = static_cast<size_t>(plan.num_parts);
    const auto head_size = static_cast<size_t>(layer.head_size);
    if (parts.size() < count) parts.resize(count);
    if (sums_of_thread.size() < count * head_size) sums_of_thread.resize(count * head_size);
    for (size_t i = 0; i < count; ++i) parts[i].sums = sums_of_thread.data() + i * head_size;
  }

  const auto run_item = [&](const AttentionItem& item, std::span<const Element* const> next) {
    const LocateRows<Element> rows_of = locate(item.sequence, item.kv_head);
    ForEachPass(layer, item, query, output, range_of, [&](int32_t first_row, std::span<const AttentionRow> rows) {
      if (item.split < 0) return AttendRows(math, layer, rows, rows_of, next);
      const AttentionPlan::Split& split = plan.splits[static_cast<size_t>(item.split)];
      const PassRows<Element> prepared = PrepareRows<Element>(math, layer, rows);
      RowsAhead<Element> ahead;
      for (int32_t chunk = item.first_chunk; chunk < item.end_chunk; ++chunk) {
        const bool last = chunk + 1 == item.end_chunk;
        const auto keys_after =
            last ? next : ahead.Locate(rows_of, (chunk + 1) * kChunkTokens, rows.back().last_position);
        const int64_t part = PartOf(layer, split, chunk) + first_row;
        AttendChunk<Element>(math, layer, prepared, chunk, rows_of, keys_after,
                             std::span(parts).subspan(static_cast<size_t>(part), rows.size()));
      }
    });
  };
  const auto run_task = [&](size_t task) {
    const int32_t begin = task == 0 ? 0 : plan.task_ends[task - 1];
    const int32_t end = plan.task_ends[task];
    RowsAhead<Element> ahead;
    const auto first_rows_of = [&](int32_t i) {
      const AttentionItem& item = plan.items[static_cast<size_t>(i)];
      const VisibleRange seen = RangeOf(item, range_of);
      return ahead.Locate(locate(item.sequence, item.kv_head), seen.first, seen.last);
    };
    if constexpr (std::is_same_v<Element, uint8_t>) AskForAll(first_rows_of(begin), layer.head_size);
    for (int32_t i = begin; i < end; ++i) {
      std::span<const Element* const> next;
      if (i + 1 < end) next = first_rows_of(i + 1);
      run_item(plan.items[static_cast<size_t>(i)], next);
    }
  };
  if (plan.task_ends.size() == 1) {
    run_task(0);
  } else {
    parallel_for(plan.task_ends.size(), run_task);
  }
  for (const AttentionPlan::Split& split : plan.splits) {
    MergeSplit(layer, split, std::span(parts), output);
  }
}

template void Attend(const AttentionLayer&, const AttentionMath&, std::span<const int32_t>, const float*, float*,
                     const RangeOfToken&, const std::function<LocateRows<float>(int32_t, int32_t)>&,
                     const ParallelFor&);
template void Attend(const AttentionLayer&, const AttentionMath&, std::span<const int32_t>, const float*, float*,
                     const RangeOfToken&, const std::function<LocateRows<uint8_t>(int32_t, int32_t)>&,
                     const ParallelFor&);

}  // namespace naiad
