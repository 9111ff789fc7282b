// The entry point of libnaiad_ops.so, which ONNX Runtime calls for SessionOptions::RegisterCustomOpsLibrary.
#include <string>

#include "ort/attention_op.h"
#include "ort/custom_ops.h"

extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                                               const OrtApiBase* api_base) {
  const OrtApi* const api = api_base->GetApi(ORT_API_VERSION);
  if (api == nullptr) return nullptr;  // No way to make a status; ONNX Runtime will miss the operators and say so.
  Ort::InitApi(api);
  return naiad::CatchAsOrtStatus([&] { Ort::ThrowOnError(api->AddCustomOpDomain(options, naiad::NaiadOpDomain())); });
}
