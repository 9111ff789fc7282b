#include "ort/device_kv_pool.h"

#include <algorithm>
#include <array>
#include <limits>
#include <string>

#include "ort/block_graphs.h"
#include "ort/cuda_provider.h"
#include "ort/ort_status.h"
#include "ort/session.h"

namespace naiad {
namespace {

constexpr auto kFloat16 = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;

Ort::MemoryInfo MemoryOf(std::optional<int32_t> cuda_gpu) {
  return cuda_gpu.has_value() ? CudaMemory(*cuda_gpu)
                              : Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
}

// The longest run of copies from the front that may happen in any order.
size_t IndependentCopies(std::span<const BlockCopy> copies) {
  for (size_t end = 1; end < copies.size(); ++end) {
    for (size_t before = 0; before < end; ++before) {
      const int32_t written = copies[before].target;
      if (copies[end].source == written || copies[end].target == written) return end;
    }
  }
  return copies.size();
}

}  // namespace

Status DeviceKvPool::Create(const OrtRuntime& runtime, const Ort::Session& owner, std::optional<int32_t> cuda_gpu,
                            const KvPoolShape& shape, int64_t bytes, std::unique_ptr<DeviceKvPool>* pool) {
  const int64_t block_bytes = KvBlockBytes(shape);
  if (bytes < block_bytes) {
    return Status::InvalidArgument("kv_cache_bytes is " + std::to_string(bytes) + "; one block needs " +
                                   std::to_string(block_bytes));
  }
  const auto num_blocks =
      static_cast<int32_t>(std::min<int64_t>(bytes / block_bytes, std::numeric_limits<int32_t>::max()));
  return CatchAsStatus([&] {
    std::unique_ptr<DeviceKvPool> created(new DeviceKvPool(runtime, owner, cuda_gpu, shape, num_blocks));
    created->FillWithZeros(runtime, cuda_gpu);
    *pool = std::move(created);
  });
}

DeviceKvPool::DeviceKvPool(const OrtRuntime& runtime, const Ort::Session& owner, std::optional<int32_t> cuda_gpu,
                           const KvPoolShape& shape, int32_t num_blocks)
    : memory_(MemoryOf(cuda_gpu)),
      element_type_(KvElementType(shape.cache_type)),
      num_blocks_(num_blocks),
      dims_(KvTensorDims(shape, num_blocks)),
      allocator_(owner, memory_),
      copy_session_(OpenSessionOfBytes(runtime, BlockCopyGraph(2 * shape.num_layers), cuda_gpu)),
      copy_binding_(copy_session_) {
  for (int32_t i = 0; i < 2 * shape.num_layers; ++i) {
    tensors_.push_back(Ort::Value::CreateTensor(allocator_, dims_.data(), dims_.size(), element_type_));
    // Input and output are the same memory, so that only the blocks that change are written.
    const Ort::Value view = View(tensors_.back(), kFloat16);
    copy_binding_.BindInput(("pool." + std::to_string(i)).c_str(), view);
    copy_binding_.BindOutput(("pool_out." + std::to_string(i)).c_str(), view);
  }
}

// Attention multiplies what it may not see by zero, and zero times the NaN that fresh memory may hold is not zero.
void DeviceKvPool::FillWithZeros(const OrtRuntime& runtime, std::optional<int32_t> cuda_gpu) {
  Ort::Session session = OpenSessionOfBytes(runtime, ZerosGraph(), cuda_gpu);
  Ort::IoBinding binding(session);
  const Ort::MemoryInfo host = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const std::array<int64_t, 1> rank = {static_cast<int64_t>(dims_.size())};
  binding.BindInput("shape", TensorView<int64_t>(host, dims_, rank));
  for (Ort::Value& tensor : tensors_) {
    binding.BindOutput("zeros", View(tensor, kFloat16));
    session.Run(Ort::RunOptions{nullptr}, binding);
  }
}

Ort::Value DeviceKvPool::View(Ort::Value& tensor, ONNXTensorElementDataType type) const {
  const size_t bytes = tensor.GetTensorTypeAndShapeInfo().GetElementCount() * sizeof(uint16_t);
  return Ort::Value::CreateTensor(memory_, tensor.GetTensorMutableRawData(), bytes, dims_.data(), dims_.size(), type);
}

Status DeviceKvPool::CopyBlocks(std::span<const BlockCopy> copies) {
  return CatchAsStatus([&] {
    while (!copies.empty()) {
      const size_t count = IndependentCopies(copies);
      CopyAtOnce(copies.first(count));
      copies = copies.subspan(count);
    }
  });
}

void DeviceKvPool::CopyAtOnce(std::span<const BlockCopy> copies) {
  std::vector<int64_t> sources;
  std::vector<int64_t> targets;
  for (const BlockCopy& copy : copies) {
    sources.push_back(copy.source);
    targets.push_back(copy.target);
  }
  const Ort::MemoryInfo host = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const std::array<int64_t, 2> dims = {static_cast<int64_t>(copies.size()), 1};
  copy_binding_.BindInput("source", TensorView<int64_t>(host, sources, std::span(dims).first(1)));
  copy_binding_.BindInput("target", TensorView<int64_t>(host, targets, dims));
  copy_session_.Run(Ort::RunOptions{nullptr}, copy_binding_);
}

}  // namespace naiad
