// One continuation of a request's prompt inside the engine: its tokens, and how many of them are in the cache.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "cache/block_pool.h"
#include "engine/prompt_lookup.h"
#include "engine/request.h"
#include "sampling/sampler.h"

namespace naiad {

// Waiting -> prefilling -> decoding -> finished; from any phase to finished, and from a running one back to waiting
// when the sequence is preempted. Prefilling and decoding follow from the counters, so that they cannot disagree with
// them: a sequence prefills whenever more than its newest token is missing in the cache.
enum class SequencePhase { kWaiting, kPrefilling, kDecoding, kFinished };

// Why and when a sequence ended.
struct SequenceEnd {
  FinishReason reason = FinishReason::kStop;
  std::optional<int32_t> stop_token_id;
  Status error;

  static SequenceEnd Stop(int32_t token_id) { return {FinishReason::kStop, token_id, {}}; }
  static SequenceEnd Length() { return {FinishReason::kLength, {}, {}}; }
  static SequenceEnd Cancelled() { return {FinishReason::kCancelled, {}, {}}; }
  static SequenceEnd Error(Status error) { return {FinishReason::kError, {}, std::move(error)}; }
};

// A request with what its sequences share.
struct RequestGroup {
  uint64_t serial = 0;  // Grows with arrival.
  GenerationRequest request;
  int32_t unfinished_sequences = 1;
};

// What the engine gives every sequence.
struct SequenceSettings {
  std::span<const int32_t> eos_token_ids;  // The model's own stop tokens.
  int32_t vocabulary_size = 0;
  int32_t max_draft_tokens = 0;  // The engine's limit; 0 = no speculation.
};

// Prompt tokens that are in the cache for the first time.
struct NewPromptTokens {
  int32_t all = 0;
  int32_t cached = 0;  // Of these, found there; the others were computed.
};

// Engine thread only.
class Sequence {
 public:
  // The first sequence of a request, which stands for all of them until it forks. The request must have been validated.
  Sequence(std::shared_ptr<RequestGroup> group, const SequenceSettings& settings);

  [[nodiscard]] const GenerationRequest& request() const { return group_->request; }
  [[nodiscard]] RequestGroup& group() const { return *group_; }
  [[nodiscard]] GenerationSink& sink() const { return *group_->request.sink; }
  // Which of the request's sequences it is.
  [[nodiscard]] int32_t index() const { return index_; }
  [[nodiscard]] SequencePhase phase() const;
  // Higher priority first, then earlier arrival, then lower index: who is served first, and preempted last.
  [[nodiscard]] bool RanksBefore(const Sequence& other) const;

  // --- Counters. Positions are always derived from tokens in the cache, never from the number of new tokens.
  [[nodiscard]] std::span<const int32_t> tokens() const { return tokens_; }  // Prompt, then new (or resumed) tokens.
  [[nodiscard]] int32_t total_tokens() const { return static_cast<int32_t>(tokens_.size()); }
  [[nodiscard]] int32_t prompt_tokens() const { return prompt_tokens_; }
  [[nodiscard]] int32_t generated_tokens() const { return total_tokens() - prompt_tokens_; }
  [[nodiscard]] int32_t cached_tokens() const { return cached_tokens_; }
  [[nodiscard]] int32_t pending_tokens() const { return total_tokens() - cached_tokens_; }
  // Context log-probs still to be computed, of positions scored_positions() .. prompt_tokens()-2.
  [[nodiscard]] int32_t scored_positions() const { return scored_positions_; }
  [[nodiscard]] int32_t unscored_positions() const;
  [[nodiscard]] int64_t last_step() const { return last_step_; }
  [[nodiscard]] const BlockTable& block_table() const { return block_table_; }
  // What is new since the last call.
  [[nodiscard]] NewPromptTokens TakeNewPromptTokens();

  // --- Life.
  // Leaves the queue; again after a preemption.
  void Start(Clock::time_point now);
  [[nodiscard]] bool has_ever_started() const { return start_time_.has_value(); }
  // Gives all blocks back and goes back to the queue; its tokens, and what it draws next, stay.
  void Preempt();
  // Sequences of the request that it still stands for beside itself.
  [[nodiscard]] int32_t unforked() const { return unforked_; }
  // True when only the last token of the prompt is left to compute, which each of the request's sequences does itself.
  [[nodiscard]] bool IsReadyToFork() const { return unforked_ > 0 && pending_tokens() == 1; }
  // Gives the next of the sequences that it stands for; they hold its blocks together.
  [[nodiscard]] std::unique_ptr<Sequence> Fork(BlockPool* pool);

  // --- Cache.
  // Takes over blocks in the index that hold the next of its tokens. At least one token stays to be computed.
  void AdoptCachedBlocks(BlockPool* pool);
  // Blocks that hold its first tokens in the index, of which `held_by_others` are held by running sequences.
  struct CachedPrefix {
    int32_t blocks = 0;
    int32_t held_by_others = 0;
  };
  [[nodiscard]] CachedPrefix FindCachedPrefix(const BlockPool& pool) const;
  // Whether the block that its next token goes to is held by others too, and so has to be copied first.
  [[nodiscard]] bool MustCopyBlock(const BlockPool& pool) const;
  // Puts the one block of `copy` in place of the block that MustCopyBlock is about.
  void ReplaceSharedBlock(BlockReservation copy);
  // `count` more tokens are in the cache, `blocks` hold what did not fit the blocks before. Makes blocks that are full
  // now known to `pool`, or takes over those that already are.
  void CommitCached(int32_t count, BlockReservation blocks, BlockPool* pool);
  void NoteStep(int64_t step) { last_step_ = step; }
  void CommitScored(int32_t count) { scored_positions_ += count; }

  // --- Tokens.
  // Only after Start.
  [[nodiscard]] const Sampler& sampler() const { return *sampler_; }
  // Null without speculation.
  [[nodiscard]] PromptLookup* prompt_lookup() const { return prompt_lookup_.get(); }
  void AppendToken(int32_t token_id);
  void NoteTokenTime(Clock::time_point now);
  // Whether its newest token, or having nothing more to do, ends the sequence by itself, and how.
  [[nodiscard]] std::optional<SequenceEnd> NaturalEnd() const;
  // Sets the end and gives all blocks back. Once.
  void End(SequenceEnd end);
  [[nodiscard]] bool has_ended() const { return end_.has_value(); }

  // --- Times.
  [[nodiscard]] std::optional<Clock::time_point> first_token_time() const { return first_token_time_; }
  [[nodiscard]] std::optional<Clock::time_point> last_token_time() const { return last_token_time_; }
  // Must have ended, at `now`. `is_last` is left for the caller to set.
  [[nodiscard]] FinishedSummary Summarize(Clock::time_point now) const;

 private:
  Sequence(const Sequence& parent, int32_t index, BlockReservation blocks);
  void MakeSampler();
  [[nodiscard]] bool UsesPrefixCache() const { return request().use_prefix_cache; }
  [[nodiscard]] int32_t BlockBefore(int32_t block_index) const;
  void RememberBlock(int32_t block_index, BlockPool* pool);

  const std::shared_ptr<RequestGroup> group_;
  const SequenceSettings settings_;
  const int32_t index_;
  const int32_t prompt_tokens_;
  std::vector<int32_t> tokens_;
  std::vector<int32_t> stop_token_ids_;  // Of the request and, unless it ignores them, of the model.
  int32_t unforked_ = 0;
  int32_t cached_tokens_ = 0;
  int32_t cached_on_arrival_ = 0;   // Prompt tokens that were in the cache already.
  int32_t seen_prompt_tokens_ = 0;  // Prompt tokens that have been in the cache at some time.
  NewPromptTokens reported_;
  int32_t scored_positions_ = 0;
  int32_t preemptions_ = 0;
  int64_t last_step_ = -1;
  bool is_running_ = false;
  BlockTable block_table_;
  std::unique_ptr<Sampler> sampler_;
  std::unique_ptr<PromptLookup> prompt_lookup_;
  std::optional<SequenceEnd> end_;
  std::optional<Clock::time_point> start_time_;
  std::optional<Clock::time_point> first_token_time_;
  std::optional<Clock::time_point> last_token_time_;
};

// Puts `sequence` into its place among `sequences`, which are in order of rank.
template <typename Sequences>
void InsertByRank(std::unique_ptr<Sequence> sequence, Sequences* sequences) {
  auto place = sequences->end();
  while (place != sequences->begin() && sequence->RanksBefore(**std::prev(place))) --place;
  sequences->insert(place, std::move(sequence));
}

}  // namespace naiad
