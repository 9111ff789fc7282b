#include "engine/step_cost_model.h"

#include <algorithm>

namespace naiad {
namespace {

constexpr double kNewestWeight = 0.1;
constexpr int32_t kCautiousExtraTokens = 16;
constexpr double kFewestExtraTokens = 4;
constexpr double kMostExtraTokens = 1 << 20;
constexpr double kCautiousTokenCost = 0.5;
constexpr double kMostShareOfPrompts = 4.0;
constexpr double kFullWeightTokens = 16;
constexpr double kLeastTokenUs = 1e-3;

}  // namespace

void StepCostModel::RememberAlone(const DecodeStep& step) {
  if (is_guess_) alone_count_ = 0;
  is_guess_ = false;
  alone_[alone_count_++ % kRememberedSteps] = step;
}

// One more decoding sequence costs about as much as any other token.
double StepCostModel::DecodeCost(int32_t decoding) const {
  std::array<double, kRememberedSteps> costs{};
  const size_t count = std::min(alone_count_, kRememberedSteps);
  for (size_t i = 0; i < count; ++i) {
    const double more = (decoding - alone_[i].decoding) * std::max(token_us_.value_or(0.0), 0.0);
    costs[i] = std::max(alone_[i].duration_us + more, alone_[i].duration_us / 4);
  }
  const auto median = costs.begin() + static_cast<std::ptrdiff_t>((count - 1) / 2);
  std::nth_element(costs.begin(), median, costs.begin() + static_cast<std::ptrdiff_t>(count));
  return *median;
}

void StepCostModel::Observe(const StepWork& work, std::chrono::microseconds duration) {
  const auto duration_us = static_cast<double>(duration.count());
  if (work.decoding > 0) ++steps_since_alone_;
  if (work.extra_tokens == 0) {
    if (work.decoding == 0) return;
    RememberAlone({work.decoding, duration_us});
    steps_since_alone_ = 0;
    return;
  }
  if (work.decoding > 0 && alone_count_ == 0) {
    // No step has decoded alone yet: take what the prompt's tokens leave of this one.
    if (!token_us_) return;
    RememberAlone(
        {work.decoding, std::max(duration_us - work.extra_tokens * *token_us_, duration_us / kMostShareOfPrompts)});
    is_guess_ = true;
    return;
  }
  // May come out below zero: cutting that off would make the average too high. The fewer the tokens, the more of the
  // difference is noise.
  const double decode_us = work.decoding > 0 ? DecodeCost(work.decoding) : 0.0;
  const double newest_us = (duration_us - decode_us) / work.extra_tokens;
  const double weight = kNewestWeight * std::min(1.0, work.extra_tokens / kFullWeightTokens);
  token_us_ = token_us_ ? *token_us_ + weight * (newest_us - *token_us_) : newest_us;
}

int32_t StepCostModel::ExtraTokensWithin(float stretch, int32_t decoding) const {
  if (!KnowsBothCosts()) return kCautiousExtraTokens;
  const double allowed_us = (static_cast<double>(stretch) - 1.0) * DecodeCost(decoding);
  return static_cast<int32_t>(
      std::clamp(allowed_us / std::max(*token_us_, kLeastTokenUs), kFewestExtraTokens, kMostExtraTokens));
}

double StepCostModel::RelativeTokenCost(int32_t decoding) const {
  if (!KnowsBothCosts()) return kCautiousTokenCost;
  return std::max(*token_us_, 0.0) * decoding / std::max(DecodeCost(decoding), kLeastTokenUs);
}

}  // namespace naiad
