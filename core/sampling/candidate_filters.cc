#include "sampling/candidate_filters.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

namespace naiad {
namespace {

float MaxLogit(std::span<const Candidate> candidates) {
  float max = -std::numeric_limits<float>::infinity();
  for (const Candidate& candidate : candidates) max = std::max(max, candidate.logit);
  return max;
}

double Weight(const Candidate& candidate, float max_logit) {
  return static_cast<double>(std::exp(candidate.logit - max_logit));
}

double TotalWeight(std::span<const Candidate> candidates, float max_logit) {
  double total = 0.0;
  for (const Candidate& candidate : candidates) total += Weight(candidate, max_logit);
  return total;
}

}  // namespace

void CollectCandidates(std::span<const float> logits, std::vector<Candidate>* candidates) {
  candidates->clear();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] > -std::numeric_limits<float>::infinity()) {
      candidates->push_back({static_cast<int32_t>(i), logits[i]});
    }
  }
}

// A heap of the best so far, worst on top: nearly all tokens fail the one comparison with it.
void CollectTopCandidates(std::span<const float> logits, int32_t count, std::vector<Candidate>* candidates) {
  candidates->clear();
  if (count <= 0) return;
  const auto wanted = static_cast<size_t>(count);
  for (size_t i = 0; i < logits.size(); ++i) {
    const Candidate candidate{static_cast<int32_t>(i), logits[i]};
    if (!(candidate.logit > -std::numeric_limits<float>::infinity())) continue;
    if (candidates->size() == wanted) {
      if (!IsMoreLikely(candidate, candidates->front())) continue;
      std::pop_heap(candidates->begin(), candidates->end(), IsMoreLikely);
      candidates->back() = candidate;
    } else {
      candidates->push_back(candidate);
    }
    std::push_heap(candidates->begin(), candidates->end(), IsMoreLikely);
  }
  std::sort_heap(candidates->begin(), candidates->end(), IsMoreLikely);
}

void TemperatureFilter::Apply(std::vector<Candidate>* candidates) const {
  const float max = MaxLogit(*candidates);
  for (Candidate& candidate : *candidates) candidate.logit = (candidate.logit - max) / temperature_;
}

// Takes candidates off a heap one by one, because the kept set is usually small beside the vocabulary: sorting all
// would cost more.
void TopPFilter::Apply(std::vector<Candidate>* candidates) const {
  const auto less_likely = [](const Candidate& a, const Candidate& b) { return IsMoreLikely(b, a); };
  const float max = MaxLogit(*candidates);
  const double wanted = static_cast<double>(top_p_) * TotalWeight(*candidates, max);
  std::make_heap(candidates->begin(), candidates->end(), less_likely);
  double reached = 0.0;
  auto heap_end = candidates->end();
  do {
    std::pop_heap(candidates->begin(), heap_end, less_likely);
    --heap_end;
    reached += Weight(*heap_end, max);
  } while (heap_end != candidates->begin() && reached < wanted);
  candidates->erase(candidates->begin(), heap_end);
}

void MinPFilter::Apply(std::vector<Candidate>* candidates) const {
  const float max = MaxLogit(*candidates);
  const auto min_weight = static_cast<double>(min_p_);
  std::erase_if(*candidates, [&](const Candidate& candidate) { return Weight(candidate, max) < min_weight; });
}

int32_t DrawCandidate(std::span<Candidate> candidates, double point) {
  const float max = MaxLogit(candidates);
  double total = 0.0;
  for (Candidate& candidate : candidates) {
    candidate.logit = std::exp(candidate.logit - max);
    total += static_cast<double>(candidate.logit);
  }
  const double target = point * total;
  double cumulative = 0.0;
  // Rounding may leave the sum a hair below the target: then the last candidate with any weight is the answer.
  int32_t last_possible = candidates.front().token_id;
  for (const Candidate& candidate : candidates) {
    if (candidate.logit == 0.0F) continue;
    cumulative += static_cast<double>(candidate.logit);
    last_possible = candidate.token_id;
    if (cumulative > target) break;
  }
  return last_possible;
}

}  // namespace naiad
