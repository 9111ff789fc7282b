#include "triton/backend_state.h"

#include "kernels/cpu_features.h"
#include "ort/ort_runtime.h"
#include "triton/status_codes.h"

namespace naiad {
namespace {

Status CheckInterfaceVersion() {
  uint32_t major = 0;
  uint32_t minor = 0;
  if (Status status = TakeTritonError(TRITONBACKEND_ApiVersion(&major, &minor)); !status.ok()) return status;
  if (major == kTritonBackendApiMajor && minor >= kTritonBackendApiMinor) return Status::Ok();
  return Status::Internal("this Triton has backend interface " + std::to_string(major) + "." + std::to_string(minor) +
                          "; naiad needs " + std::to_string(kTritonBackendApiMajor) + "." +
                          std::to_string(kTritonBackendApiMinor) + " or a later minor version (Triton 2.51 or later)");
}

Status ReadConfig(TRITONBACKEND_Backend* backend, BackendConfig* config) {
  TRITONSERVER_Message* message = nullptr;
  const char* json = nullptr;
  size_t bytes = 0;
  Status status = TakeTritonError(TRITONBACKEND_BackendConfig(backend, &message));
  if (status.ok()) status = TakeTritonError(TRITONSERVER_MessageSerializeToJson(message, &json, &bytes));
  return status.ok() ? ParseBackendConfig(std::string(json, bytes), config) : status;
}

// So that an operator sees what the kernels run on, and a wrong wish before any model is read.
Status LogSimdLevel() {
  SimdLevel level = SimdLevel::kScalar;
  if (Status status = ChooseSimdLevelFromEnvironment(&level); !status.ok()) return status;
  LogInfo(std::string("kernels on the CPU use ") + SimdLevelName(level));
  return Status::Ok();
}

}  // namespace

Status BackendState::Create(TRITONBACKEND_Backend* backend, std::unique_ptr<BackendState>* state) {
  std::unique_ptr<BackendState> created(new BackendState);
  Status status = CheckInterfaceVersion();
  if (status.ok()) status = ReadConfig(backend, &created->config_);
  if (status.ok()) status = LogSimdLevel();
  if (status.ok()) status = MetricFamilies::Create(&created->families_);
  if (status.ok()) *state = std::move(created);
  return status;
}

Status BackendState::GetOrtRuntime(std::shared_ptr<OrtRuntime>* runtime) {
  const std::scoped_lock lock(runtime_mutex_);
  if (runtime_ == nullptr) {
    if (Status status = OrtRuntime::Load(config_.onnxruntime_library, &runtime_); !status.ok()) return status;
  }
  *runtime = runtime_;
  return Status::Ok();
}

}  // namespace naiad
