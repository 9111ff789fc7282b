#include "kernels/attention_tasks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "kernel_test_support.h"

namespace naiad::testing {
namespace {

constexpr AttentionLayer kLayer{9, 3, 64, 1.0F, 0.0F, -1};

// A step of sequences that have `past` tokens and get `tokens` more.
struct Step {
  std::vector<int32_t> past;
  std::vector<int32_t> cu_seqlens = {0};

  Step(const std::vector<int32_t>& past_lens, const std::vector<int32_t>& tokens) : past(past_lens) {
    for (const int32_t count : tokens) cu_seqlens.push_back(cu_seqlens.back() + count);
  }

  [[nodiscard]] AttentionPlan Plan(const AttentionLayer& layer) const {
    AttentionPlan plan;
    const auto range_of = [&](int32_t sequence, int32_t token) {
      return VisibleRange{0, past[static_cast<size_t>(sequence)] + token - cu_seqlens[static_cast<size_t>(sequence)]};
    };
    PlanAttention(layer, cu_seqlens, range_of, &plan);
    return plan;
  }
};

int64_t TotalCost(const AttentionPlan& plan) {
  int64_t total = 0;
  for (const AttentionItem& item : plan.items) total += item.cost;
  return total;
}

int64_t LargestTask(const AttentionPlan& plan) {
  int64_t largest = 0;
  for (size_t task = 0; task < plan.task_ends.size(); ++task) {
    int64_t cost = 0;
    for (int32_t i = task == 0 ? 0 : plan.task_ends[task - 1]; i < plan.task_ends[task]; ++i) {
      cost += plan.items[static_cast<size_t>(i)].cost;
    }
    largest = std::max(largest, cost);
  }
  return largest;
}

TEST(AttentionTasksTest, EveryChunkOfEveryTokenAndHeadIsTakenOnce) {
  for (const Step& step : {Step({0}, {1}), Step({5000, 3}, {1, 1}), Step({0, 700, 0}, {300, 40, 0}), Step({4000}, {17}),
                           Step(std::vector<int32_t>(40, 130), std::vector<int32_t>(40, 1))}) {
    const AttentionPlan plan = step.Plan(kLayer);
    std::map<std::tuple<int32_t, int32_t, int32_t>, int> taken;  // Token, KV head, chunk.
    for (const AttentionItem& item : plan.items) {
      for (int32_t token = item.first_token; token < item.end_token; ++token) {
        for (int32_t chunk = item.first_chunk; chunk < item.end_chunk; ++chunk) ++taken[{token, item.kv_head, chunk}];
      }
    }
    for (size_t s = 0; s < step.past.size(); ++s) {
      for (int32_t token = step.cu_seqlens[s]; token < step.cu_seqlens[s + 1]; ++token) {
        const int32_t last = (step.past[s] + token - step.cu_seqlens[s]) / kChunkTokens;
        for (int32_t head = 0; head < kLayer.num_kv_heads; ++head) {
          for (int32_t chunk = 0; chunk <= last; ++chunk) EXPECT_EQ((taken[{token, head, chunk}]), 1) << token;
        }
      }
    }
    EXPECT_EQ(plan.task_ends.back(), static_cast<int32_t>(plan.items.size()));
    EXPECT_TRUE(std::is_sorted(plan.task_ends.begin(), plan.task_ends.end()));
  }
}

TEST(AttentionTasksTest, OneLongHistoryIsSharedByManyTasksOfAboutTheSameCost) {
  const AttentionPlan plan = Step({16000}, {1}).Plan(kLayer);
  EXPECT_GE(plan.task_ends.size(), 16U);
  EXPECT_EQ(plan.splits.size(), 3U);
  EXPECT_LT(LargestTask(plan) * static_cast<int64_t>(plan.task_ends.size()), 2 * TotalCost(plan));
}

TEST(AttentionTasksTest, ManyShortHistoriesAreFewTasksAndNoneIsSplit) {
  const AttentionPlan plan = Step(std::vector<int32_t>(32, 100), std::vector<int32_t>(32, 1)).Plan(kLayer);
  EXPECT_LE(plan.task_ends.size(), 16U);
  EXPECT_GE(plan.task_ends.size(), 4U);
  EXPECT_TRUE(plan.splits.empty());
  EXPECT_EQ(plan.num_parts, 0);
}

TEST(AttentionTasksTest, ShortStepIsOneTask) {
  EXPECT_EQ(Step({60}, {1}).Plan(kLayer).task_ends.size(), 1U);
  EXPECT_EQ(Step({}, {}).Plan(kLayer).task_ends.size(), 0U);
}

}  // namespace
}  // namespace naiad::testing
