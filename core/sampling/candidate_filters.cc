#include "sampling/candidate_filters.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <ranges>

namespace naiad {
namespace {

// All candidates are looked at for every token that is drawn, and a vocabulary is large: the loops over them work on
// independent lanes without branches or calls, which a compiler vectorises.
constexpr size_t kLanes = 8;
constexpr size_t kBlock = 64;

float MaxLogit(std::span<const Candidate> candidates) {
  std::array<float, kLanes> lanes;
  lanes.fill(-std::numeric_limits<float>::infinity());
  size_t i = 0;
  for (; i + kLanes <= candidates.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] = std::max(lanes[lane], candidates[i + lane].logit);
  }
  for (; i < candidates.size(); ++i) lanes[0] = std::max(lanes[0], candidates[i].logit);
  return *std::ranges::max_element(lanes);
}

// exp(y) for y <= 0, within 4 ulp; 0 below -87, where the true value is under 1.7e-38. y = n * ln 2 + r with |r| <= ln
// 2 / 2, exp(r) by its Taylor series. Adding kShift rounds to a whole number, which then stands in the lowest bits.
inline float ExpNonPositive(float y) {
  constexpr float kLowest = -87.0F;
  constexpr float kShift = 0x1.8p23F;
  constexpr float kLn2High = 0.693359375F;  // Few bits: n times it is exact.
  constexpr float kLn2Low = -2.12194440e-4F;
  const float clamped = y > kLowest ? y : kLowest;
  const float shifted = clamped * 1.44269504F + kShift;
  const float n = shifted - kShift;
  const float r = (clamped - n * kLn2High) - n * kLn2Low;
  float p = 1.0F / 720;
  p = p * r + 1.0F / 120;
  p = p * r + 1.0F / 24;
  p = p * r + 1.0F / 6;
  p = p * r + 0.5F;
  p = (p * r * r + r) + 1.0F;
  const uint32_t power = (std::bit_cast<uint32_t>(shifted) + 127) << 23;
  return y > kLowest ? p * std::bit_cast<float>(power) : 0.0F;
}

double Weight(const Candidate& candidate, float max_logit) {
  return static_cast<double>(ExpNonPositive(candidate.logit - max_logit));
}

double Sum(std::span<const float> weights) {
  std::array<double, kLanes> lanes{};
  size_t i = 0;
  for (; i + kLanes <= weights.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += static_cast<double>(weights[i + lane]);
  }
  for (; i < weights.size(); ++i) lanes[0] += static_cast<double>(weights[i]);
  return std::accumulate(lanes.begin(), lanes.end(), 0.0);
}

// Weights of at most kBlock candidates.
std::span<const float> WeightsOf(std::span<const Candidate> block, float max_logit, std::array<float, kBlock>* room) {
  for (size_t i = 0; i < block.size(); ++i) (*room)[i] = ExpNonPositive(block[i].logit - max_logit);
  return std::span<const float>(*room).first(block.size());
}

std::span<const Candidate> BlockFrom(std::span<const Candidate> candidates, size_t first) {
  return candidates.subspan(first, std::min(kBlock, candidates.size() - first));
}

double TotalWeight(std::span<const Candidate> candidates, float max_logit) {
  std::array<float, kBlock> room;
  double total = 0.0;
  for (size_t first = 0; first < candidates.size(); first += kBlock) {
    total += Sum(WeightsOf(BlockFrom(candidates, first), max_logit, &room));
  }
  return total;
}

}  // namespace

void CollectCandidates(std::span<const float> logits, std::vector<Candidate>* candidates) {
  candidates->resize(logits.size());
  size_t count = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    (*candidates)[count] = {static_cast<int32_t>(i), logits[i]};
    count += logits[i] > -std::numeric_limits<float>::infinity() ? 1 : 0;
  }
  candidates->resize(count);
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

// Moves the most likely candidates to the front until their weights reach `wanted` in sum, perhaps some more; returns
// the end of them. They come in whole bands of logits, which takes a few passes over what is left and no order.
std::vector<Candidate>::iterator PartitionMostLikely(std::vector<Candidate>* candidates, float max, double wanted) {
  auto end = candidates->begin();
  double reached = 0.0;
  for (float depth = 4.0F; reached < wanted && end != candidates->end(); depth *= 2.0F) {
    const auto band = end;
    end = std::partition(band, candidates->end(),
                         [&](const Candidate& candidate) { return candidate.logit >= max - depth; });
    for (auto candidate = band; candidate != end; ++candidate) reached += Weight(*candidate, max);
  }
  return end;
}

// The kept set is usually small beside the vocabulary: candidates are taken off a heap one by one, and the heap holds
// only those that can be needed.
void TopPFilter::Apply(std::vector<Candidate>* candidates) const {
  const auto less_likely = [](const Candidate& a, const Candidate& b) { return IsMoreLikely(b, a); };
  const float max = MaxLogit(*candidates);
  const double wanted = static_cast<double>(top_p_) * TotalWeight(*candidates, max);
  candidates->erase(PartitionMostLikely(candidates, max, wanted), candidates->end());
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

// By logits: exp(logit - max) >= min_p.
void MinPFilter::Apply(std::vector<Candidate>* candidates) const {
  const float least = MaxLogit(*candidates) + std::log(min_p_);
  std::erase_if(*candidates, [&](const Candidate& candidate) { return candidate.logit < least; });
}

// Whole blocks are passed over by their sums, and only the one that holds the point is looked at one by one.
int32_t DrawCandidate(std::span<const Candidate> candidates, double point) {
  const float max = MaxLogit(candidates);
  const double target = point * TotalWeight(candidates, max);
  std::array<float, kBlock> room;
  double before = 0.0;
  for (size_t first = 0; first < candidates.size(); first += kBlock) {
    const std::span<const Candidate> block = BlockFrom(candidates, first);
    const std::span<const float> weights = WeightsOf(block, max, &room);
    const double sum = Sum(weights);
    double reached = before;
    for (size_t i = 0; before + sum > target && i < block.size(); ++i) {
      reached += static_cast<double>(weights[i]);
      if (reached > target && weights[i] > 0.0F) return block[i].token_id;
    }
    before += sum;
  }
  // Rounding left the sum a hair below the target: the last candidate with any weight is the answer.
  const auto has_weight = [&](const Candidate& candidate) { return Weight(candidate, max) > 0.0; };
  return std::ranges::find_if(candidates | std::views::reverse, has_weight)->token_id;
}

}  // namespace naiad
