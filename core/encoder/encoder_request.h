// What an encoder request asks for, and how its result comes back.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "encoder/pooling.h"
#include "engine/request.h"
#include "engine/status.h"

namespace naiad {

enum class EncoderOutput {
  kLogits,        // [S, labels]; for a model with one output row a sequence.
  kTokenLogits,   // [T, labels]; for a model that gives logits for each token.
  kEmbeddings,    // [S, hidden], pooled; for a model that gives hidden vectors, as the next one.
  kHiddenStates,  // [T, hidden]
};

struct EncoderResult {
  std::vector<float> values;  // [rows, width]
  int64_t rows = 0;
  int64_t width = 0;
  std::chrono::microseconds queue{0};    // Arrival to the first run that works on the request.
  std::chrono::microseconds compute{0};  // The runs that worked on it, together.
};

// Takes the outcome of one request: exactly one of the calls, once, from the engine thread (or from Shutdown), never
// under a lock of the engine. Must not block, and must not call Shutdown.
class EncoderSink {
 public:
  virtual ~EncoderSink() = default;
  virtual void OnFinished(EncoderResult result) = 0;
  virtual void OnError(const Status& status) = 0;
};

struct EncoderRequest {
  std::string id;
  std::vector<int32_t> input_ids;         // T tokens, sequence after sequence.
  std::vector<int32_t> sequence_lengths;  // S, each at least 1, together T.
  std::vector<int32_t> token_type_ids;    // T, or empty: all 0.
  Pooling pooling = Pooling::kMean;       // For kEmbeddings.
  EncoderOutput output = EncoderOutput::kEmbeddings;
  Clock::time_point arrival = Clock::now();
  // Nobody waits for what comes later: a request that is not complete then ends with kDeadlineExceeded.
  std::optional<Clock::time_point> deadline;
  std::unique_ptr<EncoderSink> sink;
};

}  // namespace naiad
