#include "engine/step_cost_model.h"

#include <algorithm>
#include <cmath>

namespace naiad {
namespace {

constexpr double kNewestWeight = 0.1;
constexpr double kMostWeight = 0.5;
constexpr int32_t kMostStepsWithoutDecode = 32;
constexpr int32_t kCautiousExtraTokens = 16;
constexpr double kFewestExtraTokens = 4;
constexpr double kMostExtraTokens = 1 << 20;
constexpr double kCautiousTokenCost = 0.5;
constexpr double kMostShareOfPrompts = 4.0;
constexpr double kFullWeightTokens = 16;
constexpr double kLeastTokenUs = 1e-3;

double Mix(const std::optional<double>& old, double newest, double weight) {
  return old ? *old + weight * (newest - *old) : newest;
}

}  // namespace

bool StepCostModel::NeedsDecodingAlone() const { return steps_since_decode_ >= kMostStepsWithoutDecode; }

// One more decoding sequence costs about as much as any other token.
double StepCostModel::DecodeCost(int32_t decoding) const {
  const double more = static_cast<double>(decoding - decode_sequences_) * std::max(token_us_.value_or(0.0), 0.0);
  return std::max(*decode_us_ + more, *decode_us_ / 4);
}

void StepCostModel::Observe(const StepWork& work, std::chrono::microseconds duration) {
  const auto duration_us = static_cast<double>(duration.count());
  if (work.decoding > 0) ++steps_since_decode_;
  if (work.extra_tokens == 0) {
    if (work.decoding == 0) return;
    if (decode_us_) decode_us_ = DecodeCost(work.decoding);
    // As if each step since the last one had shown the same; but one slow moment of the machine must not decide alone.
    const double weight = std::min(kMostWeight, 1.0 - std::pow(1.0 - kNewestWeight, steps_since_decode_));
    decode_us_ = Mix(decode_us_, duration_us, weight);
    decode_sequences_ = work.decoding;
    steps_since_decode_ = 0;
    return;
  }
  if (work.decoding > 0 && !decode_us_) {
    // No step has decoded alone yet: take what the prompt's tokens leave of this one.
    if (!token_us_) return;
    decode_us_ = std::max(duration_us - work.extra_tokens * *token_us_, duration_us / kMostShareOfPrompts);
    decode_sequences_ = work.decoding;
    return;
  }
  // May come out below zero: cutting that off would make the average too high. The fewer the tokens, the more of the
  // difference is noise.
  const double decode_us = work.decoding > 0 ? DecodeCost(work.decoding) : 0.0;
  const double weight = kNewestWeight * std::min(1.0, work.extra_tokens / kFullWeightTokens);
  token_us_ = Mix(token_us_, (duration_us - decode_us) / work.extra_tokens, weight);
}

int32_t StepCostModel::ExtraTokensWithin(float stretch, int32_t decoding) const {
  if (!decode_us_ || !token_us_) return kCautiousExtraTokens;
  const double allowed_us = (static_cast<double>(stretch) - 1.0) * DecodeCost(decoding);
  return static_cast<int32_t>(
      std::clamp(allowed_us / std::max(*token_us_, kLeastTokenUs), kFewestExtraTokens, kMostExtraTokens));
}

double StepCostModel::RelativeTokenCost(int32_t decoding) const {
  if (!decode_us_ || !token_us_) return kCautiousTokenCost;
  return std::max(*token_us_, 0.0) * decoding / std::max(DecodeCost(decoding), kLeastTokenUs);
}

}  // namespace naiad
