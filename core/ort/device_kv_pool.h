// KV blocks in the memory of a device, in the layout of ONNX Runtime's PagedAttention and in half precision.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "ort/kv_memory.h"

namespace naiad {

class DeviceKvPool final : public KvMemory {
 public:
  // As CreateKvMemory, with a cache_type of kFloat16 or kBfloat16. Without a GPU the memory is the host's: what moves
  // blocks is the same graph on either, so that it can be tested anywhere.
  static Status Create(const OrtRuntime& runtime, const Ort::Session& owner, std::optional<int32_t> cuda_gpu,
                       const KvPoolShape& shape, int64_t bytes, std::unique_ptr<DeviceKvPool>* pool);

  [[nodiscard]] int32_t num_blocks() const override { return num_blocks_; }
  [[nodiscard]] Ort::Value keys(int32_t layer) override { return TypedView(2 * static_cast<size_t>(layer)); }
  [[nodiscard]] Ort::Value values(int32_t layer) override { return TypedView(2 * static_cast<size_t>(layer) + 1); }
  Status CopyBlocks(std::span<const BlockCopy> copies) override;

 private:
  DeviceKvPool(const OrtRuntime& runtime, const Ort::Session& owner, std::optional<int32_t> cuda_gpu,
               const KvPoolShape& shape, int32_t num_blocks);
  void FillWithZeros(const OrtRuntime& runtime, std::optional<int32_t> cuda_gpu);
  [[nodiscard]] Ort::Value TypedView(size_t tensor) { return View(tensors_.at(tensor), element_type_); }
  // The same memory as `tensor`, with elements of any type of two bytes.
  [[nodiscard]] Ort::Value View(Ort::Value& tensor, ONNXTensorElementDataType type) const;
  void CopyAtOnce(std::span<const BlockCopy> copies);

  const Ort::MemoryInfo memory_;
  const ONNXTensorElementDataType element_type_;
  const int32_t num_blocks_;
  const std::vector<int64_t> dims_;
  Ort::Allocator allocator_;
  std::vector<Ort::Value> tensors_;  // Keys of layer 0, values of layer 0, keys of layer 1, ...
  Ort::Session copy_session_;
  Ort::IoBinding copy_binding_;
};

}  // namespace naiad
