// ONNX Runtime's CUDA provider, if the loaded library has one.
#pragma once

#include <cstdint>

#include "ort/ort_api.h"
#include "ort/ort_runtime.h"

namespace naiad {

// Lets a session run on the GPU. Throws Ort::Exception with one line when the library was built without CUDA, or the
// provider does not start (no driver, no such GPU, CUDA's own libraries missing).
void AppendCudaProvider(const OrtRuntime& runtime, int32_t gpu_id, Ort::SessionOptions* options);

// The GPU's memory, for allocators of a session that has the provider.
[[nodiscard]] Ort::MemoryInfo CudaMemory(int32_t gpu_id);

}  // namespace naiad
