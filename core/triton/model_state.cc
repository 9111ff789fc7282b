#include "triton/model_state.h"

#include <optional>
#include <string>
#include <utility>

#include "guided/guide_compiler.h"
#include "ort/decoder_runner.h"
#include "ort/encoder_runner.h"
#include "triton/decoder_instance.h"
#include "triton/encoder_instance.h"
#include "triton/status_codes.h"

namespace naiad {
namespace {

Status ReadTritonConfigText(TRITONBACKEND_Model* model, std::string* text) {
  TRITONSERVER_Message* message = nullptr;
  Status status = TakeTritonError(TRITONBACKEND_ModelConfig(model, kTritonModelConfigV1, &message));
  if (!status.ok()) return status;
  const char* json = nullptr;
  size_t bytes = 0;
  status = TakeTritonError(TRITONSERVER_MessageSerializeToJson(message, &json, &bytes));
  if (status.ok()) text->assign(json, bytes);
  LogIfFailed(TRITONSERVER_MessageDelete(message), "deleting a message");
  return status;
}

Status ReadConfig(TRITONBACKEND_Model* model, ModelConfig* config) {
  const char* name = nullptr;
  uint64_t version = 0;
  TRITONBACKEND_ArtifactType artifact = TRITONBACKEND_ARTIFACT_FILESYSTEM;
  const char* folder = nullptr;
  std::string triton_config;
  Status status = TakeTritonError(TRITONBACKEND_ModelName(model, &name));
  if (status.ok()) status = TakeTritonError(TRITONBACKEND_ModelVersion(model, &version));
  if (status.ok()) status = TakeTritonError(TRITONBACKEND_ModelRepository(model, &artifact, &folder));
  if (status.ok()) status = ReadTritonConfigText(model, &triton_config);
  if (!status.ok()) return status;
  if (artifact != TRITONBACKEND_ARTIFACT_FILESYSTEM) return Status::InvalidArgument("the model is not in a folder");
  return LoadModelConfig({name, static_cast<int64_t>(version)}, triton_config, folder, config);
}

std::optional<int32_t> CudaGpu(const ModelConfig& config) {
  return config.device == Device::kCuda ? std::optional(config.gpu) : std::nullopt;
}

}  // namespace

Status ModelState::Create(TRITONBACKEND_Model* model, std::unique_ptr<ModelState>* state) {
  TRITONBACKEND_Backend* backend = nullptr;
  void* backend_state = nullptr;
  Status status = TakeTritonError(TRITONBACKEND_ModelBackend(model, &backend));
  if (status.ok()) status = TakeTritonError(TRITONBACKEND_BackendState(backend, &backend_state));
  if (!status.ok()) return status;
  std::unique_ptr<ModelState> created(new ModelState(*static_cast<BackendState*>(backend_state)));
  status = ReadConfig(model, &created->config_);
  if (status.ok()) *state = std::move(created);
  return status;
}

Status ModelState::CreateInstance(TRITONBACKEND_ModelInstance* handle, std::unique_ptr<ModelInstance>* instance) const {
  const bool decoder = config_.task == Task::kGenerate;
  const MetricLabels labels = {{"model", config_.name}, {"version", std::to_string(config_.version)}};
  std::unique_ptr<ModelMetrics> metrics;
  Status status = ModelMetrics::Create(backend_.metric_families(), labels,
                                       decoder ? EngineKind::kDecoder : EngineKind::kEncoder, &metrics);
  if (!status.ok()) return status;
  return decoder ? CreateDecoder(handle, std::move(metrics), instance)
                 : CreateEncoder(handle, std::move(metrics), instance);
}

Status ModelState::CreateDecoder(TRITONBACKEND_ModelInstance* handle, std::unique_ptr<ModelMetrics> metrics,
                                 std::unique_ptr<ModelInstance>* instance) const {
  const EngineLimits& limits = config_.limits;
  std::shared_ptr<OrtRuntime> runtime;
  if (Status status = backend_.GetOrtRuntime(&runtime); !status.ok()) return status;
  std::unique_ptr<ModelRunner> runner;
  const DecoderGraph graph{.graph_path = config_.graph_path,
                           .num_layers = config_.decoder.num_layers,
                           .num_kv_heads = config_.decoder.num_kv_heads,
                           .head_size = config_.decoder.head_size,
                           .kv_block_tokens = config_.decoder.kv_block_tokens,
                           .vocabulary_size = config_.vocabulary_size,
                           .context_length_tokens = config_.context_length_tokens,
                           .kv_cache_type = config_.decoder.kv_cache_type};
  const DecoderSessionOptions session{.kv_cache_bytes = limits.kv_cache_bytes,
                                      .max_step_tokens = limits.max_step_tokens,
                                      .intra_op_threads = limits.intra_op_threads,
                                      .cuda_gpu = CudaGpu(config_)};
  if (Status status = CreateDecoderRunner(runtime, graph, session, &runner); !status.ok()) return status;
  EngineOptions options;
  options.max_step_tokens = limits.max_step_tokens;
  options.max_active_requests = limits.max_active_requests;
  options.max_waiting_requests = limits.max_waiting_requests;
  options.max_draft_tokens = limits.max_draft_tokens;
  options.max_step_stretch = limits.max_step_stretch;
  options.prefix_cache = limits.prefix_cache;
  options.eos_token_ids = config_.eos_token_ids;
  if (Status status = ValidateEngineOptions(options, runner->shape()); !status.ok()) return status;
  const auto guides = std::make_shared<GuideCompiler>(GuideCompilerOptions{.tokenizer_path = config_.tokenizer_path,
                                                                           .vocabulary_size = config_.vocabulary_size,
                                                                           .eos_token_ids = config_.eos_token_ids});
  *instance = std::make_unique<DecoderInstance>(
      handle, options, std::move(runner), std::move(metrics),
      [guides](const GuideSpec& guide, std::shared_ptr<const Grammar>* grammar) {
        return guides->Compile(guide, grammar);
      },
      [guides](const GuideSpec& guide) { return guides->Find(guide); });
  return Status::Ok();
}

Status ModelState::CreateEncoder(TRITONBACKEND_ModelInstance* handle, std::unique_ptr<ModelMetrics> metrics,
                                 std::unique_ptr<ModelInstance>* instance) const {
  const bool embed = config_.task == Task::kEmbed;
  std::shared_ptr<OrtRuntime> runtime;
  if (Status status = backend_.GetOrtRuntime(&runtime); !status.ok()) return status;
  std::unique_ptr<EncoderRunner> runner;
  const EncoderGraph graph{.graph_path = config_.graph_path,
                           .vocabulary_size = config_.vocabulary_size,
                           .context_length_tokens = config_.context_length_tokens,
                           .uses_token_type_ids = config_.encoder.uses_token_type_ids,
                           .output_per_sequence = config_.task == Task::kClassify,
                           .output_width = embed ? config_.encoder.hidden_size : config_.num_labels,
                           .token_logits = config_.task == Task::kClassifyTokens};
  Status status = CreateEncoderRunner(runtime, graph, config_.limits.intra_op_threads, &runner);
  if (!status.ok()) return status;
  const EncoderEngineOptions options{.max_batch_tokens = config_.limits.max_batch_tokens,
                                     .max_waiting_requests = config_.limits.max_waiting_requests};
  const EncoderContract contract{.task = config_.task, .pooling = config_.encoder.pooling};
  *instance = std::make_unique<EncoderInstance>(handle, contract, options, std::move(runner), std::move(metrics));
  return Status::Ok();
}

}  // namespace naiad
