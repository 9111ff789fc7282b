#include "triton/deadline.h"

#include <string>

namespace naiad {

Status ReadDeadline(ParameterReader& parameters, Clock::time_point arrival,
                    std::optional<Clock::time_point>* deadline) {
  if (!parameters.Has(kTimeoutParameter)) return Status::Ok();
  const int64_t timeout_us = parameters.Int64(kTimeoutParameter, 1);
  if (timeout_us < 1 || timeout_us > kMaxTimeoutUs) {
    return Status::InvalidArgument(std::string(kTimeoutParameter) + " is " + std::to_string(timeout_us) +
                                   "; it must be from 1 to " + std::to_string(kMaxTimeoutUs));
  }
  *deadline = arrival + std::chrono::microseconds(timeout_us);
  return Status::Ok();
}

}  // namespace naiad
