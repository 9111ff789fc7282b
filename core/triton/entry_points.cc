// The functions that Triton calls. Each turns handles into our objects, and nothing of ours (no exception, no Status)
// leaves through them.
#include <exception>
#include <memory>
#include <string>

#include "triton/abi.h"
#include "triton/backend_state.h"
#include "triton/model_state.h"
#include "triton/status_codes.h"

namespace {

using naiad::BackendState;
using naiad::ModelInstance;
using naiad::ModelState;
using naiad::Status;
using naiad::TakeTritonError;

template <typename Function>
Status Guarded(Function&& function) {
  try {
    return function();
  } catch (const std::exception& error) {
    return Status::Internal(std::string("unexpected: ") + error.what());
  }
}

Status InitializeInstance(TRITONBACKEND_ModelInstance* handle) {
  TRITONBACKEND_Model* model = nullptr;
  void* state = nullptr;
  Status status = TakeTritonError(TRITONBACKEND_ModelInstanceModel(handle, &model));
  if (status.ok()) status = TakeTritonError(TRITONBACKEND_ModelState(model, &state));
  std::unique_ptr<ModelInstance> instance;
  if (status.ok()) status = static_cast<ModelState*>(state)->CreateInstance(handle, &instance);
  if (status.ok()) status = TakeTritonError(TRITONBACKEND_ModelInstanceSetState(handle, instance.get()));
  if (status.ok())
    static_cast<void>(instance.release());  // Triton keeps the pointer; ModelInstanceFinalize deletes it.
  return status;
}

Status InitializeModel(TRITONBACKEND_Model* model) {
  std::unique_ptr<ModelState> state;
  Status status = ModelState::Create(model, &state);
  if (status.ok()) status = TakeTritonError(TRITONBACKEND_ModelSetState(model, state.get()));
  if (status.ok()) static_cast<void>(state.release());  // Triton keeps the pointer; ModelFinalize deletes it.
  return status;
}

Status InitializeBackend(TRITONBACKEND_Backend* backend) {
  std::unique_ptr<BackendState> state;
  Status status = BackendState::Create(backend, &state);
  if (status.ok()) status = TakeTritonError(TRITONBACKEND_BackendSetState(backend, state.get()));
  if (status.ok()) static_cast<void>(state.release());  // Triton keeps the pointer; Finalize deletes it.
  return status;
}

}  // namespace

extern "C" {

// Once, before the first model of this backend loads. An error fails that load.
TRITONSERVER_Error* TRITONBACKEND_Initialize(TRITONBACKEND_Backend* backend) {
  return naiad::NewTritonError(Guarded([backend] { return InitializeBackend(backend); }));
}

// Once, after the last model is gone.
TRITONSERVER_Error* TRITONBACKEND_Finalize(TRITONBACKEND_Backend* backend) {
  void* state = nullptr;
  const Status status = TakeTritonError(TRITONBACKEND_BackendState(backend, &state));
  delete static_cast<BackendState*>(state);
  return naiad::NewTritonError(status);
}

// What a model gets whose configuration names no instance group: one engine, on the CPU.
TRITONSERVER_Error* TRITONBACKEND_GetBackendAttribute(TRITONBACKEND_Backend*,
                                                      TRITONBACKEND_BackendAttribute* attributes) {
  return TRITONBACKEND_BackendAttributeAddPreferredInstanceGroup(attributes, TRITONSERVER_INSTANCEGROUPKIND_CPU, 1,
                                                                 nullptr, 0);
}

// Before anything is loaded: an error here keeps a model with a bad configuration out, with the reason in the log.
TRITONSERVER_Error* TRITONBACKEND_ModelInitialize(TRITONBACKEND_Model* model) {
  return naiad::NewTritonError(Guarded([model] { return InitializeModel(model); }));
}

// Also after a failed ModelInitialize, then without a state.
TRITONSERVER_Error* TRITONBACKEND_ModelFinalize(TRITONBACKEND_Model* model) {
  void* state = nullptr;
  const Status status = TakeTritonError(TRITONBACKEND_ModelState(model, &state));
  delete static_cast<ModelState*>(state);
  return naiad::NewTritonError(status);
}

// Loads the graph and starts the engine.
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceInitialize(TRITONBACKEND_ModelInstance* instance) {
  return naiad::NewTritonError(Guarded([instance] { return InitializeInstance(instance); }));
}

// When the last request of the model is released: nothing is live any more.
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceFinalize(TRITONBACKEND_ModelInstance* instance) {
  void* state = nullptr;
  const Status status = TakeTritonError(TRITONBACKEND_ModelInstanceState(instance, &state));
  delete static_cast<ModelInstance*>(state);
  return naiad::NewTritonError(status);
}

// One call at a time for an instance. An error would leave the requests with Triton; success gives them to us, and from
// then on every failure goes through a response.
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceExecute(TRITONBACKEND_ModelInstance* instance,
                                                       TRITONBACKEND_Request** requests, uint32_t request_count) {
  void* state = nullptr;
  if (TRITONSERVER_Error* error = TRITONBACKEND_ModelInstanceState(instance, &state); error != nullptr) return error;
  for (uint32_t index = 0; index < request_count; ++index) {
    const Status status = Guarded([&] {
      static_cast<ModelInstance*>(state)->Execute(requests[index]);
      return Status::Ok();
    });
    // The request has been answered and released while the exception passed.
    if (!status.ok()) naiad::LogError("taking a request: " + status.message());
  }
  return nullptr;
}

}  // extern "C"
