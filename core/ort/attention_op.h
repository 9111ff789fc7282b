// What the kernels behind naiad's operators share: attributes, tensors, threads, errors.
#pragma once

#include <cstdint>
#include <exception>
#include <new>
#include <span>
#include <vector>

#include "engine/status.h"
#include "kernels/attention_math.h"
#include "kernels/attention_rows.h"
#include "kernels/parallel_for.h"
#include "ort/ort_api.h"

namespace naiad {

// Throws Ort::Exception with our message if the status is not ok. Inside an operator ONNX Runtime's status is the
// error.
void ThrowIfFailed(const Status& status);

// Attributes num_heads, kv_num_heads and scale (all required) and local_window_size (-1 if absent). head_size stays 0:
// only the tensors tell it. Throws Ort::Exception.
AttentionLayer ReadAttentionLayer(const Ort::ConstKernelInfo& info);

// What the kernels use of this machine. Throws Ort::Exception if NAIAD_SIMD_LEVEL asks for something else than it has.
SimdLevel SimdLevelForThisProcess();

// The inner loops for this machine. Throws Ort::Exception if NAIAD_SIMD_LEVEL asks for something else than it has.
const AttentionMath& AttentionMathForThisProcess();

// Runs tasks on the session's own threads; the context has to outlive the result.
ParallelFor SessionThreads(OrtKernelContext* context);

std::vector<int64_t> ShapeOf(const Ort::ConstValue& value);

// Throws Ort::Exception that names `name` unless the shape has `rank` dimensions.
void CheckRank(const char* name, const std::vector<int64_t>& shape, size_t rank);

// Floats of one head of a query of shape [..., num_heads * head_size]. Throws Ort::Exception if the heads do not divide
// it.
int32_t HeadSizeOf(const std::vector<int64_t>& query_shape, int32_t num_heads);

// Whether ONNX Runtime's shape inference knows an input's shape; false too for an input that is not given.
bool HasKnownShape(OrtShapeInferContext* context, size_t input) noexcept;

// Tells ONNX Runtime's shape inference that an output has the shape of an input, if that one is known. Shapes are only
// a help there: what fails leaves the output's shape open.
void CopyShape(OrtShapeInferContext* context, size_t input, size_t output) noexcept;

template <typename T>
std::span<const T> ElementsOf(const Ort::ConstValue& value) {
  return {value.GetTensorData<T>(), value.GetTensorTypeAndShapeInfo().GetElementCount()};
}

// Calls `compute` and turns what it throws into ONNX Runtime's status; null means success.
template <typename Compute>
OrtStatusPtr CatchAsOrtStatus(const Compute& compute) noexcept {
  try {
    compute();
    return nullptr;
  } catch (const Ort::Exception& error) {
    return Ort::GetApi().CreateStatus(error.GetOrtErrorCode(), error.what());
  } catch (const std::bad_alloc&) {
    return Ort::GetApi().CreateStatus(ORT_FAIL, "memory exhausted in a naiad operator");
  } catch (const std::exception& error) {
    return Ort::GetApi().CreateStatus(ORT_FAIL, error.what());
  }
}

}  // namespace naiad
