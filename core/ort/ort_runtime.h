// ONNX Runtime, loaded at run time: the process chooses the library, not the linker.
#pragma once

#include <memory>
#include <string>

#include "engine/status.h"

namespace Ort {
struct Env;
}

namespace naiad {

// A loaded library with its environment. Runners keep it alive; it must not be used after main returned.
class OrtRuntime {
 public:
  // Loads `library_path` (libonnxruntime.so, 1.21 or newer). A process can hold one ONNX Runtime only: while it is in
  // use, the same path gives the same runtime, and another path fails. Any thread.
  static Status Load(const std::string& library_path, std::shared_ptr<OrtRuntime>* runtime);

  OrtRuntime(const OrtRuntime&) = delete;
  OrtRuntime& operator=(const OrtRuntime&) = delete;
  ~OrtRuntime();

  // "1.32.0".
  [[nodiscard]] const std::string& version() const { return version_; }

  // For the other files of core/ort.
  [[nodiscard]] Ort::Env& env() const { return *env_; }

 private:
  OrtRuntime(std::string library_path, std::string version, std::unique_ptr<Ort::Env> env);

  const std::string library_path_;
  const std::string version_;
  const std::unique_ptr<Ort::Env> env_;
};

}  // namespace naiad
