// What a generation request asks for, and how its results come back. No Triton and no ONNX Runtime here.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/status.h"

namespace naiad {

using Clock = std::chrono::steady_clock;

constexpr int32_t kMaxSequences = 16;  // Of one request.

struct LogitBias {
  int32_t token_id = 0;
  float bias = 0.0F;
};

// How the next token is chosen. Defaults mean "no effect".
struct SamplingOptions {
  float temperature = 0.0F;  // 0 = greedy.
  int32_t top_k = 0;         // 0 = all tokens.
  float top_p = 1.0F;        // (0, 1].
  float min_p = 0.0F;        // [0, 1].
  float repetition_penalty = 1.0F;
  float presence_penalty = 0.0F;
  float frequency_penalty = 0.0F;
  uint64_t seed = 0;
  std::vector<LogitBias> logit_bias;
};

// A formal language that new tokens must spell. Compiled once, shared by all sequences of a request; immutable.
class LogitsRule;
class Grammar {
 public:
  virtual ~Grammar() = default;
  // The rule that keeps one sequence inside the language; it starts at the language's beginning. It leaves only the
  // model's end tokens once the text is complete and cannot go on.
  [[nodiscard]] virtual std::unique_ptr<LogitsRule> MakeRule() const = 0;
};

// When a sequence ends.
struct StoppingOptions {
  int32_t max_tokens = 0;  // Most new tokens; 0 only together with OutputOptions::context_log_probs.
  int32_t min_tokens = 0;  // No stop token is sampled before this many new tokens.
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;
};

// What is reported beside the tokens.
struct OutputOptions {
  bool log_probs = false;          // Log-probability of each new token under the model, before sampling options.
  int32_t top_log_probs = 0;       // Alternatives per position, most probable first.
  bool context_log_probs = false;  // Log-probabilities of prompt tokens 1 .. n-1.
};

enum class FinishReason { kStop, kLength, kCancelled, kError };

// The wire name of a reason: "stop", "length", "cancelled", "error".
[[nodiscard]] std::string_view FinishReasonName(FinishReason reason);

// Log-probabilities of `count` positions. `top_*` hold `top_count` entries a position, row after row.
struct LogProbs {
  std::vector<float> chosen;
  int32_t top_count = 0;
  std::vector<int32_t> top_ids;
  std::vector<float> top_values;
};

// New tokens of one sequence since its last delta.
struct TokenDelta {
  int32_t sequence_index = 0;      // Which of the request's num_sequences.
  std::vector<int32_t> token_ids;  // A stop token that ended the request is included.
  LogProbs log_probs;              // Empty unless asked for.
  LogProbs context_log_probs;      // Empty unless asked for; comes before any new token, possibly in pieces.
};

// How a sequence ended, and what it cost.
struct FinishedSummary {
  int32_t sequence_index = 0;  // Which of the request's num_sequences.
  bool is_last = true;         // The request's last sequence to end: nothing follows for the request.
  FinishReason reason = FinishReason::kStop;
  std::optional<int32_t> stop_token_id;  // Set if a stop token ended it.
  Status error;                          // Not ok exactly if the reason is kError.
  int32_t prompt_tokens = 0;
  int32_t cached_prompt_tokens = 0;  // Of these, tokens whose keys and values were in the cache on arrival.
  int32_t completion_tokens = 0;
  int32_t preemptions = 0;               // Times it had to give its blocks back and be computed again.
  std::chrono::microseconds queue{0};    // Arrival to the first step that works on the request.
  std::chrono::microseconds prefill{0};  // That step to the first new token.
  std::chrono::microseconds decode{0};   // First new token to the last.
  std::chrono::microseconds time_to_first_token{0};
};

// Takes the results of one request. Called by the engine thread only, never under a lock of the engine; must not block.
// OnFinished is called exactly once for each sequence, as its last call, with the tokens of its last step in `last`;
// the one with `is_last` is the very last call.
class GenerationSink {
 public:
  virtual ~GenerationSink() = default;
  virtual void OnDelta(TokenDelta delta) = 0;
  // The step has handed out all that it has, to whomever. Called for each sequence of the step that goes on.
  virtual void OnStepEnd() {}
  virtual void OnFinished(TokenDelta last, const FinishedSummary& summary) = 0;
  // True when nobody waits for the result any more. Asked at most once a step.
  [[nodiscard]] virtual bool IsAbandoned() const { return false; }
};

// A request that goes on where an earlier one was interrupted. What follows is what would have followed there: the
// tokens of the earlier run count as new ones for max_tokens, min_tokens, penalties, the grammar and the draws.
struct ResumeOptions {
  int32_t tokens = 0;          // Of prompt_token_ids, the last so many are new tokens of the earlier run.
  int32_t sequence_index = 0;  // Which sequence of the earlier request it goes on with.
};

struct GenerationRequest {
  std::string id;                         // Unique among live requests.
  std::vector<int32_t> prompt_token_ids;  // With `resume`, also the new tokens of the earlier run.
  int32_t num_sequences = 1;     // Continuations of the one prompt, which is computed once; sequence i draws with
                                 // SequenceSeed(sampling.seed, i).
  int32_t priority = 0;          // Higher goes first, in the queue and when blocks run out.
  bool use_prefix_cache = true;  // Whether it may use, and leave behind, cached blocks of its prompt.
  std::optional<int32_t> max_draft_tokens;  // Bound of speculation a step; the engine's own limit if absent.
  std::shared_ptr<const Grammar> grammar;   // Null: any text.
  SamplingOptions sampling;
  StoppingOptions stopping;
  OutputOptions output;
  ResumeOptions resume;
  Clock::time_point arrival = Clock::now();
  // Nobody waits for what comes later: what is left of the request then ends with kDeadlineExceeded.
  std::optional<Clock::time_point> deadline;
  std::unique_ptr<GenerationSink> sink;
};

}  // namespace naiad
