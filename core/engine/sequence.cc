#include "engine/sequence.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "sampling/counter_random.h"
#include "sampling/logits_rule.h"

namespace naiad {
namespace {

std::chrono::microseconds Between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration_cast<std::chrono::microseconds>(end - begin);
}

}  // namespace

Sequence::Sequence(std::shared_ptr<RequestGroup> group, const SequenceSettings& settings)
    : group_(std::move(group)),
      settings_(settings),
      index_(0),
      prompt_tokens_(static_cast<int32_t>(request().prompt_token_ids.size()) - request().resume.tokens),
      tokens_(request().prompt_token_ids),
      stop_token_ids_(request().stopping.stop_token_ids),
      unforked_(request().num_sequences - 1) {
  if (!request().stopping.ignore_eos) {
    stop_token_ids_.insert(stop_token_ids_.end(), settings_.eos_token_ids.begin(), settings_.eos_token_ids.end());
  }
}

Sequence::Sequence(const Sequence& parent, int32_t index, BlockReservation blocks)
    : group_(parent.group_),
      settings_(parent.settings_),
      index_(index),
      prompt_tokens_(parent.prompt_tokens_),
      tokens_(parent.tokens_),
      stop_token_ids_(parent.stop_token_ids_),
      cached_tokens_(parent.cached_tokens_),
      cached_on_arrival_(parent.cached_on_arrival_),
      seen_prompt_tokens_(prompt_tokens_),  // The prompt is the first sequence's to report.
      reported_{.all = prompt_tokens_, .cached = cached_on_arrival_},
      scored_positions_(parent.prompt_tokens_ - 1),  // The first sequence's to deliver, too.
      last_step_(parent.last_step_),
      is_running_(true),
      start_time_(parent.start_time_) {
  block_table_.Append(std::move(blocks));
  MakeSampler();
}

void Sequence::MakeSampler() {
  // Room for everything at once, so that no step has to grow it.
  tokens_.reserve(static_cast<size_t>(prompt_tokens_) + static_cast<size_t>(request().stopping.max_tokens));
  SamplingOptions sampling = request().sampling;
  sampling.seed = SequenceSeed(sampling.seed, request().resume.sequence_index + index_);
  sampler_ =
      std::make_unique<Sampler>(sampling, request().stopping.min_tokens, stop_token_ids_, settings_.vocabulary_size,
                                request().grammar == nullptr ? nullptr : request().grammar->MakeRule());
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const bool is_prompt = std::cmp_less(i, prompt_tokens_);
    sampler_->OnToken(is_prompt ? TokenOrigin::kPrompt : TokenOrigin::kGenerated, tokens_[i]);
  }
  const int32_t max_draft_tokens =
      std::min(request().max_draft_tokens.value_or(settings_.max_draft_tokens), settings_.max_draft_tokens);
  if (max_draft_tokens > 0) prompt_lookup_ = std::make_unique<PromptLookup>(max_draft_tokens);
}

SequencePhase Sequence::phase() const {
  if (end_) return SequencePhase::kFinished;
  if (!is_running_) return SequencePhase::kWaiting;
  return generated_tokens() > 0 && pending_tokens() == 1 ? SequencePhase::kDecoding : SequencePhase::kPrefilling;
}

bool Sequence::RanksBefore(const Sequence& other) const {
  return std::tuple(-request().priority, group_->serial, index_) <
         std::tuple(-other.request().priority, other.group_->serial, other.index_);
}

int32_t Sequence::unscored_positions() const {
  return request().output.context_log_probs ? prompt_tokens_ - 1 - scored_positions_ : 0;
}

NewPromptTokens Sequence::TakeNewPromptTokens() {
  const NewPromptTokens seen{.all = seen_prompt_tokens_, .cached = cached_on_arrival_};
  const NewPromptTokens before = std::exchange(reported_, seen);
  return {.all = seen.all - before.all, .cached = seen.cached - before.cached};
}

void Sequence::Start(Clock::time_point now) {
  is_running_ = true;
  if (start_time_) return;
  start_time_ = now;
  MakeSampler();
}

void Sequence::Preempt() {
  if (cached_tokens_ > 0) ++preemptions_;
  is_running_ = false;
  cached_tokens_ = 0;
  block_table_.Clear();
}

std::unique_ptr<Sequence> Sequence::Fork(BlockPool* pool) {
  const int32_t index = request().num_sequences - unforked_;
  --unforked_;
  return std::unique_ptr<Sequence>(new Sequence(*this, index, pool->Share(block_table_.blocks())));
}

int32_t Sequence::BlockBefore(int32_t block_index) const {
  return block_index == 0 ? PrefixIndex::kNoBlock : block_table_.blocks()[static_cast<size_t>(block_index - 1)];
}

// Positions whose logits are wanted have to be computed, whatever the cache holds.
void Sequence::AdoptCachedBlocks(BlockPool* pool) {
  if (!UsesPrefixCache() || unscored_positions() > 0) return;
  const int32_t block_tokens = pool->block_tokens();
  while (cached_tokens_ % block_tokens == 0 && cached_tokens_ + block_tokens < total_tokens()) {
    const std::span<const int32_t> next =
        tokens().subspan(static_cast<size_t>(cached_tokens_), static_cast<size_t>(block_tokens));
    const std::optional<int32_t> found = pool->FindCached(BlockBefore(block_table_.size()), next);
    if (!found) return;
    block_table_.Append(pool->Share({&*found, 1}));
    cached_tokens_ += block_tokens;
    if (cached_tokens_ <= seen_prompt_tokens_) continue;
    const int32_t seen = std::min(cached_tokens_, prompt_tokens_);
    cached_on_arrival_ += seen - seen_prompt_tokens_;
    seen_prompt_tokens_ = seen;
  }
}

Sequence::CachedPrefix Sequence::FindCachedPrefix(const BlockPool& pool) const {
  CachedPrefix prefix;
  if (!UsesPrefixCache() || unscored_positions() > 0) return prefix;
  const int32_t block_tokens = pool.block_tokens();
  int32_t previous = PrefixIndex::kNoBlock;
  for (int32_t begin = 0; begin + block_tokens < total_tokens(); begin += block_tokens) {
    const std::optional<int32_t> found =
        pool.FindCached(previous, tokens().subspan(static_cast<size_t>(begin), static_cast<size_t>(block_tokens)));
    if (!found) break;
    previous = *found;
    ++prefix.blocks;
    if (pool.holders(*found) > 0) ++prefix.held_by_others;
  }
  return prefix;
}

bool Sequence::MustCopyBlock(const BlockPool& pool) const {
  if (cached_tokens_ % pool.block_tokens() == 0) return false;
  return pool.holders(block_table_.blocks().back()) > 1;
}

void Sequence::ReplaceSharedBlock(BlockReservation copy) {
  block_table_.Replace(block_table_.size() - 1, std::move(copy));
}

void Sequence::CommitCached(int32_t count, BlockReservation blocks, BlockPool* pool) {
  const int32_t first_filled = cached_tokens_ / pool->block_tokens();
  block_table_.Append(std::move(blocks));
  cached_tokens_ += count;
  seen_prompt_tokens_ = std::max(seen_prompt_tokens_, std::min(cached_tokens_, prompt_tokens_));
  if (!UsesPrefixCache()) return;
  for (int32_t i = first_filled; i < cached_tokens_ / pool->block_tokens(); ++i) RememberBlock(i, pool);
}

// Of two blocks with the same history only one is kept: the other sequence's keys and values are as good as its own.
void Sequence::RememberBlock(int32_t block_index, BlockPool* pool) {
  const auto block_tokens = static_cast<size_t>(pool->block_tokens());
  const std::span<const int32_t> held = tokens().subspan(static_cast<size_t>(block_index) * block_tokens, block_tokens);
  const int32_t previous = BlockBefore(block_index);
  if (const std::optional<int32_t> known = pool->FindCached(previous, held)) {
    block_table_.Replace(block_index, pool->Share({&*known, 1}));
  } else {
    pool->Remember(block_table_.blocks()[static_cast<size_t>(block_index)], previous, held);
  }
}

void Sequence::AppendToken(int32_t token_id) {
  tokens_.push_back(token_id);
  sampler_->OnToken(TokenOrigin::kGenerated, token_id);
}

void Sequence::NoteTokenTime(Clock::time_point now) {
  if (!first_token_time_) first_token_time_ = now;
  last_token_time_ = now;
}

std::optional<SequenceEnd> Sequence::NaturalEnd() const {
  const int32_t generated = generated_tokens();
  if (generated > 0 && std::ranges::find(stop_token_ids_, tokens_.back()) != stop_token_ids_.end()) {
    return SequenceEnd::Stop(tokens_.back());
  }
  // A request for scores only (max_tokens 0) ends here with its prompt.
  const bool has_all_tokens = generated == request().stopping.max_tokens && (generated > 0 || pending_tokens() == 0);
  if (has_all_tokens) return SequenceEnd::Length();
  return std::nullopt;
}

void Sequence::End(SequenceEnd end) {
  end_ = std::move(end);
  block_table_.Clear();
}

FinishedSummary Sequence::Summarize(Clock::time_point now) const {
  FinishedSummary summary;
  summary.sequence_index = index_;
  summary.reason = end_->reason;
  summary.stop_token_id = end_->stop_token_id;
  summary.error = end_->error;
  summary.prompt_tokens = prompt_tokens_;
  summary.cached_prompt_tokens = cached_on_arrival_;
  summary.completion_tokens = generated_tokens();
  summary.preemptions = preemptions_;
  summary.queue = Between(request().arrival, start_time_.value_or(now));
  if (start_time_) summary.prefill = Between(*start_time_, first_token_time_.value_or(now));
  if (first_token_time_) {
    summary.decode = Between(*first_token_time_, *last_token_time_);
    summary.time_to_first_token = Between(request().arrival, *first_token_time_);
  }
  return summary;
}

}  // namespace naiad
