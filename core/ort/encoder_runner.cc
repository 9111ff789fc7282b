#include "ort/encoder_runner.h"

#include <array>
#include <span>
#include <utility>
#include <vector>

#include "ort/graph_check.h"
#include "ort/ort_api.h"
#include "ort/ort_status.h"
#include "ort/session.h"

namespace naiad {
namespace {

const char* OutputName(const EncoderGraph& graph) {
  return graph.output_per_sequence || graph.token_logits ? "logits" : "last_hidden_state";
}

// The inputs and outputs of docs/contracts.md section 2.
Status CheckEncoderGraph(const EncoderGraph& graph, const Ort::Session& session) {
  constexpr auto kInt64 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
  std::vector<TensorSpec> inputs = {{"input_ids", kInt64, {kAnySize}},
                                    {"position_ids", kInt64, {kAnySize}},
                                    {"cu_seqlens", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, {kAnySize}}};
  if (graph.uses_token_type_ids) inputs.push_back({"token_type_ids", kInt64, {kAnySize}});
  const std::vector<TensorSpec> outputs = {
      {OutputName(graph), ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, {kAnySize, graph.output_width}}};
  return CheckGraph(graph.graph_path, session, inputs, outputs);
}

class OrtEncoderRunner final : public EncoderRunner {
 public:
  OrtEncoderRunner(std::shared_ptr<OrtRuntime> runtime, const EncoderGraph& graph, Ort::Session session)
      : runtime_(std::move(runtime)),
        shape_{graph.vocabulary_size,     graph.context_length_tokens, graph.uses_token_type_ids,
               graph.output_per_sequence, graph.output_width,          graph.token_logits},
        output_name_(OutputName(graph)),
        session_(std::move(session)),
        binding_(session_) {}

  [[nodiscard]] const EncoderShape& shape() const override { return shape_; }

  Status Run(const EncoderBatch& batch, std::span<const float>* output) override {
    return CatchAsStatus([&] {
      BindVector("input_ids", batch.input_ids);
      BindVector("position_ids", batch.position_ids);
      BindVector("cu_seqlens", batch.cu_seqlens);
      if (shape_.uses_token_type_ids) BindVector("token_type_ids", batch.token_type_ids);
      const size_t rows = shape_.output_per_sequence ? batch.cu_seqlens.size() - 1 : batch.input_ids.size();
      const std::span<float> values = output_.Reserve(rows * static_cast<size_t>(shape_.output_width));
      const std::array<int64_t, 2> dims = {static_cast<int64_t>(rows), shape_.output_width};
      binding_.BindOutput(output_name_, TensorView<float>(memory_, values, dims));
      session_.Run(Ort::RunOptions{nullptr}, binding_);
      *output = values;
    });
  }

 private:
  template <typename T>
  void BindVector(const char* name, std::span<const T> values) {
    const std::array<int64_t, 1> dims = {static_cast<int64_t>(values.size())};
    binding_.BindInput(name, TensorView<T>(memory_, values, dims));
  }

  const std::shared_ptr<OrtRuntime> runtime_;  // First: released after everything that came from it.
  const EncoderShape shape_;
  const char* const output_name_;
  const Ort::MemoryInfo memory_ = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  Ort::Session session_;
  Ort::IoBinding binding_;
  OutputBuffer output_;
};

}  // namespace

Status CreateEncoderRunner(std::shared_ptr<OrtRuntime> runtime, const EncoderGraph& graph, int32_t intra_op_threads,
                           std::unique_ptr<EncoderRunner>* runner) {
  Status checked;
  const Status opened = CatchAsStatus([&] {
    Ort::Session session = OpenSession(*runtime, graph.graph_path, intra_op_threads);
    checked = CheckEncoderGraph(graph, session);
    if (!checked.ok()) return;
    *runner = std::make_unique<OrtEncoderRunner>(std::move(runtime), graph, std::move(session));
  });
  return opened.ok() ? checked : opened;
}

}  // namespace naiad
