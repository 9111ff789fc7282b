#include "engine/prompt_lookup.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "sampling/counter_random.h"

namespace naiad {
namespace {

constexpr int32_t kNgramTokens = 3;
constexpr int32_t kMostFailures = 6;  // After so many, rest 2^6 proposals.
constexpr double kNewestWeight = 0.3;

// A collision gives a poor guess, which verification refuses: no harm but its cost.
uint64_t HashOf(std::span<const int32_t> ngram) {
  uint64_t hash = 0;
  for (const int32_t token : ngram) hash = MixBits(hash + static_cast<uint32_t>(token) + 1);
  return hash;
}

std::span<const int32_t> NgramBefore(std::span<const int32_t> history, int32_t end) {
  return history.subspan(static_cast<size_t>(end - kNgramTokens), kNgramTokens);
}

}  // namespace

// The newest n-gram stays out: it would find itself.
void PromptLookup::Learn(std::span<const int32_t> history) {
  const auto newest_end = static_cast<int32_t>(history.size());
  for (int32_t end = std::max(learned_, kNgramTokens); end < newest_end; ++end) {
    next_positions_[HashOf(NgramBefore(history, end))] = end;
  }
  learned_ = std::max(learned_, newest_end);
}

bool PromptLookup::IsWorthTrying(double token_cost) {
  if (rest_ > 0) {
    --rest_;
    return false;
  }
  if (acceptance_ > token_cost) return true;
  // Try once in a while all the same: the text, or the load, may have changed.
  rest_ = 1 << kMostFailures;
  length_ = 1;
  return true;
}

void PromptLookup::Propose(std::span<const int32_t> history, int32_t limit, double token_cost,
                           std::vector<int32_t>* draft) {
  draft->clear();
  Learn(history);
  if (std::cmp_less(history.size(), kNgramTokens) || limit < 1) return;
  const auto found = next_positions_.find(HashOf(NgramBefore(history, static_cast<int32_t>(history.size()))));
  if (found == next_positions_.end() || !IsWorthTrying(token_cost)) return;
  // Past the end of the history the guess goes on with itself, so that a short cycle is unrolled.
  const int32_t count = std::min({limit, length_, max_draft_tokens_});
  const auto begin = static_cast<size_t>(found->second);
  for (size_t i = 0; std::cmp_less(i, count); ++i) {
    const size_t position = begin + i;
    draft->push_back(position < history.size() ? history[position] : (*draft)[position - history.size()]);
  }
}

void PromptLookup::OnResult(int32_t drafted, int32_t accepted) {
  acceptance_ += kNewestWeight * (static_cast<double>(accepted) / drafted - acceptance_);
  if (accepted == drafted) {
    length_ = std::min(2 * length_, max_draft_tokens_);
    failures_ = 0;
  } else if (accepted > 0) {
    length_ = accepted + 1;
    failures_ = 0;
  } else {
    length_ = 1;
    failures_ = std::min(failures_ + 1, kMostFailures);
    rest_ = std::max(rest_, 1 << failures_);
  }
}

}  // namespace naiad
