#include "engine/scheduler_policy.h"

#include <algorithm>
#include <cstddef>
#include <span>
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

// Gives one prefilling sequence up to `most` tokens more.
void GiveTokens(const SequenceDemand& demand, int32_t most, StepLimits* left, int32_t* share) {
  int32_t tokens = std::min({demand.pending_tokens - *share, most, left->max_tokens});
  const int32_t rows = std::max(0, demand.context_rows - *share);
  if (rows > left->max_context_rows) tokens = std::min(tokens, left->max_context_rows);
  *share += tokens;
  left->max_tokens -= tokens;
  left->max_context_rows -= std::min(tokens, rows);
}

void ShareAmongPrefilling(std::span<const SequenceDemand> demands, StepLimits left, StepShares* shares) {
  std::vector<size_t>& order = shares->prefill_order;
  order.clear();
  for (size_t i = 0; i < demands.size(); ++i) {
    if (!demands[i].is_decoding) order.push_back(i);
  }
  if (order.empty()) return;
  left.max_tokens = std::min(left.max_tokens, left.max_prefill_tokens);
  const size_t first = order.front();
  GiveTokens(demands[first], left.max_tokens - left.max_tokens / 2, &left, &shares->tokens[first]);
  std::stable_sort(order.begin() + 1, order.end(), [&](size_t a, size_t b) {
    return std::pair(-demands[a].priority, demands[a].pending_tokens) <
           std::pair(-demands[b].priority, demands[b].pending_tokens);
  });
  for (const size_t i : std::span(order).subspan(1)) {
    GiveTokens(demands[i], left.max_tokens, &left, &shares->tokens[i]);
  }
  GiveTokens(demands[first], left.max_tokens, &left, &shares->tokens[first]);
}

}  // namespace

void ShareStep(std::span<const SequenceDemand> demands, const StepLimits& limits, StepShares* shares) {
  shares->tokens.assign(demands.size(), 0);
  const int32_t decode_budget = limits.max_tokens - PrefillReserve(demands, limits.max_tokens);
  StepLimits left = limits;
  left.max_tokens -= ShareAmongDecoding(demands, decode_budget, shares);
  ShareAmongPrefilling(demands, left, shares);
}

}  // namespace naiad
