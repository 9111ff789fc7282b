#include "ort/decoder_runner.h"

#include <array>
#include <span>
#include <utility>
#include <vector>

#include "ort/graph_check.h"
#include "ort/kv_memory.h"
#include "ort/ort_api.h"
#include "ort/ort_status.h"
#include "ort/session.h"

namespace naiad {
namespace {

std::string CacheName(const std::string& prefix, int32_t layer) { return prefix + std::to_string(layer); }

KvPoolShape PoolShape(const DecoderGraph& graph) {
  return {graph.num_layers, graph.num_kv_heads, graph.head_size, graph.kv_block_tokens, graph.kv_cache_type};
}

// The inputs and outputs of docs/contracts.md section 2.
Status CheckDecoderGraph(const DecoderGraph& graph, const Ort::Session& session) {
  constexpr auto kFloat = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
  constexpr auto kInt32 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
  constexpr auto kInt64 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
  std::vector<TensorSpec> inputs = {
      {"input_ids", kInt64, {kAnySize}},  {"position_ids", kInt64, {kAnySize}},
      {"cu_seqlens", kInt32, {kAnySize}}, {"past_lens", kInt32, {kAnySize}},
      {"logit_rows", kInt64, {kAnySize}}, {"block_table", kInt32, {kAnySize, kAnySize}},
  };
  std::vector<TensorSpec> outputs = {{"logits", kFloat, {kAnySize, graph.vocabulary_size}}};
  for (int32_t layer = 0; layer < graph.num_layers; ++layer) {
    const ONNXTensorElementDataType type = KvElementType(graph.kv_cache_type);
    const std::vector<int64_t> dims = KvTensorDims(PoolShape(graph), kAnySize);
    inputs.push_back({CacheName("key_cache.", layer), type, dims});
    inputs.push_back({CacheName("value_cache.", layer), type, dims});
    outputs.push_back({CacheName("key_cache_out.", layer), type, dims});
    outputs.push_back({CacheName("value_cache_out.", layer), type, dims});
  }
  return CheckGraph(graph.graph_path, session, inputs, outputs);
}

class OrtDecoderRunner final : public ModelRunner {
 public:
  OrtDecoderRunner(std::shared_ptr<OrtRuntime> runtime, const DecoderGraph& graph, const DecoderSessionOptions& options,
                   Ort::Session session, std::unique_ptr<KvMemory> cache)
      : runtime_(std::move(runtime)),
        shape_{graph.vocabulary_size, graph.context_length_tokens, cache->num_blocks(), graph.kv_block_tokens},
        max_step_tokens_(static_cast<size_t>(options.max_step_tokens)),
        session_(std::move(session)),
        cache_(std::move(cache)),
        binding_(session_) {
    for (int32_t layer = 0; layer < graph.num_layers; ++layer) {
      BindCache("key_cache", layer, cache_->keys(layer));
      BindCache("value_cache", layer, cache_->values(layer));
    }
  }

  [[nodiscard]] const DecoderShape& shape() const override { return shape_; }

  Status Run(const PackedBatch& batch, std::span<float>* logits) override {
    if (batch.input_ids.empty() || batch.input_ids.size() > max_step_tokens_) {
      return Status::InvalidArgument("a step of " + std::to_string(batch.input_ids.size()) +
                                     " tokens; it must be 1 to " + std::to_string(max_step_tokens_));
    }
    return CatchAsStatus([&] {
      // No row wanted: ask for one and do not show it, as not every operator can work on nothing.
      constexpr std::array<int64_t, 1> kFirstRow = {0};
      const bool no_rows = batch.logit_rows.empty();
      const std::span<const int64_t> rows = no_rows ? std::span<const int64_t>(kFirstRow) : batch.logit_rows;
      BindInputs(batch, rows);
      const std::span<float> values = logits_.Reserve(rows.size() * static_cast<size_t>(shape_.vocabulary_size));
      const std::array<int64_t, 2> dims = {static_cast<int64_t>(rows.size()), shape_.vocabulary_size};
      binding_.BindOutput("logits", TensorView<float>(memory_, values, dims));
      session_.Run(Ort::RunOptions{nullptr}, binding_);
      *logits = no_rows ? std::span<float>{} : values;
    });
  }

  Status CopyBlocks(std::span<const BlockCopy> copies) override { return cache_->CopyBlocks(copies); }

 private:
  // Input and output are the same memory, so that the operator works in place.
  void BindCache(const std::string& name, int32_t layer, const Ort::Value& cache) {
    binding_.BindInput(CacheName(name + ".", layer).c_str(), cache);
    binding_.BindOutput(CacheName(name + "_out.", layer).c_str(), cache);
  }

  template <typename T>
  void BindVector(const char* name, std::span<const T> values) {
    const std::array<int64_t, 1> dims = {static_cast<int64_t>(values.size())};
    binding_.BindInput(name, TensorView<T>(memory_, values, dims));
  }

  void BindInputs(const PackedBatch& batch, std::span<const int64_t> logit_rows) {
    BindVector("input_ids", batch.input_ids);
    BindVector("position_ids", batch.position_ids);
    BindVector("cu_seqlens", batch.cu_seqlens);
    BindVector("past_lens", batch.past_lens);
    BindVector("logit_rows", logit_rows);
    const std::array<int64_t, 2> table_dims = {static_cast<int64_t>(batch.past_lens.size()), batch.block_columns};
    binding_.BindInput("block_table", TensorView<int32_t>(memory_, batch.block_table, table_dims));
  }

  const std::shared_ptr<OrtRuntime> runtime_;  // First: released after everything that came from it.
  const DecoderShape shape_;
  const size_t max_step_tokens_;
  const Ort::MemoryInfo memory_ = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  Ort::Session session_;
  const std::unique_ptr<KvMemory> cache_;  // After the session, whose device it may be on.
  Ort::IoBinding binding_;
  OutputBuffer logits_;
};

}  // namespace

Status CreateDecoderRunner(std::shared_ptr<OrtRuntime> runtime, const DecoderGraph& graph,
                           const DecoderSessionOptions& options, std::unique_ptr<ModelRunner>* runner) {
  Status checked;
  const Status opened = CatchAsStatus([&] {
    Ort::Session session = OpenSession(*runtime, graph.graph_path, options.intra_op_threads, options.cuda_gpu);
    checked = CheckDecoderGraph(graph, session);
    if (!checked.ok()) return;
    std::unique_ptr<KvMemory> cache;
    checked = CreateKvMemory(*runtime, session, options.cuda_gpu, PoolShape(graph), options.kv_cache_bytes, &cache);
    if (!checked.ok()) return;
    *runner =
        std::make_unique<OrtDecoderRunner>(std::move(runtime), graph, options, std::move(session), std::move(cache));
  });
  return opened.ok() ? checked : opened;
}

}  // namespace naiad
