#include "triton/status_codes.h"

namespace naiad {
namespace {

// Triton has fewer codes; clients of ours read the name in the message instead.
TRITONSERVER_Error_Code TritonCode(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return TRITONSERVER_ERROR_INVALID_ARG;
    case ErrorCode::kResourceExhausted:
    case ErrorCode::kUnavailable:
    case ErrorCode::kDeadlineExceeded:
      return TRITONSERVER_ERROR_UNAVAILABLE;
    case ErrorCode::kCancelled:
      return TRITONSERVER_ERROR_CANCELLED;
    case ErrorCode::kOk:
    case ErrorCode::kInternal:
      return TRITONSERVER_ERROR_INTERNAL;
  }
  return TRITONSERVER_ERROR_INTERNAL;
}

void Log(TRITONSERVER_LogLevel level, const std::string& message) {
  // A log line that cannot be written has nowhere to be reported.
  TRITONSERVER_Error* error = TRITONSERVER_LogMessage(level, "naiad", 0, message.c_str());
  if (error != nullptr) TRITONSERVER_ErrorDelete(error);
}

}  // namespace

Status TakeTritonError(TRITONSERVER_Error* error) {
  if (error == nullptr) return Status::Ok();
  Status status = Status::Internal(TRITONSERVER_ErrorMessage(error));
  TRITONSERVER_ErrorDelete(error);
  return status;
}

TRITONSERVER_Error* NewTritonError(const Status& status) {
  if (status.ok()) return nullptr;
  return TRITONSERVER_ErrorNew(TritonCode(status.code()), status.message().c_str());
}

TRITONSERVER_Error* NewClientError(const Status& status) {
  if (status.ok()) return nullptr;
  std::string message = "[";
  message.append(ErrorCodeName(status.code())).append("] ").append(status.message());
  return TRITONSERVER_ErrorNew(TritonCode(status.code()), message.c_str());
}

void LogInfo(const std::string& message) { Log(TRITONSERVER_LOG_INFO, message); }

void LogError(const std::string& message) { Log(TRITONSERVER_LOG_ERROR, message); }

void LogIfFailed(TRITONSERVER_Error* error, const char* what) {
  const Status status = TakeTritonError(error);
  if (!status.ok()) LogError(std::string(what) + ": " + status.message());
}

}  // namespace naiad
