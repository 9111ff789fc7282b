#include "ort/ort_runtime.h"

#include <dlfcn.h>

#include <mutex>
#include <utility>

#include "ort/ort_api.h"
#include "ort/ort_status.h"

namespace naiad {
namespace {

// Opens the library and asks it for our version of the API. The library is never closed: its threads and thread-local
// objects outlive the last session.
Status OpenLibrary(const std::string& path, const OrtApiBase** base, const OrtApi** api) {
  void* const handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) return Status::Internal("cannot load ONNX Runtime: " + std::string(dlerror()));
  using GetApiBase = const OrtApiBase* (*)();
  const auto get_api_base = reinterpret_cast<GetApiBase>(dlsym(handle, "OrtGetApiBase"));
  if (get_api_base == nullptr) return Status::Internal(path + " is not ONNX Runtime: it has no OrtGetApiBase");
  *base = get_api_base();
  *api = (*base)->GetApi(ORT_API_VERSION);
  if (*api == nullptr) {
    return Status::Internal(path + " is ONNX Runtime " + (*base)->GetVersionString() + ", which lacks API version " +
                            std::to_string(ORT_API_VERSION));
  }
  return Status::Ok();
}

}  // namespace

Status OrtRuntime::Load(const std::string& library_path, std::shared_ptr<OrtRuntime>* runtime) {
  static std::mutex mutex;
  static std::weak_ptr<OrtRuntime>& current = *new std::weak_ptr<OrtRuntime>;  // Outlives every static object.
  const std::lock_guard lock(mutex);
  if (std::shared_ptr<OrtRuntime> loaded = current.lock()) {
    if (loaded->library_path_ != library_path) {
      return Status::Internal("cannot load " + library_path + ": ONNX Runtime is in use from " + loaded->library_path_);
    }
    *runtime = std::move(loaded);
    return Status::Ok();
  }
  const OrtApiBase* base = nullptr;
  const OrtApi* api = nullptr;
  if (Status status = OpenLibrary(library_path, &base, &api); !status.ok()) return status;
  return CatchAsStatus([&] {
    Ort::InitApi(api);
    auto env = std::make_unique<Ort::Env>(ORT_LOGGING_LEVEL_WARNING, "naiad");
    runtime->reset(new OrtRuntime(library_path, base->GetVersionString(), std::move(env)));
    current = *runtime;
  });
}

OrtRuntime::OrtRuntime(std::string library_path, std::string version, std::unique_ptr<Ort::Env> env)
    : library_path_(std::move(library_path)), version_(std::move(version)), env_(std::move(env)) {}

OrtRuntime::~OrtRuntime() = default;

}  // namespace naiad
