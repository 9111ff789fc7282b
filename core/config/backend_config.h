// Settings of the whole backend, from tritonserver's command line: --backend-config=naiad,KEY=VALUE.
#pragma once

#include <string>

#include "engine/status.h"

namespace naiad {

struct BackendConfig {
  std::string onnxruntime_library;  // Path of the libonnxruntime.so to load.
};

// `json` is what Triton gives: {"cmdline": {KEY: VALUE, ...}}, with keys of its own among ours.
Status ParseBackendConfig(const std::string& json, BackendConfig* config);

}  // namespace naiad
