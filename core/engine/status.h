// Outcome of an operation inside the core. The core never throws across its seams: a function that can fail returns a
// Status. Triton and gRPC codes appear only in core/triton, in one place.
#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace naiad {

enum class ErrorCode {
  kOk,
  kInvalidArgument,    // The caller's mistake; the message names the field.
  kResourceExhausted,  // A bound was reached; the same request may succeed later.
  kUnavailable,        // The engine is shutting down or poisoned.
  kDeadlineExceeded,
  kCancelled,
  kInternal,  // Our mistake, or the runtime's.
};

// The name of the gRPC status that stands for `code`, for instance "INVALID_ARGUMENT".
[[nodiscard]] std::string_view ErrorCodeName(ErrorCode code);

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(ErrorCode code, std::string message) : code_(code), message_(std::move(message)) {}

  static Status Ok() { return {}; }
  static Status InvalidArgument(std::string message) { return {ErrorCode::kInvalidArgument, std::move(message)}; }
  static Status ResourceExhausted(std::string message) { return {ErrorCode::kResourceExhausted, std::move(message)}; }
  static Status Unavailable(std::string message) { return {ErrorCode::kUnavailable, std::move(message)}; }
  static Status DeadlineExceeded() { return {ErrorCode::kDeadlineExceeded, "the deadline has passed"}; }
  static Status Internal(std::string message) { return {ErrorCode::kInternal, std::move(message)}; }

  [[nodiscard]] bool ok() const { return code_ == ErrorCode::kOk; }
  [[nodiscard]] ErrorCode code() const { return code_; }
  [[nodiscard]] const std::string& message() const { return message_; }

 private:
  ErrorCode code_ = ErrorCode::kOk;
  std::string message_;
};

}  // namespace naiad
