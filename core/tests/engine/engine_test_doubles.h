// Doubles for engine tests: a model with a closed-form answer, a sink and an observer that record, and short cuts.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"

namespace naiad::testing {

inline constexpr int32_t kVocabularySize = 64;
inline constexpr int32_t kBlockTokens = 4;
inline constexpr int64_t kWholeHistory = std::numeric_limits<int64_t>::max();

// Digest of a token history: the fake model's state.
[[nodiscard]] uint64_t HistoryDigest(std::span<const int32_t> tokens);
// The fake model's logits after a history: noise, and a peak at token digest % vocabulary.
[[nodiscard]] std::vector<float> ExpectedLogits(std::span<const int32_t> history);
// What greedy decoding must give: `count` tokens after `prompt`.
[[nodiscard]] std::vector<int32_t> ExpectedGreedy(std::vector<int32_t> prompt, int32_t count,
                                                  int64_t memory_tokens = kWholeHistory);

// What the fake model has been asked, and how it shall answer. Lives as long as the test, longer than the engine.
struct FakeModelLog {
  std::function<Status(const PackedBatch&)> before_run = [](const PackedBatch&) { return Status::Ok(); };
  int32_t runs = 0;
  int32_t copied_blocks = 0;
  std::chrono::milliseconds spent{0};     // Time that runs pretend to take.
  int64_t memory_tokens = kWholeHistory;  // How many of the newest tokens the logits depend on.
  std::vector<int32_t> step_tokens;
  std::vector<int32_t> step_logit_rows;
};

// Keeps token ids in a pool of blocks in place of keys and values, and computes each row of logits from the whole
// history that it reads back through the block table. A wrong table, position or length gives wrong tokens. Also checks
// the shape of every batch.
class FakeModel final : public ModelRunner {
 public:
  FakeModel(DecoderShape shape, FakeModelLog* log);
  const DecoderShape& shape() const override { return shape_; }
  Status Run(const PackedBatch& batch, std::span<float>* logits) override;
  Status CopyBlocks(std::span<const BlockCopy> copies) override;

 private:
  void CheckShapes(const PackedBatch& batch) const;
  int32_t& Slot(const PackedBatch& batch, size_t sequence, int64_t position);

  const DecoderShape shape_;
  FakeModelLog* const log_;
  std::vector<int32_t> cache_;  // [num_blocks, block_tokens]
  std::vector<float> logits_;
};

// Everything a sink was told. Thread-safe, because engine threads write it.
class Recording {
 public:
  void Add(const TokenDelta& delta);
  void Finish(const TokenDelta& last, const FinishedSummary& summary);
  void WaitUntilFinished() const;
  void WaitForToken() const;

  [[nodiscard]] bool is_finished() const;
  [[nodiscard]] std::vector<int32_t> tokens() const;
  [[nodiscard]] LogProbs log_probs() const;
  [[nodiscard]] LogProbs context_log_probs() const;
  [[nodiscard]] FinishedSummary summary() const;
  [[nodiscard]] int32_t delta_count() const;

  bool is_abandoned = false;  // Set between steps only.

 private:
  void AddLocked(const TokenDelta& delta);

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::vector<int32_t> tokens_;
  LogProbs log_probs_;
  LogProbs context_log_probs_;
  FinishedSummary summary_;
  int32_t delta_count_ = 0;
  int32_t finish_count_ = 0;
};

// Of the sequences of one request.
using Recordings = std::vector<std::shared_ptr<Recording>>;

// A request whose results go to `recordings`, one for each of its sequences.
[[nodiscard]] GenerationRequest MakeRequest(std::string id, std::vector<int32_t> prompt, int32_t max_tokens,
                                            Recordings recordings);
// A request whose results go to `recording`.
[[nodiscard]] GenerationRequest MakeRequest(std::string id, std::vector<int32_t> prompt, int32_t max_tokens,
                                            const std::shared_ptr<Recording>& recording);
// For instance "stream7".
[[nodiscard]] std::string NumberedId(std::string_view name, size_t number);
// `count` token ids that follow from `salt`.
[[nodiscard]] std::vector<int32_t> MakePrompt(int32_t count, int32_t salt);

class RecordingObserver final : public EngineObserver {
 public:
  void OnStep(const StepStats& stats) override { steps.push_back(stats); }
  void OnLoad(const EngineLoad& load) override { last_load = load; }
  void OnInterToken(std::chrono::microseconds /*gap*/) override { ++inter_tokens; }
  void OnFirstToken(std::chrono::microseconds /*time*/) override { ++first_tokens; }
  void OnFinished(const FinishedSummary& summary, std::chrono::microseconds /*total*/) override {
    ++finished[summary.reason];
  }
  void OnPreemption() override { ++preemptions; }
  void OnWork(const EngineWork& turn) override { work.push_back(turn); }
  // From the threads that submit.
  void OnRejected(ErrorCode code) override {
    const std::lock_guard lock(rejected_mutex);
    ++rejected[code];
  }

  std::vector<StepStats> steps;
  std::vector<EngineWork> work;
  EngineLoad last_load;
  int32_t inter_tokens = 0;
  int32_t first_tokens = 0;
  int32_t preemptions = 0;
  std::map<FinishReason, int32_t> finished;
  std::mutex rejected_mutex;
  std::map<ErrorCode, int32_t> rejected;
};

// An engine on the fake model, stepped by hand.
class EngineBench {
 public:
  explicit EngineBench(EngineOptions options = {}, int32_t num_blocks = 256, int32_t context_length_tokens = 1024);

  // Submits, expects success, and gives the recording.
  std::shared_ptr<Recording> Submit(
      const std::string& id, std::vector<int32_t> prompt, int32_t max_tokens,
      const std::function<void(GenerationRequest&)>& change = [](GenerationRequest&) {});
  // A request of several sequences.
  Recordings SubmitSeveral(
      const std::string& id, std::vector<int32_t> prompt, int32_t max_tokens, int32_t num_sequences,
      const std::function<void(GenerationRequest&)>& change = [](GenerationRequest&) {});
  // One step, after which the cache's invariants are expected to hold.
  bool Step();
  // Steps until there is nothing to do; then all blocks are expected to be free or cached.
  void RunUntilIdle();
  void ExpectNoBlockHeld();

  FakeModelLog log;
  RecordingObserver observer;
  Engine engine;
};

}  // namespace naiad::testing
