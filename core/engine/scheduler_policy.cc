#include "engine/scheduler_policy.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace naiad {
namespace {

constexpr int32_t kPrefillShareDivisor = 4;

// Tokens kept from decoding for those that prefill.
int32_t PrefillReserve(std::span<const SequenceDemand> demands, int32_t max_tokens) {
  const int32_t most = std::max(1, max_tokens / kPrefillShareDivisor);
  int64_t pending = 0;
  for (const SequenceDemand& demand : demands) {
    if (!demand.is_decoding) pending += demand.pending_tokens;
  }
  return static_cast<int32_t>(std::min<int64_t>(most, pending));
}

// One token for each decoding sequence, longest waiting first. Returns the tokens given.
int32_t ShareAmongDecoding(std::span<const SequenceDemand> demands, int32_t budget, StepShares* shares) {
  std::vector<size_t>& order = shares->decode_order;
  order.clear();
  for (size_t i = 0; i < demands.size(); ++i) {
    if (demands[i].is_decoding) order.push_back(i);
  }
  if (std::cmp_greater(order.size(), budget)) {
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return demands[a].last_step != demands[b].last_step ? demands[a].last_step < demands[b].last_step : a < b;
    });
    order.resize(static_cast<size_t>(budget));
  }
  for (const size_t i : order) shares->tokens[i] = 1;
  return static_cast<int32_t>(order.size());
}

void ShareAmongPrefilling(std::span<const SequenceDemand> demands, StepLimits left, StepShares* shares) {
  for (size_t i = 0; i < demands.size(); ++i) {
    const SequenceDemand& demand = demands[i];
    if (demand.is_decoding) continue;
    int32_t tokens = std::min(demand.pending_tokens, left.max_tokens);
    if (demand.context_rows > left.max_context_rows) tokens = std::min(tokens, left.max_context_rows);
    shares->tokens[i] = tokens;
    left.max_tokens -= tokens;
    left.max_context_rows -= std::min(tokens, demand.context_rows);
  }
}

}  // namespace

void ShareStep(std::span<const SequenceDemand> demands, const StepLimits& limits, StepShares* shares) {
  shares->tokens.assign(demands.size(), 0);
  const int32_t decode_budget = limits.max_tokens - PrefillReserve(demands, limits.max_tokens);
  StepLimits left = limits;
  left.max_tokens -= ShareAmongDecoding(demands, decode_budget, shares);
  ShareAmongPrefilling(demands, left, shares);
}

int32_t CountAdmissible(std::span<const int32_t> blocks_needed, AdmissionLimits limits) {
  int32_t count = 0;
  for (const int32_t blocks : blocks_needed) {
    if (limits.free_slots < 1 || blocks > limits.unpromised_blocks) break;
    --limits.free_slots;
    limits.unpromised_blocks -= blocks;
    ++count;
  }
  return count;
}

}  // namespace naiad
