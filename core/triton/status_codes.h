// The one place where the core's error codes meet Triton's, and where Triton's log is written.
#pragma once

#include <string>

#include "engine/status.h"
#include "triton/abi.h"

namespace naiad {

// Takes a result of Triton: nullptr is ok, anything else becomes kInternal with its message, and is deleted.
Status TakeTritonError(TRITONSERVER_Error* error);

// A new error with the plain message, for the log of a failed load; nullptr if `status` is ok. The caller owns it.
[[nodiscard]] TRITONSERVER_Error* NewTritonError(const Status& status);

// The same for clients: the message starts with "[STATUS_NAME] ", because Triton has no code for several of ours.
[[nodiscard]] TRITONSERVER_Error* NewClientError(const Status& status);

void LogInfo(const std::string& message);
void LogError(const std::string& message);

// For calls whose failure cannot change what happens next: logs it as "WHAT: message".
void LogIfFailed(TRITONSERVER_Error* error, const char* what);

}  // namespace naiad
