#include "ort/attention_op.h"

#include <string>

#include "kernels/cpu_features.h"

namespace naiad {
namespace {

int32_t ReadCount(const Ort::ConstKernelInfo& info, const char* name) {
  const int64_t value = info.GetAttribute<int64_t>(name);
  if (value < 1 || value > 65536) {
    throw Ort::Exception(std::string(name) + " is " + std::to_string(value) + "; it must be 1 to 65536",
                         ORT_INVALID_GRAPH);
  }
  return static_cast<int32_t>(value);
}

bool HasAttribute(const Ort::ConstKernelInfo& info, const char* name) {
  int64_t ignored = 0;
  const Ort::Status status{Ort::GetApi().KernelInfoGetAttribute_int64(info, name, &ignored)};
  return status.IsOK();
}

}  // namespace

void ThrowIfFailed(const Status& status) {
  if (status.ok()) return;
  throw Ort::Exception(std::string(status.message()),
                       status.code() == ErrorCode::kInvalidArgument ? ORT_INVALID_ARGUMENT : ORT_FAIL);
}

AttentionLayer ReadAttentionLayer(const Ort::ConstKernelInfo& info) {
  AttentionLayer layer;
  layer.num_heads = ReadCount(info, "num_heads");
  layer.num_kv_heads = ReadCount(info, "kv_num_heads");
  layer.scale = info.GetAttribute<float>("scale");
  if (layer.num_heads % layer.num_kv_heads != 0) {
    throw Ort::Exception("kv_num_heads must divide num_heads", ORT_INVALID_GRAPH);
  }
  if (HasAttribute(info, "local_window_size")) {
    const int64_t window = info.GetAttribute<int64_t>("local_window_size");
    if (window < -1 || window > INT32_MAX) throw Ort::Exception("local_window_size is out of range", ORT_INVALID_GRAPH);
    layer.window_tokens = static_cast<int32_t>(window);
  }
  return layer;
}

SimdLevel SimdLevelForThisProcess() {
  SimdLevel level = SimdLevel::kScalar;
  ThrowIfFailed(ChooseSimdLevelFromEnvironment(&level));
  return level;
}

const AttentionMath& AttentionMathForThisProcess() { return AttentionMathFor(SimdLevelForThisProcess()); }

ParallelFor SessionThreads(OrtKernelContext* context) {
  return [context](size_t count, const Task& task) {
    if (count <= 1) return SerialFor(count, task);
    const auto run = [](void* data, size_t index) { (*static_cast<const Task*>(data))(index); };
    // One batch a task: tasks differ in length (a late token attends to more), so threads take them one by one.
    Ort::ThrowOnError(Ort::GetApi().KernelContext_ParallelFor(context, run, count, count, const_cast<Task*>(&task)));
  };
}

std::vector<int64_t> ShapeOf(const Ort::ConstValue& value) { return value.GetTensorTypeAndShapeInfo().GetShape(); }

void CheckRank(const char* name, const std::vector<int64_t>& shape, size_t rank) {
  if (shape.size() == rank) return;
  throw Ort::Exception(
      std::string(name) + " has " + std::to_string(shape.size()) + " dimensions; expected " + std::to_string(rank),
      ORT_INVALID_ARGUMENT);
}

int32_t HeadSizeOf(const std::vector<int64_t>& query_shape, int32_t num_heads) {
  const int64_t width = query_shape.back();
  if (width < num_heads || width % num_heads != 0 || width > INT32_MAX) {
    throw Ort::Exception("query is " + std::to_string(width) + " wide; expected a multiple of the heads in it, " +
                             std::to_string(num_heads),
                         ORT_INVALID_ARGUMENT);
  }
  return static_cast<int32_t>(width / num_heads);
}

namespace {

// The context's, or null; `rank` is 0 unless the shape is known (it looks like that of a scalar, which none of our
// tensors is). With the C API: Ort::ShapeInferContext of 1.21 writes symbolic sizes as -2, which newer libraries
// refuse.
OrtTensorTypeAndShapeInfo* InputShape(OrtShapeInferContext* context, size_t input, size_t* rank) noexcept {
  const OrtApi& api = Ort::GetApi();
  OrtTensorTypeAndShapeInfo* shape = nullptr;
  OrtStatus* status = api.ShapeInferContext_GetInputTypeShape(context, input, &shape);
  if (status == nullptr && shape != nullptr) status = api.GetDimensionsCount(shape, rank);
  api.ReleaseStatus(status);
  return shape;
}

}  // namespace

bool HasKnownShape(OrtShapeInferContext* context, size_t input) noexcept {
  size_t rank = 0;
  InputShape(context, input, &rank);
  return rank > 0;
}

void CopyShape(OrtShapeInferContext* context, size_t input, size_t output) noexcept {
  size_t rank = 0;
  OrtTensorTypeAndShapeInfo* const shape = InputShape(context, input, &rank);
  if (rank == 0) return;
  const OrtApi& api = Ort::GetApi();
  api.ReleaseStatus(api.ShapeInferContext_SetOutputTypeShape(context, output, shape));
}

}  // namespace naiad
