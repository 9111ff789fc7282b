// A request that runs have begun to work on.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "encoder/encoder_request.h"
#include "encoder/encoder_runner.h"
#include "encoder/packed_texts.h"

namespace naiad {

// Sequences of one request that are part of one run: sequences [begin, end) of the run.
struct WorkSlice {
  size_t begin = 0;
  size_t end = 0;
};

// Owned by the engine thread. Sequences are run in order; results are gathered until the last one is there.
class EncoderWork {
 public:
  // The request has passed ValidateEncoderRequest.
  EncoderWork(EncoderRequest request, const EncoderShape& shape, Clock::time_point started);

  // Adds as many of the next sequences as fit into `texts` within `max_tokens`; a sequence that is longer than that
  // goes into an empty run alone.
  WorkSlice AddTo(PackedTexts& texts, size_t max_tokens);

  // Takes the results of the slice's sequences. `output` is the whole run's.
  void Collect(const PackedTexts& texts, const WorkSlice& slice, std::span<const float> output,
               std::chrono::microseconds duration);

  [[nodiscard]] bool all_added() const { return next_sequence_ == request_.sequence_lengths.size(); }
  [[nodiscard]] int32_t tokens() const { return static_cast<int32_t>(request_.input_ids.size()); }
  [[nodiscard]] std::chrono::microseconds queue() const { return result_.queue; }
  [[nodiscard]] std::chrono::microseconds compute() const { return result_.compute; }
  [[nodiscard]] Clock::time_point arrival() const { return request_.arrival; }
  [[nodiscard]] bool IsLate(Clock::time_point now) const { return request_.deadline && now >= *request_.deadline; }

  // Exactly one of these, as the last call.
  void Finish() { request_.sink->OnFinished(std::move(result_)); }
  void Fail(const Status& status) { request_.sink->OnError(status); }

 private:
  EncoderRequest request_;
  EncoderResult result_;
  size_t next_sequence_ = 0;
  size_t next_token_ = 0;    // First token of next_sequence_.
  size_t values_begin_ = 0;  // Where the next result goes.
};

}  // namespace naiad
