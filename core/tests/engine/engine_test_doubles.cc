#include "tests/engine/engine_test_doubles.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "sampling/counter_random.h"

namespace naiad::testing {
namespace {

constexpr int32_t kNothingCached = -1;
constexpr float kPeak = 4.0F;
constexpr std::chrono::milliseconds kStepTime{1000};
constexpr std::chrono::milliseconds kTokenTime{20};

EngineOptions WithClock(EngineOptions options, const FakeModelLog* log) {
  options.now = [log] { return Clock::now() + log->spent; };
  return options;
}

uint64_t Extend(uint64_t digest, int32_t token_id) {
  return MixBits(digest * 31 + static_cast<uint64_t>(token_id) + 1);
}

void FillLogits(uint64_t digest, std::span<float> row) {
  for (size_t i = 0; i < row.size(); ++i) row[i] = static_cast<float>(2.0 * UniformAt(digest, i));
  row[digest % row.size()] += kPeak;
}

void AppendLogProbs(const LogProbs& more, LogProbs* all) {
  all->chosen.insert(all->chosen.end(), more.chosen.begin(), more.chosen.end());
  all->top_ids.insert(all->top_ids.end(), more.top_ids.begin(), more.top_ids.end());
  all->top_values.insert(all->top_values.end(), more.top_values.begin(), more.top_values.end());
  if (more.top_count > 0) all->top_count = more.top_count;
}

class RecordingSink final : public GenerationSink {
 public:
  explicit RecordingSink(Recordings recordings) : recordings_(std::move(recordings)) {}
  void OnDelta(TokenDelta delta) override { Of(delta.sequence_index).Add(delta); }
  void OnFinished(TokenDelta last, const FinishedSummary& summary) override {
    EXPECT_FALSE(is_over_) << "a request was heard of after its end";
    EXPECT_EQ(last.sequence_index, summary.sequence_index);
    is_over_ = summary.is_last;
    Of(summary.sequence_index).Finish(last, summary);
  }
  bool IsAbandoned() const override { return recordings_.front()->is_abandoned; }

 private:
  Recording& Of(int32_t sequence_index) { return *recordings_.at(static_cast<size_t>(sequence_index)); }

  const Recordings recordings_;
  bool is_over_ = false;
};

}  // namespace

uint64_t HistoryDigest(std::span<const int32_t> tokens) {
  uint64_t digest = 0;
  for (const int32_t token_id : tokens) digest = Extend(digest, token_id);
  return digest;
}

std::vector<float> ExpectedLogits(std::span<const int32_t> history) {
  std::vector<float> row(kVocabularySize);
  FillLogits(HistoryDigest(history), row);
  return row;
}

std::vector<int32_t> ExpectedGreedy(std::vector<int32_t> prompt, int32_t count, int64_t memory_tokens) {
  const size_t prompt_tokens = prompt.size();
  for (int32_t i = 0; i < count; ++i) {
    const auto remembered = std::min(prompt.size(), static_cast<size_t>(memory_tokens));
    const uint64_t digest = HistoryDigest(std::span(prompt).last(remembered));
    prompt.push_back(static_cast<int32_t>(digest % kVocabularySize));
  }
  return {prompt.begin() + static_cast<std::ptrdiff_t>(prompt_tokens), prompt.end()};
}

FakeModel::FakeModel(DecoderShape shape, FakeModelLog* log)
    : shape_(shape),
      log_(log),
      cache_(static_cast<size_t>(shape.num_blocks) * static_cast<size_t>(shape.block_tokens), kNothingCached) {}

int32_t& FakeModel::Slot(const PackedBatch& batch, size_t sequence, int64_t position) {
  const auto column = static_cast<size_t>(position / shape_.block_tokens);
  const int32_t block = batch.block_table[sequence * static_cast<size_t>(batch.block_columns) + column];
  return cache_.at(static_cast<size_t>(block * shape_.block_tokens + position % shape_.block_tokens));
}

void FakeModel::CheckShapes(const PackedBatch& batch) const {
  const size_t sequences = batch.past_lens.size();
  ASSERT_EQ(batch.position_ids.size(), batch.input_ids.size());
  ASSERT_EQ(batch.cu_seqlens.size(), sequences + 1);
  ASSERT_EQ(batch.block_table.size(), sequences * static_cast<size_t>(batch.block_columns));
  ASSERT_EQ(batch.cu_seqlens.front(), 0);
  ASSERT_TRUE(std::cmp_equal(batch.cu_seqlens.back(), batch.input_ids.size()));
  ASSERT_FALSE(batch.logit_rows.empty());
  ASSERT_TRUE(std::ranges::is_sorted(batch.logit_rows, std::ranges::less_equal{}));
  ASSERT_LT(batch.logit_rows.back(), batch.cu_seqlens.back());
}

Status FakeModel::Run(const PackedBatch& batch, std::span<float>* logits) {
  CheckShapes(batch);
  ++log_->runs;
  // Far more than a run really takes, so that what the engine learns of costs does not depend on the machine.
  log_->spent += kStepTime + kTokenTime * static_cast<int64_t>(batch.input_ids.size());
  log_->step_tokens.push_back(static_cast<int32_t>(batch.input_ids.size()));
  log_->step_logit_rows.push_back(static_cast<int32_t>(batch.logit_rows.size()));
  if (Status status = log_->before_run(batch); !status.ok()) return status;
  std::vector<size_t> sequence_of_row;
  for (size_t sequence = 0; sequence < batch.past_lens.size(); ++sequence) {
    const auto begin = static_cast<size_t>(batch.cu_seqlens[sequence]);
    const auto end = static_cast<size_t>(batch.cu_seqlens[sequence + 1]);
    for (size_t row = begin; row < end; ++row) {
      EXPECT_TRUE(
          std::cmp_equal(batch.position_ids[row], static_cast<size_t>(batch.past_lens[sequence]) + row - begin));
      Slot(batch, sequence, batch.position_ids[row]) = static_cast<int32_t>(batch.input_ids[row]);
      sequence_of_row.push_back(sequence);
    }
  }
  const auto width = static_cast<size_t>(shape_.vocabulary_size);
  logits_.resize(batch.logit_rows.size() * width);
  for (size_t i = 0; i < batch.logit_rows.size(); ++i) {
    const auto row = static_cast<size_t>(batch.logit_rows[i]);
    uint64_t digest = 0;
    const int64_t end = batch.position_ids[row] + 1;
    for (int64_t position = std::max<int64_t>(0, end - log_->memory_tokens); position < end; ++position) {
      digest = Extend(digest, Slot(batch, sequence_of_row[row], position));
    }
    FillLogits(digest, std::span(logits_).subspan(i * width, width));
  }
  *logits = logits_;
  return Status::Ok();
}

Status FakeModel::CopyBlocks(std::span<const BlockCopy> copies) {
  for (const BlockCopy& copy : copies) {
    EXPECT_NE(copy.source, copy.target);
    for (int32_t i = 0; i < shape_.block_tokens; ++i) {
      cache_.at(static_cast<size_t>(copy.target * shape_.block_tokens + i)) =
          cache_.at(static_cast<size_t>(copy.source * shape_.block_tokens + i));
    }
    ++log_->copied_blocks;
  }
  return Status::Ok();
}

void Recording::AddLocked(const TokenDelta& delta) {
  EXPECT_EQ(finish_count_, 0) << "a sequence was heard of after its end";
  EXPECT_TRUE(delta.context_log_probs.chosen.empty() || tokens_.empty()) << "context scores after a new token";
  tokens_.insert(tokens_.end(), delta.token_ids.begin(), delta.token_ids.end());
  AppendLogProbs(delta.log_probs, &log_probs_);
  AppendLogProbs(delta.context_log_probs, &context_log_probs_);
}

void Recording::Add(const TokenDelta& delta) {
  {
    const std::lock_guard lock(mutex_);
    AddLocked(delta);
    ++delta_count_;
  }
  changed_.notify_all();
}

void Recording::Finish(const TokenDelta& last, const FinishedSummary& summary) {
  {
    const std::lock_guard lock(mutex_);
    AddLocked(last);
    summary_ = summary;
    ++finish_count_;
  }
  changed_.notify_all();
}

void Recording::WaitUntilFinished() const {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return finish_count_ > 0; });
}

void Recording::WaitForToken() const {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return finish_count_ > 0 || !tokens_.empty(); });
}

bool Recording::is_finished() const {
  const std::lock_guard lock(mutex_);
  return finish_count_ == 1;
}

std::vector<int32_t> Recording::tokens() const {
  const std::lock_guard lock(mutex_);
  return tokens_;
}

LogProbs Recording::log_probs() const {
  const std::lock_guard lock(mutex_);
  return log_probs_;
}

LogProbs Recording::context_log_probs() const {
  const std::lock_guard lock(mutex_);
  return context_log_probs_;
}

FinishedSummary Recording::summary() const {
  const std::lock_guard lock(mutex_);
  return summary_;
}

int32_t Recording::delta_count() const {
  const std::lock_guard lock(mutex_);
  return delta_count_;
}

GenerationRequest MakeRequest(std::string id, std::vector<int32_t> prompt, int32_t max_tokens, Recordings recordings) {
  GenerationRequest request;
  request.id = std::move(id);
  request.prompt_token_ids = std::move(prompt);
  request.stopping.max_tokens = max_tokens;
  request.sink = std::make_unique<RecordingSink>(std::move(recordings));
  return request;
}

GenerationRequest MakeRequest(std::string id, std::vector<int32_t> prompt, int32_t max_tokens,
                              const std::shared_ptr<Recording>& recording) {
  return MakeRequest(std::move(id), std::move(prompt), max_tokens, Recordings{recording});
}

std::string NumberedId(std::string_view name, size_t number) {
  std::string id(name);
  id += std::to_string(number);
  return id;
}

std::vector<int32_t> MakePrompt(int32_t count, int32_t salt) {
  std::vector<int32_t> prompt;
  for (int32_t i = 0; i < count; ++i) {
    prompt.push_back(static_cast<int32_t>(MixBits(static_cast<uint64_t>(salt * 7919 + i)) % kVocabularySize));
  }
  return prompt;
}

EngineBench::EngineBench(EngineOptions options, int32_t num_blocks, int32_t context_length_tokens)
    : engine(WithClock(std::move(options), &log),
             std::make_unique<FakeModel>(DecoderShape{.vocabulary_size = kVocabularySize,
                                                      .context_length_tokens = context_length_tokens,
                                                      .num_blocks = num_blocks,
                                                      .block_tokens = kBlockTokens},
                                         &log),
             observer) {}

std::shared_ptr<Recording> EngineBench::Submit(const std::string& id, std::vector<int32_t> prompt, int32_t max_tokens,
                                               const std::function<void(GenerationRequest&)>& change) {
  auto recording = std::make_shared<Recording>();
  GenerationRequest request = MakeRequest(id, std::move(prompt), max_tokens, recording);
  change(request);
  const Status status = engine.Submit(std::move(request));
  EXPECT_TRUE(status.ok()) << status.message();
  return recording;
}

Recordings EngineBench::SubmitSeveral(const std::string& id, std::vector<int32_t> prompt, int32_t max_tokens,
                                      int32_t num_sequences, const std::function<void(GenerationRequest&)>& change) {
  Recordings recordings;
  for (int32_t i = 0; i < num_sequences; ++i) recordings.push_back(std::make_shared<Recording>());
  Submit(id, std::move(prompt), max_tokens, [&](GenerationRequest& request) {
    request.num_sequences = num_sequences;
    request.sink = std::make_unique<RecordingSink>(recordings);
    change(request);
  });
  return recordings;
}

bool EngineBench::Step() {
  const bool has_worked = engine.Step();
  const std::vector<std::string> violations = FindCacheViolations(engine.SnapshotCache());
  EXPECT_TRUE(violations.empty()) << violations.front();
  return has_worked;
}

void EngineBench::RunUntilIdle() {
  constexpr int32_t kTooManySteps = 1'000'000;
  int32_t steps = 0;
  while (Step()) ASSERT_LT(++steps, kTooManySteps) << "the engine never gets idle";
  ExpectNoBlockHeld();
}

void EngineBench::ExpectNoBlockHeld() {
  const CacheSnapshot snapshot = engine.SnapshotCache();
  EXPECT_TRUE(std::cmp_equal(snapshot.free_blocks.size() + snapshot.cached_blocks.size(), snapshot.num_blocks));
  EXPECT_TRUE(snapshot.sequences.empty());
}

}  // namespace naiad::testing
