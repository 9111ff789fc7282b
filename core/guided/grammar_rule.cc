#include "guided/grammar_rule.h"

#include <algorithm>
#include <bit>
#include <exception>
#include <limits>
#include <new>
#include <string>

#include "guided/work_limit.h"

namespace naiad {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();
constexpr size_t kWordBits = 32;

}  // namespace

void MaskLogits(std::span<const int32_t> mask, std::span<float> logits) {
  for (size_t first = 0; first < logits.size(); first += kWordBits) {
    const std::span<float> row = logits.subspan(first, std::min(kWordBits, logits.size() - first));
    const auto allowed = static_cast<uint32_t>(mask[first / kWordBits]);
    // Most words allow nothing, or everything.
    if (allowed == 0) {
      std::fill(row.begin(), row.end(), kNever);
      continue;
    }
    for (uint32_t forbidden = ~allowed; forbidden != 0; forbidden &= forbidden - 1) {
      const auto bit = static_cast<size_t>(std::countr_zero(forbidden));
      if (bit < row.size()) row[bit] = kNever;
    }
  }
}

GrammarRule::GrammarRule(const xgrammar::CompiledGrammar& grammar, int32_t vocabulary_size,
                         const GuideTimeBudget& budget)
    : matcher_(xgrammar::GrammarMatcher(grammar)),
      mask_(static_cast<size_t>(xgrammar::GetBitmaskSize(vocabulary_size))),
      budget_(budget),
      saved_time_(budget.most_saved) {}

bool GrammarRule::FillMask() const {
  if (!matcher_) return false;
  auto size = static_cast<int64_t>(mask_.size());
  DLTensor tensor{};
  tensor.data = mask_.data();
  tensor.device = {kDLCPU, 0};
  tensor.ndim = 1;
  tensor.dtype = xgrammar::GetBitmaskDLType();
  tensor.shape = &size;
  try {
    const GuideWorkLimit limit(saved_time_);
    matcher_->FillNextTokenBitmask(&tensor);
    saved_time_ -= limit.used();
    return true;
  } catch (...) {
    GiveUp();
    return false;
  }
}

void GrammarRule::GiveUp() const {
  matcher_.reset();
  try {
    throw;
  } catch (const GuideWorkExceeded&) {
    status_ = Status::InvalidArgument("guided_decoding_guide: takes more than " +
                                      std::to_string(budget_.per_token / std::chrono::milliseconds(1)) +
                                      " ms of processor time a token to follow");
  } catch (const std::bad_alloc&) {
    status_ = Status::ResourceExhausted("guided_decoding_guide: no memory to follow it");
  } catch (const std::exception& error) {
    status_ = Status::Internal(std::string("the grammar library failed: ") + error.what());
  }
}

void GrammarRule::Apply(int32_t /*generated_tokens*/, std::span<float> logits) const {
  if (FillMask()) {
    MaskLogits(mask_, logits);
  } else {
    std::fill(logits.begin(), logits.end(), kNever);
  }
}

void GrammarRule::OnToken(TokenOrigin origin, int32_t token_id) {
  if (origin == TokenOrigin::kPrompt || !matcher_) return;
  try {
    // Here, not where the mask is made: tokens of a resumed text come without one.
    saved_time_ = std::min(saved_time_ + budget_.per_token, budget_.most_saved);
    const GuideWorkLimit limit(saved_time_);
    // Not accepted: a stop token of the request's own that ends it outside the grammar. Nothing follows it.
    if (!matcher_->AcceptToken(token_id)) matcher_.reset();
    saved_time_ -= limit.used();
  } catch (...) {
    GiveUp();
  }
}

}  // namespace naiad
