// Contract "generate" between the services and Triton: requests in, responses out (docs/contracts.md, section 3).
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"
#include "guided/guide.h"
#include "triton/request_contents.h"
#include "triton/response_contents.h"

namespace naiad {

// Where a request wants its new tokens sent together with those of others.
struct DeltaGroupName {
  std::string group;  // The client's stream.
  int32_t key = 0;    // The request in it; at least 0.
};

struct DecodedGeneration {
  bool is_stop = false;                       // A stop message: only `request.id` and `stop_sequence` count.
  std::optional<int32_t> stop_sequence;       // With `is_stop`, the one sequence to end, 0 to 15; absent: all.
  std::optional<GuideSpec> guide;             // To be compiled into `request.grammar`.
  std::optional<DeltaGroupName> delta_group;  // Absent: each delta is a response of its own.
  GenerationRequest request;                  // Without its sink and its grammar.
};

// kInvalidArgument naming the parameter or tensor. Checks what the engine never sees: types, sizes, the guide, and what
// a guide excludes. Ranges of what is handed on are the engine's to check.
Status DecodeGeneration(const RequestContents& contents, DecodedGeneration* decoded);

// Both responses view the delta, which must outlive them.
ResponseContents EncodeDelta(const TokenDelta& delta);
ResponseContents EncodeFinished(const TokenDelta& last, const FinishedSummary& summary);

// The deltas of `delta_count` sequences of one group. `message` has four numbers for each of them (the request's key,
// the sequence's index, how many of its tokens were sent before, how many there are now), then all tokens.
ResponseContents EncodeDeltas(const std::vector<int32_t>& message, int64_t delta_count);

}  // namespace naiad
