#include "triton/live_request.h"

#include <cstring>
#include <string>

#include "triton/status_codes.h"

namespace naiad {
namespace {

uint64_t Nanoseconds(Clock::time_point time) {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count());
}

Status AddTensor(TRITONBACKEND_Response* response, const OutputTensor& tensor) {
  TRITONBACKEND_Output* output = nullptr;
  Status status = TakeTritonError(TRITONBACKEND_ResponseOutput(
      response, &output, tensor.name, tensor.type, tensor.shape.data(), static_cast<uint32_t>(tensor.shape.size())));
  if (!status.ok()) return status;
  void* buffer = nullptr;
  TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
  int64_t memory_id = 0;
  status = TakeTritonError(TRITONBACKEND_OutputBuffer(output, &buffer, tensor.byte_size, &memory, &memory_id));
  if (!status.ok()) return status;
  if (memory == TRITONSERVER_MEMORY_GPU) return Status::Internal(std::string(tensor.name) + " was given GPU memory");
  if (tensor.byte_size > 0) std::memcpy(buffer, tensor.data, tensor.byte_size);
  return Status::Ok();
}

Status Fill(TRITONBACKEND_Response* response, const ResponseContents& contents) {
  for (const OutputTensor& tensor : contents.tensors) {
    if (Status status = AddTensor(response, tensor); !status.ok()) return status;
  }
  for (const auto& [name, value] : contents.texts) {
    Status status = TakeTritonError(TRITONBACKEND_ResponseSetStringParameter(response, name, value.c_str()));
    if (!status.ok()) return status;
  }
  for (const auto& [name, value] : contents.numbers) {
    Status status = TakeTritonError(TRITONBACKEND_ResponseSetIntParameter(response, name, value));
    if (!status.ok()) return status;
  }
  return Status::Ok();
}

// One response, filled and sent.
Status SendResponse(TRITONBACKEND_ResponseFactory* factory, const ResponseContents& contents, uint32_t flags) {
  TRITONBACKEND_Response* response = nullptr;
  Status status = TakeTritonError(TRITONBACKEND_ResponseNewFromFactory(&response, factory));
  if (!status.ok()) return status;
  status = Fill(response, contents);
  if (!status.ok()) {
    LogIfFailed(TRITONBACKEND_ResponseDelete(response), "deleting a response");
    return status;
  }
  return TakeTritonError(TRITONBACKEND_ResponseSend(response, flags, nullptr));
}

}  // namespace

LiveRequest::LiveRequest(TRITONBACKEND_ModelInstance* instance, TRITONBACKEND_Request* request)
    : instance_(instance), request_(request) {
  // Without a factory no answer is possible; every later call then does nothing but keep the books.
  LogIfFailed(TRITONBACKEND_ResponseFactoryNew(&factory_, request_), "making a response factory");
}

LiveRequest::~LiveRequest() {
  if (!finished_) FinishWithError(Status::Internal("the request was dropped"));
  if (factory_ != nullptr) LogIfFailed(TRITONBACKEND_ResponseFactoryDelete(factory_), "deleting a response factory");
  LogIfFailed(TRITONBACKEND_RequestRelease(request_, kTritonReleaseAll), "releasing a request");
}

bool LiveRequest::IsCancelled() const {
  if (factory_ == nullptr) return true;
  bool cancelled = false;
  LogIfFailed(TRITONBACKEND_ResponseFactoryIsCancelled(factory_, &cancelled), "asking for cancellation");
  return cancelled;
}

Status LiveRequest::Send(const ResponseContents& response) {
  if (factory_ == nullptr) return Status::Internal("the request cannot be answered");
  Status status = SendResponse(factory_, response, 0);
  if (!status.ok()) LogError("sending a response: " + status.message());
  return status;
}

void LiveRequest::Finish(const ResponseContents& response, const ExecutionTimes& times) {
  // Before the response, so that a client who then looks at the counters finds itself in them.
  LogIfFailed(TRITONBACKEND_ModelInstanceReportStatistics(instance_, request_, times.success, Nanoseconds(times.start),
                                                          Nanoseconds(times.start), Nanoseconds(times.end),
                                                          Nanoseconds(times.end)),
              "reporting statistics");
  SendFinal(response);
}

void LiveRequest::FinishUncounted(const ResponseContents& response) { SendFinal(response); }

void LiveRequest::FinishWithError(const Status& status) {
  LogIfFailed(TRITONBACKEND_ModelInstanceReportStatistics(instance_, request_, false, 0, 0, 0, 0),
              "reporting statistics");
  SendError(status);
}

void LiveRequest::SendFinal(const ResponseContents& response) {
  finished_ = true;
  if (factory_ == nullptr) return;
  const Status status = SendResponse(factory_, response, kTritonResponseFinal);
  if (!status.ok()) {
    LogError("sending the last response: " + status.message());
    SendError(Status::Internal("the response could not be sent"));
  }
}

void LiveRequest::SendError(const Status& status) {
  finished_ = true;
  if (factory_ == nullptr) return;
  TRITONBACKEND_Response* response = nullptr;
  const Status made = TakeTritonError(TRITONBACKEND_ResponseNewFromFactory(&response, factory_));
  if (!made.ok()) {
    // At least the client learns that nothing follows.
    LogIfFailed(TRITONBACKEND_ResponseFactorySendFlags(factory_, kTritonResponseFinal), "ending a request");
    return;
  }
  TRITONSERVER_Error* error = NewClientError(status);
  LogIfFailed(TRITONBACKEND_ResponseSend(response, kTritonResponseFinal, error), "sending an error");
  TRITONSERVER_ErrorDelete(error);
}

}  // namespace naiad
