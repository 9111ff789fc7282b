// The time that a request has left, as clients of the backend say it.
#pragma once

#include <optional>

#include "engine/request.h"
#include "engine/status.h"
#include "triton/parameter_reader.h"

namespace naiad {

constexpr char kTimeoutParameter[] = "timeout_us";
constexpr int64_t kMaxTimeoutUs = 86'400'000'000;  // A day.

// `arrival` plus the parameter timeout_us; left empty when there is none. kInvalidArgument unless it is from 1 to
// kMaxTimeoutUs. Triton keeps its own parameter "timeout" for itself, and heeds it only where Triton does the batching.
Status ReadDeadline(ParameterReader& parameters, Clock::time_point arrival, std::optional<Clock::time_point>* deadline);

}  // namespace naiad
