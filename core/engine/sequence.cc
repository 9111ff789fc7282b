#include "engine/sequence.h"

#include <algorithm>
#include <utility>

#include "engine/request_validation.h"

namespace naiad {
namespace {

std::chrono::microseconds Between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration_cast<std::chrono::microseconds>(end - begin);
}

}  // namespace

Sequence::Sequence(uint64_t serial, GenerationRequest request, std::span<const int32_t> eos_token_ids)
    : serial_(serial),
      request_(std::move(request)),
      prompt_tokens_(static_cast<int32_t>(request_.prompt_token_ids.size())),
      tokens_(request_.prompt_token_ids),
      stop_token_ids_(request_.stopping.stop_token_ids) {
  if (!request_.stopping.ignore_eos) {
    stop_token_ids_.insert(stop_token_ids_.end(), eos_token_ids.begin(), eos_token_ids.end());
  }
}

SequencePhase Sequence::phase() const {
  if (end_) return SequencePhase::kFinished;
  if (!start_time_) return SequencePhase::kWaiting;
  return generated_tokens() > 0 && pending_tokens() == 1 ? SequencePhase::kDecoding : SequencePhase::kPrefilling;
}

int32_t Sequence::unscored_positions() const {
  return request_.output.context_log_probs ? prompt_tokens_ - 1 - scored_positions_ : 0;
}

int32_t Sequence::promised_blocks(int32_t block_tokens) const {
  return BlocksForPositions(MaxCachedPositions(request_), block_tokens);
}

void Sequence::Start(Clock::time_point now, int32_t vocabulary_size) {
  start_time_ = now;
  // Room for everything at once, so that no step has to grow it.
  tokens_.reserve(tokens_.size() + static_cast<size_t>(request_.stopping.max_tokens));
  sampler_ =
      std::make_unique<Sampler>(request_.sampling, request_.stopping.min_tokens, stop_token_ids_, vocabulary_size);
  for (const int32_t token_id : tokens_) sampler_->OnToken(TokenOrigin::kPrompt, token_id);
}

void Sequence::CommitCached(int32_t count, BlockReservation blocks, int64_t step) {
  block_table_.Append(std::move(blocks));
  cached_tokens_ += count;
  last_step_ = step;
}

void Sequence::CommitToken(int32_t token_id, Clock::time_point now) {
  tokens_.push_back(token_id);
  sampler_->OnToken(TokenOrigin::kGenerated, token_id);
  if (!first_token_time_) first_token_time_ = now;
  last_token_time_ = now;
}

std::optional<SequenceEnd> Sequence::NaturalEnd() const {
  const int32_t generated = generated_tokens();
  if (generated > 0 && std::ranges::find(stop_token_ids_, tokens_.back()) != stop_token_ids_.end()) {
    return SequenceEnd::Stop(tokens_.back());
  }
  // A request for scores only (max_tokens 0) ends here with its prompt.
  const bool has_all_tokens = generated == request_.stopping.max_tokens && (generated > 0 || pending_tokens() == 0);
  if (has_all_tokens) return SequenceEnd::Length();
  return std::nullopt;
}

void Sequence::End(SequenceEnd end) {
  end_ = std::move(end);
  block_table_.Clear();
}

FinishedSummary Sequence::Summarize(Clock::time_point now) const {
  FinishedSummary summary;
  summary.reason = end_->reason;
  summary.stop_token_id = end_->stop_token_id;
  summary.error = end_->error;
  summary.prompt_tokens = prompt_tokens_;
  summary.completion_tokens = generated_tokens();
  summary.queue = Between(request_.arrival, start_time_.value_or(now));
  if (start_time_) summary.prefill = Between(*start_time_, first_token_time_.value_or(now));
  if (first_token_time_) {
    summary.decode = Between(*first_token_time_, *last_token_time_);
    summary.time_to_first_token = Between(request_.arrival, *first_token_time_);
  }
  return summary;
}

}  // namespace naiad
