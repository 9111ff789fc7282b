// Contract "generate" between the services and Triton: requests in, responses out (docs/contracts.md, section 3).
#pragma once

#include "engine/request.h"
#include "triton/request_contents.h"
#include "triton/response_contents.h"

namespace naiad {

struct DecodedGeneration {
  bool is_stop = false;       // A stop message: only `request.id` counts.
  GenerationRequest request;  // Without its sink.
};

// kInvalidArgument naming the parameter or tensor. Ranges are the engine's to check.
Status DecodeGeneration(const RequestContents& contents, DecodedGeneration* decoded);

// The response views `delta`, which must outlive it.
ResponseContents EncodeDelta(const TokenDelta& delta);
ResponseContents EncodeFinished(const TokenDelta& last, const FinishedSummary& summary);

}  // namespace naiad
