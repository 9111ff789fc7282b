// naiad's ONNX operators: domain "naiad", version 1. docs/contracts.md says what they compute.
#pragma once

#include "ort/ort_api.h"

namespace naiad {

// The domain with PagedAttention, PackedAttention and Linear in it. Lives as long as the process, as ONNX Runtime keeps
// pointers into it for as long as a session lives. May throw Ort::Exception on the first call.
OrtCustomOpDomain* NaiadOpDomain();

}  // namespace naiad
