// One request inside the engine: its tokens, how many of them are in the cache, and what it has delivered.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "cache/block_pool.h"
#include "engine/request.h"
#include "sampling/sampler.h"

namespace naiad {

// Waiting -> prefilling -> decoding -> finished; from any phase to finished. Follows from the counters, so that it
// cannot disagree with them: a sequence prefills whenever more than its newest token is missing in the cache.
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

// Engine thread only.
class Sequence {
 public:
  // `request` must have been validated. `eos_token_ids` are the model's own stop tokens.
  Sequence(uint64_t serial, GenerationRequest request, std::span<const int32_t> eos_token_ids);

  [[nodiscard]] uint64_t serial() const { return serial_; }
  [[nodiscard]] const GenerationRequest& request() const { return request_; }
  [[nodiscard]] GenerationSink& sink() const { return *request_.sink; }
  [[nodiscard]] SequencePhase phase() const;

  // --- Counters. Positions are always derived from tokens in the cache, never from the number of new tokens.
  [[nodiscard]] std::span<const int32_t> tokens() const { return tokens_; }  // Prompt, then new tokens.
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
  // Blocks that the request can ever need.
  [[nodiscard]] int32_t promised_blocks(int32_t block_tokens) const;

  // --- Life.
  // Leaves the queue.
  void Start(Clock::time_point now, int32_t vocabulary_size);
  // Only after Start.
  [[nodiscard]] const Sampler& sampler() const { return *sampler_; }
  // `count` more tokens are in the cache, `blocks` hold what did not fit the blocks before.
  void CommitCached(int32_t count, BlockReservation blocks, int64_t step);
  void CommitScored(int32_t count) { scored_positions_ += count; }
  void CommitToken(int32_t token_id, Clock::time_point now);
  // Whether its newest token, or having nothing more to do, ends the sequence by itself, and how.
  [[nodiscard]] std::optional<SequenceEnd> NaturalEnd() const;
  // Sets the end and gives all blocks back. Once.
  void End(SequenceEnd end);
  [[nodiscard]] bool has_ended() const { return end_.has_value(); }

  // --- Times.
  [[nodiscard]] std::optional<Clock::time_point> first_token_time() const { return first_token_time_; }
  [[nodiscard]] std::optional<Clock::time_point> last_token_time() const { return last_token_time_; }
  // Must have ended, at `now`.
  [[nodiscard]] FinishedSummary Summarize(Clock::time_point now) const;

 private:
  const uint64_t serial_;
  GenerationRequest request_;
  const int32_t prompt_tokens_;
  std::vector<int32_t> tokens_;
  std::vector<int32_t> stop_token_ids_;  // Of the request and, unless it ignores them, of the model.
  int32_t cached_tokens_ = 0;
  int32_t scored_positions_ = 0;
  int64_t last_step_ = -1;
  BlockTable block_table_;
  std::unique_ptr<Sampler> sampler_;
  std::optional<SequenceEnd> end_;
  std::optional<Clock::time_point> start_time_;
  std::optional<Clock::time_point> first_token_time_;
  std::optional<Clock::time_point> last_token_time_;
};

}  // namespace naiad
