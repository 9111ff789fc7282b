#include "ort/cuda_provider.h"

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <vector>

namespace naiad {
namespace {

constexpr char kProvider[] = "CUDAExecutionProvider";

struct ReleaseOptions {
  void operator()(OrtCUDAProviderOptionsV2* options) const { Ort::GetApi().ReleaseCUDAProviderOptions(options); }
};

// Throws what ONNX Runtime throws, in as many lines as it likes.
void Append(int32_t gpu_id, Ort::SessionOptions* options) {
  const OrtApi& api = Ort::GetApi();
  OrtCUDAProviderOptionsV2* created = nullptr;
  Ort::ThrowOnError(api.CreateCUDAProviderOptions(&created));  // Loads the provider's library, and those it needs.
  const std::unique_ptr<OrtCUDAProviderOptionsV2, ReleaseOptions> cuda(created);
  const std::string id = std::to_string(gpu_id);
  // By default the memory arena grows by powers of two: a KV pool of half the GPU would claim all of it.
  constexpr std::array<const char*, 2> kKeys = {"device_id", "arena_extend_strategy"};
  const std::array<const char*, 2> values = {id.c_str(), "kSameAsRequested"};
  Ort::ThrowOnError(api.UpdateCUDAProviderOptions(cuda.get(), kKeys.data(), values.data(), kKeys.size()));
  options->AppendExecutionProvider_CUDA_V2(*cuda);
}

}  // namespace

void AppendCudaProvider(const OrtRuntime& runtime, int32_t gpu_id, Ort::SessionOptions* options) {
  const std::vector<std::string> providers = Ort::GetAvailableProviders();
  if (std::find(providers.begin(), providers.end(), kProvider) == providers.end()) {
    throw Ort::Exception("version " + runtime.version() +
                             " as loaded has no CUDA provider, which this model needs; load that of onnxruntime-gpu",
                         ORT_INVALID_ARGUMENT);
  }
  try {
    Append(gpu_id, options);
  } catch (const Ort::Exception& error) {
    std::string why = error.what();
    std::replace(why.begin(), why.end(), '\n', ' ');
    why.erase(why.find_last_not_of(' ') + 1);
    throw Ort::Exception("cannot start the CUDA provider on GPU " + std::to_string(gpu_id) + ": " + why,
                         error.GetOrtErrorCode());
  }
}

Ort::MemoryInfo CudaMemory(int32_t gpu_id) { return {"Cuda", OrtDeviceAllocator, gpu_id, OrtMemTypeDefault}; }

}  // namespace naiad
