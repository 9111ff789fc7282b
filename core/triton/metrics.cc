#include "triton/metrics.h"

#include "triton/status_codes.h"

namespace naiad {
namespace {

struct ParameterDeleter {
  void operator()(TRITONSERVER_Parameter* parameter) const { TRITONSERVER_ParameterDelete(parameter); }
};

struct MetricArgsDeleter {
  void operator()(TRITONSERVER_MetricArgs* args) const {
    LogIfFailed(TRITONSERVER_MetricArgsDelete(args), "deleting metric arguments");
  }
};

TRITONSERVER_MetricKind KindOf(MetricShape shape) {
  switch (shape) {
    case MetricShape::kCounter:
      return TRITONSERVER_METRIC_KIND_COUNTER;
    case MetricShape::kGauge:
      return TRITONSERVER_METRIC_KIND_GAUGE;
    case MetricShape::kSeconds:
    case MetricShape::kCounts:
      return TRITONSERVER_METRIC_KIND_HISTOGRAM;
  }
  return TRITONSERVER_METRIC_KIND_GAUGE;
}

const MetricDefinition& DefinitionOf(MetricId id) { return kMetricDefinitions[static_cast<size_t>(id)]; }

Status NewHistogram(TRITONSERVER_MetricFamily* family, MetricShape shape, const TRITONSERVER_Parameter** labels,
                    size_t label_count, TRITONSERVER_Metric** handle) {
  TRITONSERVER_MetricArgs* raw = nullptr;
  if (Status status = TakeTritonError(TRITONSERVER_MetricArgsNew(&raw)); !status.ok()) return status;
  const std::unique_ptr<TRITONSERVER_MetricArgs, MetricArgsDeleter> args(raw);
  const bool seconds = shape == MetricShape::kSeconds;
  Status status = TakeTritonError(
      TRITONSERVER_MetricArgsSetHistogram(args.get(), seconds ? kSecondsBuckets.data() : kCountBuckets.data(),
                                          seconds ? kSecondsBuckets.size() : kCountBuckets.size()));
  if (!status.ok()) return status;
  return TakeTritonError(TRITONSERVER_MetricNewWithArgs(handle, family, labels, label_count, args.get()));
}

// The engine thread has nobody to tell that a metric could not be changed, and must not stop for it.
void Ignore(TRITONSERVER_Error* error) {
  if (error != nullptr) TRITONSERVER_ErrorDelete(error);
}

double Seconds(std::chrono::microseconds time) { return std::chrono::duration<double>(time).count(); }

MetricLabels With(const MetricLabels& labels, const char* name, std::string_view value) {
  MetricLabels more = labels;
  more.emplace_back(name, std::string(value));
  return more;
}

// What an encoder reports; a decoder reports everything.
bool AppliesToEncoders(MetricId id) {
  switch (id) {
    case MetricId::kRequestsRunning:
    case MetricId::kRequestsWaiting:
    case MetricId::kPromptTokens:
    case MetricId::kRequestSuccess:
    case MetricId::kRequestFailure:
    case MetricId::kQueueTime:
    case MetricId::kRequestLatency:
    case MetricId::kStepTokens:
    case MetricId::kStepSequences:
    case MetricId::kStepDuration:
      return true;
    default:
      return false;
  }
}

bool HasLabelOfItsOwn(MetricId id) {
  return id == MetricId::kCacheBlocks || id == MetricId::kEngineSeconds || id == MetricId::kRequestSuccess ||
         id == MetricId::kRequestFailure;
}

}  // namespace

void MetricFamilyDeleter::operator()(TRITONSERVER_MetricFamily* family) const {
  LogIfFailed(TRITONSERVER_MetricFamilyDelete(family), "deleting a metric family");
}

Status MetricFamilies::Create(std::unique_ptr<MetricFamilies>* families) {
  auto created = std::make_unique<MetricFamilies>();
  for (size_t index = 0; index < kMetricCount; ++index) {
    const MetricDefinition& definition = kMetricDefinitions[index];
    TRITONSERVER_MetricFamily* family = nullptr;
    Status status = TakeTritonError(
        TRITONSERVER_MetricFamilyNew(&family, KindOf(definition.shape), definition.name, definition.help));
    if (!status.ok()) return status;
    created->families_[index].reset(family);
  }
  *families = std::move(created);
  return Status::Ok();
}

void Metric::Deleter::operator()(TRITONSERVER_Metric* metric) const {
  LogIfFailed(TRITONSERVER_MetricDelete(metric), "deleting a metric");
}

Status Metric::Create(const MetricFamilies& families, MetricId id, const MetricLabels& labels, Metric* metric) {
  std::vector<std::unique_ptr<TRITONSERVER_Parameter, ParameterDeleter>> owned;
  std::vector<const TRITONSERVER_Parameter*> views;
  for (const auto& [name, value] : labels) {
    owned.emplace_back(TRITONSERVER_ParameterNew(name, TRITONSERVER_PARAMETER_STRING, value.c_str()));
    views.push_back(owned.back().get());
  }
  TRITONSERVER_Metric* handle = nullptr;
  const MetricShape shape = DefinitionOf(id).shape;
  Status status = KindOf(shape) == TRITONSERVER_METRIC_KIND_HISTOGRAM
                      ? NewHistogram(families.Get(id), shape, views.data(), views.size(), &handle)
                      : TakeTritonError(TRITONSERVER_MetricNew(&handle, families.Get(id), views.data(), views.size()));
  if (status.ok()) metric->handle_.reset(handle);
  return status;
}

void Metric::Increment(double value) const {
  if (handle_ != nullptr) Ignore(TRITONSERVER_MetricIncrement(handle_.get(), value));
}

void Metric::Set(double value) const {
  if (handle_ != nullptr) Ignore(TRITONSERVER_MetricSet(handle_.get(), value));
}

void Metric::Observe(double value) const {
  if (handle_ != nullptr) Ignore(TRITONSERVER_MetricObserve(handle_.get(), value));
}

Status ModelMetrics::Create(const MetricFamilies& families, const MetricLabels& model, EngineKind kind,
                            std::unique_ptr<ModelMetrics>* metrics) {
  std::unique_ptr<ModelMetrics> created(new ModelMetrics);
  for (size_t index = 0; index < kMetricCount; ++index) {
    const auto id = static_cast<MetricId>(index);
    if (HasLabelOfItsOwn(id) || (kind == EngineKind::kEncoder && !AppliesToEncoders(id))) continue;
    if (Status status = Metric::Create(families, id, model, &created->metrics_[index]); !status.ok()) return status;
  }
  if (Status status = created->CreateLabelled(families, model, kind); !status.ok()) return status;
  *metrics = std::move(created);
  return Status::Ok();
}

// Series with labels exist from the start, at 0: a rate over a series that appears with its first event misses it.
Status ModelMetrics::CreateLabelled(const MetricFamilies& families, const MetricLabels& model, EngineKind kind) {
  const auto create = [&](MetricId id, const char* label, std::string_view value, Metric* metric) {
    return Metric::Create(families, id, With(model, label, value), metric);
  };
  constexpr std::array<std::string_view, kBlockStates> kStates = {"used", "free", "cached"};
  for (size_t index = 0; kind == EngineKind::kDecoder && index < kBlockStates; ++index) {
    Status status = create(MetricId::kCacheBlocks, "state", kStates[index], &cache_blocks_[index]);
    if (!status.ok()) return status;
  }
  constexpr std::array<std::string_view, kActivities> kActivityNames = {"model", "sampling", "rest"};
  for (size_t index = 0; kind == EngineKind::kDecoder && index < kActivities; ++index) {
    Status status = create(MetricId::kEngineSeconds, "activity", kActivityNames[index], &engine_seconds_[index]);
    if (!status.ok()) return status;
  }
  for (size_t index = 0; index < kFinishReasons; ++index) {
    const std::string_view reason = FinishReasonName(static_cast<FinishReason>(index));
    Status status = create(MetricId::kRequestSuccess, "finished_reason", reason, &success_[index]);
    if (!status.ok()) return status;
  }
  for (size_t index = 1; index < kFailureReasons; ++index) {
    const std::string_view reason = ErrorCodeName(static_cast<ErrorCode>(index));
    Status status = create(MetricId::kRequestFailure, "reason", reason, &failure_[index]);
    if (!status.ok()) return status;
  }
  return Status::Ok();
}

void ModelMetrics::OnStep(const StepStats& stats) {
  Get(MetricId::kPromptTokens).Increment(stats.prompt_tokens);
  Get(MetricId::kGenerationTokens).Increment(stats.new_tokens);
  Get(MetricId::kPrefixCacheHitTokens).Increment(stats.cached_prompt_tokens);
  Get(MetricId::kDraftTokens).Increment(stats.draft_tokens);
  Get(MetricId::kAcceptedDraftTokens).Increment(stats.accepted_draft_tokens);
  Get(MetricId::kStepTokens).Observe(stats.tokens);
  Get(MetricId::kStepSequences).Observe(stats.sequences);
  Get(MetricId::kStepDuration).Observe(Seconds(stats.duration));
}

void ModelMetrics::OnWork(const EngineWork& work) {
  engine_seconds_[0].Increment(Seconds(work.model));
  engine_seconds_[1].Increment(Seconds(work.sampling));
  engine_seconds_[2].Increment(Seconds(work.total - work.model - work.sampling));
}

void ModelMetrics::OnLoad(const EngineLoad& load) {
  Get(MetricId::kRequestsRunning).Set(load.running);
  Get(MetricId::kRequestsWaiting).Set(load.waiting);
  const int32_t blocks = load.blocks_used + load.blocks_free + load.blocks_cached;
  Get(MetricId::kCacheUsage).Set(blocks == 0 ? 0.0 : static_cast<double>(load.blocks_used) / blocks);
  cache_blocks_[0].Set(load.blocks_used);
  cache_blocks_[1].Set(load.blocks_free);
  cache_blocks_[2].Set(load.blocks_cached);
}

void ModelMetrics::OnInterToken(std::chrono::microseconds gap) {
  Get(MetricId::kInterTokenLatency).Observe(Seconds(gap));
}

void ModelMetrics::OnFirstToken(std::chrono::microseconds time_to_first_token) {
  Get(MetricId::kTimeToFirstToken).Observe(Seconds(time_to_first_token));
}

void ModelMetrics::OnFinished(const FinishedSummary& summary, std::chrono::microseconds total) {
  if (summary.reason == FinishReason::kError) {
    OnRejected(summary.error.code());
    return;
  }
  success_[static_cast<size_t>(summary.reason)].Increment(1);
  Get(MetricId::kQueueTime).Observe(Seconds(summary.queue));
  Get(MetricId::kPrefillTime).Observe(Seconds(summary.prefill));
  Get(MetricId::kDecodeTime).Observe(Seconds(summary.decode));
  Get(MetricId::kRequestLatency).Observe(Seconds(total));
}

void ModelMetrics::OnPreemption() { Get(MetricId::kPreemptions).Increment(1); }

void ModelMetrics::OnRejected(ErrorCode code) { failure_[static_cast<size_t>(code)].Increment(1); }

}  // namespace naiad
