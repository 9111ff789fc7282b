#include "ort/kv_memory.h"

#include <utility>

#include "ort/device_kv_pool.h"

namespace naiad {
namespace {

bool IsHalf(KvCacheType type) { return type == KvCacheType::kFloat16 || type == KvCacheType::kBfloat16; }

class HostKvMemory final : public KvMemory {
 public:
  HostKvMemory(const KvPoolShape& shape, std::unique_ptr<KvPool> pool) : shape_(shape), pool_(std::move(pool)) {}

  [[nodiscard]] int32_t num_blocks() const override { return pool_->num_blocks(); }
  [[nodiscard]] Ort::Value keys(int32_t layer) override { return View(pool_->keys(layer)); }
  [[nodiscard]] Ort::Value values(int32_t layer) override { return View(pool_->values(layer)); }

  Status CopyBlocks(std::span<const BlockCopy> copies) override {
    for (const BlockCopy& copy : copies) pool_->CopyBlock(copy.source, copy.target);
    return Status::Ok();
  }

 private:
  [[nodiscard]] Ort::Value View(std::span<std::byte> bytes) const {
    const std::vector<int64_t> dims = KvTensorDims(shape_, pool_->num_blocks());
    return Ort::Value::CreateTensor(memory_, bytes.data(), bytes.size(), dims.data(), dims.size(),
                                    KvElementType(shape_.cache_type));
  }

  const KvPoolShape shape_;
  const std::unique_ptr<KvPool> pool_;
  const Ort::MemoryInfo memory_ = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
};

}  // namespace

ONNXTensorElementDataType KvElementType(KvCacheType type) {
  switch (type) {
    case KvCacheType::kFloat:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    case KvCacheType::kInt8:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
    case KvCacheType::kFloat16:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
    case KvCacheType::kBfloat16:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
  }
  return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
}

std::vector<int64_t> KvTensorDims(const KvPoolShape& shape, int64_t num_blocks) {
  if (IsHalf(shape.cache_type)) return {num_blocks, shape.block_tokens, shape.num_kv_heads, shape.head_size};
  const bool bytes = shape.cache_type == KvCacheType::kInt8;
  const int64_t row_elements = bytes ? KvRowBytes(shape.cache_type, shape.head_size) : shape.head_size;
  return {num_blocks, shape.num_kv_heads, shape.block_tokens, row_elements};
}

Status CreateKvMemory(const OrtRuntime& runtime, const Ort::Session& session, std::optional<int32_t> cuda_gpu,
                      const KvPoolShape& shape, int64_t bytes, std::unique_ptr<KvMemory>* memory) {
  if (IsHalf(shape.cache_type)) {
    std::unique_ptr<DeviceKvPool> pool;
    if (Status status = DeviceKvPool::Create(runtime, session, cuda_gpu, shape, bytes, &pool); !status.ok()) {
      return status;
    }
    *memory = std::move(pool);
    return Status::Ok();
  }
  std::unique_ptr<KvPool> pool;
  if (Status status = KvPool::Create(shape, bytes, &pool); !status.ok()) return status;
  *memory = std::make_unique<HostKvMemory>(shape, std::move(pool));
  return Status::Ok();
}

}  // namespace naiad
