// Doubles for tests of the encoder engine.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "encoder/encoder_request.h"
#include "encoder/encoder_runner.h"
#include "engine/observer.h"

namespace naiad::testing {

// Width 2. One row a token: {id, position + 1000 * type}. One row a sequence: {sum of ids, tokens}. Records the length
// of every sequence of every run.
class FakeRunner final : public EncoderRunner {
 public:
  explicit FakeRunner(EncoderShape shape) : shape_(shape) {}

  [[nodiscard]] const EncoderShape& shape() const override { return shape_; }

  Status Run(const EncoderBatch& batch, std::span<const float>* output) override {
    if (before_run) before_run();
    output_.clear();
    runs.emplace_back();
    for (size_t s = 0; s + 1 < batch.cu_seqlens.size(); ++s) {
      runs.back().push_back(batch.cu_seqlens[s + 1] - batch.cu_seqlens[s]);
      float sum = 0.0F;
      for (int32_t t = batch.cu_seqlens[s]; t < batch.cu_seqlens[s + 1]; ++t) {
        const size_t i = static_cast<size_t>(t);
        const int64_t type = batch.token_type_ids.empty() ? 0 : batch.token_type_ids[i];
        sum += static_cast<float>(batch.input_ids[i]);
        if (shape_.output_per_sequence) continue;
        output_.push_back(static_cast<float>(batch.input_ids[i]));
        output_.push_back(static_cast<float>(batch.position_ids[i] + 1000 * type));
      }
      if (!shape_.output_per_sequence) continue;
      output_.push_back(sum);
      output_.push_back(static_cast<float>(runs.back().back()));
    }
    *output = output_;
    return std::exchange(next_status, Status::Ok());
  }

  std::function<void()> before_run;  // Called by the engine thread.
  Status next_status;                // Of the next run only.
  std::vector<std::vector<int32_t>> runs;

 private:
  const EncoderShape shape_;
  std::vector<float> output_;
};

// What a sink was told; shared with it, as the sink goes away with its request.
class Outcome {
 public:
  void Set(std::optional<EncoderResult> result, Status status) {
    const std::lock_guard lock(mutex_);
    ++calls_;
    result_ = std::move(result);
    status_ = std::move(status);
    changed_.notify_all();
  }
  void Wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return calls_ > 0; });
  }
  int calls() {
    const std::lock_guard lock(mutex_);
    return calls_;
  }
  // Only after the call.
  [[nodiscard]] const EncoderResult& result() const { return result_.value(); }
  [[nodiscard]] const Status& status() const { return status_; }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int calls_ = 0;
  std::optional<EncoderResult> result_;
  Status status_;
};

class OutcomeSink final : public EncoderSink {
 public:
  explicit OutcomeSink(std::shared_ptr<Outcome> outcome) : outcome_(std::move(outcome)) {}
  void OnFinished(EncoderResult result) override { outcome_->Set(std::move(result), Status::Ok()); }
  void OnError(const Status& status) override { outcome_->Set(std::nullopt, status); }

 private:
  std::shared_ptr<Outcome> outcome_;
};

class RecordingObserver final : public EngineObserver {
 public:
  void OnStep(const StepStats& stats) override { steps.push_back(stats); }
  void OnLoad(const EngineLoad& load) override { loads.push_back(load); }
  void OnInterToken(std::chrono::microseconds) override {}
  void OnFirstToken(std::chrono::microseconds) override {}
  void OnFinished(const FinishedSummary& summary, std::chrono::microseconds) override { finished.push_back(summary); }
  void OnPreemption() override {}
  void OnWork(const EngineWork&) override {}
  void OnRejected(ErrorCode code) override {
    const std::lock_guard lock(mutex_);
    rejected.push_back(code);
  }

  std::vector<StepStats> steps;
  std::vector<EngineLoad> loads;
  std::vector<FinishedSummary> finished;
  std::vector<ErrorCode> rejected;

 private:
  std::mutex mutex_;
};

}  // namespace naiad::testing
