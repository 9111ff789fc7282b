// What a request may ask for.
#pragma once

#include <cstdint>

#include "engine/model_runner.h"
#include "engine/request.h"
#include "engine/status.h"

namespace naiad {

// Bounds on what one request may ask for, the same as in the public API.
inline constexpr float kMaxTemperature = 100.0F;
inline constexpr float kMaxRepetitionPenalty = 10.0F;
inline constexpr float kMaxPresenceOrFrequencyPenalty = 2.0F;  // And not under its negative.
inline constexpr float kMaxLogitBias = 100.0F;                 // And not under its negative.
inline constexpr int32_t kMaxLogitBiasEntries = 1024;
inline constexpr int32_t kMaxStopTokenIds = 64;
inline constexpr int32_t kMaxTopLogProbs = 20;
inline constexpr int32_t kMaxPriority = 100;  // And not under its negative.

// Positions of the cache that a request can ever fill. The last new token is never fed back, so it takes none.
[[nodiscard]] int32_t MaxCachedPositions(const GenerationRequest& request);

// kInvalidArgument with one sentence for the first rule that `request` breaks, the field named first; among the rules,
// that it can fit the model's context and the whole block pool. Nothing is ever clamped.
Status ValidateRequest(const GenerationRequest& request, const DecoderShape& shape);

}  // namespace naiad
