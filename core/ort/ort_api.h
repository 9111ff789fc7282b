// The only way to ONNX Runtime's headers: the library is loaded at run time, so no symbol of it may be linked, and
// Ort::InitApi has to have been called before anything of namespace Ort is used.
#pragma once

#ifndef ORT_API_MANUAL_INIT
#error "compile with ORT_API_MANUAL_INIT (link onnxruntime_api)"
#endif
#include <onnxruntime_cxx_api.h>
