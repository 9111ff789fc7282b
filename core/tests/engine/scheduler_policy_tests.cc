#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>
#include <string>

#include "engine/scheduler_policy.h"

namespace naiad {
namespace {

constexpr int32_t kUnbounded = std::numeric_limits<int32_t>::max();

SequenceDemand Decoding(int64_t last_step = 0) {
  return {.pending_tokens = 1, .context_rows = 0, .is_decoding = true, .priority = 0, .last_step = last_step};
}

SequenceDemand Prefilling(int32_t pending_tokens, int32_t context_rows = 0, int32_t priority = 0) {
  return {.pending_tokens = pending_tokens,
          .context_rows = context_rows,
          .is_decoding = false,
          .priority = priority,
          .last_step = -1};
}

std::vector<int32_t> Share(const std::vector<SequenceDemand>& demands, StepLimits limits) {
  StepShares shares;
  ShareStep(demands, limits, &shares);
  return shares.tokens;
}

TEST(SchedulerPolicyTest, SharesOutAsTheTableSays) {
  struct Case {
    std::string name;
    std::vector<SequenceDemand> demands;
    StepLimits limits;
    std::vector<int32_t> tokens;
  };
  const std::vector<Case> cases = {
      {"nothing to do", {}, {8, 4, kUnbounded}, {}},
      {"a prompt that fits", {Prefilling(5)}, {8, 4, kUnbounded}, {5}},
      {"a long prompt is cut", {Prefilling(20)}, {8, 4, kUnbounded}, {8}},
      {"half for the first, the rest for the others", {Prefilling(50), Prefilling(9)}, {8, 4, kUnbounded}, {4, 4}},
      {"the first takes what others leave", {Prefilling(50), Prefilling(3)}, {8, 4, kUnbounded}, {5, 3}},
      {"others: the shortest first", {Prefilling(50), Prefilling(9), Prefilling(2)}, {8, 4, kUnbounded}, {4, 2, 2}},
      {"others: priority before length",
       {Prefilling(50, 0, 1), Prefilling(9, 0, 1), Prefilling(2)},
       {8, 4, kUnbounded},
       {4, 4, 0}},
      {"prefill is bounded beside decoding", {Prefilling(50), Decoding(), Prefilling(2)}, {16, 4, 6}, {4, 1, 2}},
      {"decoding comes first", {Prefilling(20), Decoding(), Decoding()}, {8, 4, kUnbounded}, {6, 1, 1}},
      {"a quarter is kept for prefill",
       {Prefilling(20), Decoding(), Decoding(), Decoding(), Decoding(), Decoding(), Decoding(), Decoding()},
       {8, 4},
       {2, 1, 1, 1, 1, 1, 1, 0}},
      {"no more is kept than prefill wants",
       {Prefilling(1), Decoding(), Decoding(), Decoding(), Decoding(), Decoding(), Decoding(), Decoding()},
       {8, 4},
       {1, 1, 1, 1, 1, 1, 1, 1}},
      {"the smallest step serves both", {Decoding(), Prefilling(9)}, {2, 4, kUnbounded}, {1, 1}},
      {"longest waiting decodes first", {Decoding(7), Decoding(3), Decoding(5)}, {2, 4, kUnbounded}, {0, 1, 1}},
      {"context rows cut a prompt", {Prefilling(20, 19)}, {16, 4, kUnbounded}, {4}},
      {"the last context rows do not", {Prefilling(6, 4)}, {16, 4, kUnbounded}, {6}},
      {"context rows are shared too",
       {Prefilling(3, 3), Prefilling(9, 9), Prefilling(5)},
       {16, 4, kUnbounded},
       {3, 1, 5}},
      {"no rows left: a later one waits",
       {Prefilling(4, 4), Prefilling(9, 9), Prefilling(5)},
       {16, 4, kUnbounded},
       {4, 0, 5}},
  };
  for (const Case& item : cases) {
    EXPECT_EQ(Share(item.demands, item.limits), item.tokens) << item.name;
  }
}

TEST(SchedulerPolicyTest, StaysWithinLimitsAndAlwaysMovesTheFirstOfEachKind) {
  std::mt19937 random(7);
  for (int32_t round = 0; round < 2000; ++round) {
    std::vector<SequenceDemand> demands(1 + random() % 40);
    for (SequenceDemand& demand : demands) {
      const auto pending = static_cast<int32_t>(1 + random() % 300);
      demand = random() % 2 == 0 ? Decoding(static_cast<int64_t>(random() % 9))
                                 : Prefilling(pending, static_cast<int32_t>(random() % static_cast<uint32_t>(pending)));
    }
    const StepLimits limits{.max_tokens = static_cast<int32_t>(2 + random() % 64),
                            .max_context_rows = static_cast<int32_t>(1 + random() % 16)};
    const std::vector<int32_t> tokens = Share(demands, limits);
    int32_t rows = 0;
    for (size_t i = 0; i < demands.size(); ++i) {
      ASSERT_GE(tokens[i], 0);
      ASSERT_LE(tokens[i], demands[i].pending_tokens);
      rows += std::min(tokens[i], demands[i].context_rows);
    }
    ASSERT_LE(std::accumulate(tokens.begin(), tokens.end(), 0), limits.max_tokens);
    ASSERT_LE(rows, limits.max_context_rows);
    const auto prefill = std::ranges::find(demands, false, &SequenceDemand::is_decoding);
    if (prefill != demands.end()) {
      ASSERT_GT(tokens[static_cast<size_t>(prefill - demands.begin())], 0);
    }
    int64_t oldest = 100;
    for (const SequenceDemand& demand : demands) {
      if (demand.is_decoding) oldest = std::min(oldest, demand.last_step);
    }
    bool moved_oldest = oldest == 100;
    for (size_t i = 0; i < demands.size(); ++i) {
      moved_oldest |= demands[i].is_decoding && demands[i].last_step == oldest && tokens[i] == 1;
    }
    ASSERT_TRUE(moved_oldest);
  }
}

}  // namespace
}  // namespace naiad
