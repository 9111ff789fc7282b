#include "fake_triton.h"

#include <atomic>
#include <cstring>
#include <set>

using naiad::testing::ReceivedResponse;
using naiad::testing::RequestLog;
using naiad::testing::RequestSpec;

struct TRITONBACKEND_Request {
  RequestSpec spec;
  std::shared_ptr<RequestLog> log;
};

struct TRITONBACKEND_ResponseFactory {
  std::shared_ptr<RequestLog> log;
};

struct TRITONBACKEND_Response {
  std::shared_ptr<RequestLog> log;
  ReceivedResponse contents;
};

// Handed out as a pointer into the response's map.
struct TRITONBACKEND_Output {
  naiad::testing::ReceivedTensor tensor;
};

struct TRITONSERVER_Parameter {
  std::string name;
  std::string value;
};

struct TRITONSERVER_MetricArgs {
  std::vector<double> bounds;
};

struct TRITONSERVER_MetricFamily {
  std::string name;
  TRITONSERVER_MetricKind kind;
};

struct TRITONSERVER_Metric {
  TRITONSERVER_MetricKind kind;
  std::string series;
  double value = 0.0;
};

namespace {

std::atomic<bool> fail_output_buffers = false;
std::shared_ptr<RequestLog> failing_log;  // Set by tests of a single thread only.

std::mutex metrics_mutex;
std::set<TRITONSERVER_Metric*> metrics;
std::set<TRITONSERVER_MetricFamily*> families;

TRITONSERVER_Error* Error(TRITONSERVER_Error_Code code, const std::string& message) {
  return new TRITONSERVER_Error{code, message};
}

TRITONSERVER_Error* AddTo(TRITONSERVER_Metric* metric, TRITONSERVER_MetricKind kind, double value, bool set) {
  const std::scoped_lock lock(metrics_mutex);
  if (metric->kind != kind) return Error(TRITONSERVER_ERROR_UNSUPPORTED, "wrong kind of metric");
  metric->value = set ? value : metric->value + value;
  return nullptr;
}

template <typename Number>
TRITONBACKEND_Input InputOf(const std::string& name, TRITONSERVER_DataType type, const std::vector<Number>& values) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(values.data());
  return {name, type, {static_cast<int64_t>(values.size())}, {{bytes, bytes + values.size() * sizeof(Number)}}};
}

template <typename Number>
std::vector<Number> ValuesOf(const naiad::testing::ReceivedTensor& tensor) {
  std::vector<Number> values(tensor.bytes.size() / sizeof(Number));
  if (!values.empty()) std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

}  // namespace

namespace naiad::testing {

void RequestLog::AddResponse(ReceivedResponse response) {
  const std::scoped_lock lock(mutex_);
  responses_.push_back(std::move(response));
  changed_.notify_all();
}

void RequestLog::AddStatistics(const ReportedStatistics& statistics) {
  const std::scoped_lock lock(mutex_);
  statistics_.push_back(statistics);
}

void RequestLog::SetReleased() {
  const std::scoped_lock lock(mutex_);
  released_ = true;
  changed_.notify_all();
}

std::vector<ReceivedResponse> RequestLog::WaitForRelease() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return released_; });
  return responses_;
}

std::vector<ReceivedResponse> RequestLog::WaitForResponses(size_t count) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return responses_.size() >= count; });
  return responses_;
}

std::vector<ReportedStatistics> RequestLog::statistics() {
  const std::scoped_lock lock(mutex_);
  return statistics_;
}

void RequestLog::Cancel() {
  const std::scoped_lock lock(mutex_);
  cancelled_ = true;
}

bool RequestLog::cancelled() {
  const std::scoped_lock lock(mutex_);
  return cancelled_;
}

TRITONBACKEND_Input Int32Input(const std::string& name, const std::vector<int32_t>& values) {
  return InputOf(name, TRITONSERVER_TYPE_INT32, values);
}

TRITONBACKEND_Input FloatInput(const std::string& name, const std::vector<float>& values) {
  return InputOf(name, TRITONSERVER_TYPE_FP32, values);
}

std::pair<TRITONBACKEND_Request*, std::shared_ptr<RequestLog>> NewRequest(RequestSpec spec) {
  auto log = std::make_shared<RequestLog>();
  return {new TRITONBACKEND_Request{std::move(spec), log}, log};
}

void FailOutputBuffers(bool fail) { fail_output_buffers = fail; }

void FailOutputBuffersOf(std::shared_ptr<RequestLog> log) { failing_log = std::move(log); }

std::vector<int32_t> Int32s(const ReceivedTensor& tensor) { return ValuesOf<int32_t>(tensor); }

std::vector<float> Floats(const ReceivedTensor& tensor) { return ValuesOf<float>(tensor); }

double MetricValue(const std::string& series) {
  const std::scoped_lock lock(metrics_mutex);
  for (const TRITONSERVER_Metric* metric : metrics) {
    if (metric->series == series) return metric->value;
  }
  return -1.0;
}

size_t LiveMetrics() {
  const std::scoped_lock lock(metrics_mutex);
  return metrics.size();
}

size_t LiveMetricFamilies() {
  const std::scoped_lock lock(metrics_mutex);
  return families.size();
}

}  // namespace naiad::testing

extern "C" {

TRITONSERVER_Error* TRITONSERVER_ErrorNew(TRITONSERVER_Error_Code code, const char* message) {
  return Error(code, message);
}
void TRITONSERVER_ErrorDelete(TRITONSERVER_Error* error) { delete error; }
const char* TRITONSERVER_ErrorMessage(TRITONSERVER_Error* error) { return error->message.c_str(); }
TRITONSERVER_Error* TRITONSERVER_LogMessage(TRITONSERVER_LogLevel, const char*, int, const char*) { return nullptr; }
const char* TRITONSERVER_DataTypeString(TRITONSERVER_DataType type) {
  return type == TRITONSERVER_TYPE_INT32 ? "INT32" : type == TRITONSERVER_TYPE_FP32 ? "FP32" : "<invalid>";
}
TRITONSERVER_Parameter* TRITONSERVER_ParameterNew(const char* name, TRITONSERVER_ParameterType, const void* value) {
  return new TRITONSERVER_Parameter{name, static_cast<const char*>(value)};
}
void TRITONSERVER_ParameterDelete(TRITONSERVER_Parameter* parameter) { delete parameter; }

TRITONSERVER_Error* TRITONSERVER_MetricFamilyNew(TRITONSERVER_MetricFamily** family, TRITONSERVER_MetricKind kind,
                                                 const char* name, const char*) {
  const std::scoped_lock lock(metrics_mutex);
  *family = new TRITONSERVER_MetricFamily{name, kind};
  families.insert(*family);
  return nullptr;
}
TRITONSERVER_Error* TRITONSERVER_MetricFamilyDelete(TRITONSERVER_MetricFamily* family) {
  const std::scoped_lock lock(metrics_mutex);
  families.erase(family);
  delete family;
  return nullptr;
}
TRITONSERVER_Error* TRITONSERVER_MetricArgsNew(TRITONSERVER_MetricArgs** args) {
  *args = new TRITONSERVER_MetricArgs;
  return nullptr;
}
TRITONSERVER_Error* TRITONSERVER_MetricArgsSetHistogram(TRITONSERVER_MetricArgs* args, const double* bounds,
                                                        uint64_t count) {
  args->bounds.assign(bounds, bounds + count);
  return nullptr;
}
TRITONSERVER_Error* TRITONSERVER_MetricArgsDelete(TRITONSERVER_MetricArgs* args) {
  delete args;
  return nullptr;
}
TRITONSERVER_Error* TRITONSERVER_MetricNew(TRITONSERVER_Metric** metric, TRITONSERVER_MetricFamily* family,
                                           const TRITONSERVER_Parameter** labels, uint64_t label_count) {
  std::string series = family->name + "{";
  for (uint64_t index = 0; index < label_count; ++index) {
    series += (index == 0 ? "" : ",") + labels[index]->name + "=" + labels[index]->value;
  }
  const std::scoped_lock lock(metrics_mutex);
  *metric = new TRITONSERVER_Metric{family->kind, series + "}"};
  metrics.insert(*metric);
  return nullptr;
}
TRITONSERVER_Error* TRITONSERVER_MetricNewWithArgs(TRITONSERVER_Metric** metric, TRITONSERVER_MetricFamily* family,
                                                   const TRITONSERVER_Parameter** labels, uint64_t label_count,
                                                   const TRITONSERVER_MetricArgs* args) {
  if (args->bounds.empty()) return Error(TRITONSERVER_ERROR_INVALID_ARG, "a histogram without buckets");
  return TRITONSERVER_MetricNew(metric, family, labels, label_count);
}
TRITONSERVER_Error* TRITONSERVER_MetricDelete(TRITONSERVER_Metric* metric) {
  const std::scoped_lock lock(metrics_mutex);
  metrics.erase(metric);
  delete metric;
  return nullptr;
}
TRITONSERVER_Error* TRITONSERVER_MetricIncrement(TRITONSERVER_Metric* metric, double value) {
  return AddTo(metric, TRITONSERVER_METRIC_KIND_COUNTER, value, false);
}
TRITONSERVER_Error* TRITONSERVER_MetricSet(TRITONSERVER_Metric* metric, double value) {
  return AddTo(metric, TRITONSERVER_METRIC_KIND_GAUGE, value, true);
}
TRITONSERVER_Error* TRITONSERVER_MetricObserve(TRITONSERVER_Metric* metric, double) {
  return AddTo(metric, TRITONSERVER_METRIC_KIND_HISTOGRAM, 1.0, false);
}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceReportStatistics(TRITONBACKEND_ModelInstance*,
                                                                TRITONBACKEND_Request* request, bool success,
                                                                uint64_t exec_start_ns, uint64_t compute_start_ns,
                                                                uint64_t compute_end_ns, uint64_t exec_end_ns) {
  request->log->AddStatistics({success, exec_start_ns, compute_start_ns, compute_end_ns, exec_end_ns});
  return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceReportBatchStatistics(TRITONBACKEND_ModelInstance*, uint64_t, uint64_t,
                                                                     uint64_t, uint64_t, uint64_t) {
  return nullptr;
}

TRITONSERVER_Error* TRITONBACKEND_RequestId(TRITONBACKEND_Request* request, const char** id) {
  *id = request->spec.id.c_str();
  return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_RequestParameterCount(TRITONBACKEND_Request* request, uint32_t* count) {
  *count = static_cast<uint32_t>(request->spec.parameters.size());
  return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_RequestParameter(TRITONBACKEND_Request* request, uint32_t index, const char** key,
                                                   TRITONSERVER_ParameterType* type, const void** value) {
  const auto& [name, parameter] = *std::next(request->spec.parameters.begin(), index);
  *key = name.c_str();
  *type = static_cast<TRITONSERVER_ParameterType>(parameter.index());
  if (const auto* text = std::get_if<std::string>(&parameter)) {
    *value = text->c_str();
  } else if (const auto* integer = std::get_if<int64_t>(&parameter)) {
    *value = integer;
  } else if (const auto* flag = std::get_if<bool>(&parameter)) {
    *value = flag;
  } else {
    *value = &std::get<double>(parameter);
  }
  return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_RequestInputCount(TRITONBACKEND_Request* request, uint32_t* count) {
  *count = static_cast<uint32_t>(request->spec.inputs.size());
  return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_RequestInputByIndex(TRITONBACKEND_Request* request, uint32_t index,
                                                      TRITONBACKEND_Input** input) {
  *input = &request->spec.inputs[index];
  return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_RequestOutputCount(TRITONBACKEND_Request* request, uint32_t* count) {
  *count = static_cast<uint32_t>(request->spec.requested_outputs.size());
  return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_RequestOutputName(TRITONBACKEND_Request* request, uint32_t index, const char** name) {
  *name = request->spec.requested_outputs[index].c_str();
  return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_RequestRelease(TRITONBACKEND_Request* request, uint32_t) {
  const std::shared_ptr<RequestLog> log = request->log;
  delete request;
  log->SetReleased();
  return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_InputProperties(TRITONBACKEND_Input* input, const char** name,
                                                  TRITONSERVER_DataType* type, const int64_t** shape,
                                                  uint32_t* dims_count, uint64_t* byte_size, uint32_t* buffer_count) {
  *name = input->name.c_str();
  *type = input->type;
  *shape = input->shape.data();
  *dims_count = static_cast<uint32_t>(input->shape.size());
  *byte_size = 0;
  for (const auto& buffer : input->buffers) *byte_size += buffer.size();
  *buffer_count = static_cast<uint32_t>(input->buffers.size());
  return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_InputBuffer(TRITONBACKEND_Input* input, uint32_t index, const void** buffer,
                                              uint64_t* byte_size, TRITONSERVER_MemoryType* memory_type, int64_t*) {
  *buffer = input->buffers[index].data();
  *byte_size = input->buffers[index].size();
  *memory_type = TRITONSERVER_MEMORY_CPU;
  return nullptr;
}

TRITONSERVER_Error* TRITONBACKEND_ResponseFactoryNew(TRITONBACKEND_ResponseFactory** factory,
                                                     TRITONBACKEND_Request* request) {
  *factory = new TRITONBACKEND_ResponseFactory{request->log};
  ++request->log->factories;
  return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ResponseFactoryDelete(TRITONBACKEND_ResponseFactory* factory) {
  --factory->log->factories;
  delete factory;
  return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ResponseFactoryIsCancelled(TRITONBACKEND_ResponseFactory* factory, bool* cancelled) {
  *cancelled = factory->log->cancelled();
  return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ResponseFactorySendFlags(TRITONBACKEND_ResponseFactory*, uint32_t) {
  return Error(TRITONSERVER_ERROR_UNSUPPORTED, "the tests never need flags alone");
}
TRITONSERVER_Error* TRITONBACKEND_ResponseNewFromFactory(TRITONBACKEND_Response** response,
                                                         TRITONBACKEND_ResponseFactory* factory) {
  *response = new TRITONBACKEND_Response{factory->log, {}};
  return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ResponseDelete(TRITONBACKEND_Response* response) {
  delete response;
  return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ResponseSetStringParameter(TRITONBACKEND_Response* response, const char* name,
                                                             const char* value) {
  response->contents.parameters[name] = std::string(value);
  return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ResponseSetIntParameter(TRITONBACKEND_Response* response, const char* name,
                                                          int64_t value) {
  response->contents.parameters[name] = value;
  return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ResponseOutput(TRITONBACKEND_Response* response, TRITONBACKEND_Output** output,
                                                 const char* name, TRITONSERVER_DataType type, const int64_t* shape,
                                                 uint32_t dims_count) {
  if (response->log == failing_log) return Error(TRITONSERVER_ERROR_INTERNAL, "no memory for an output");
  auto& tensor = response->contents.tensors[name];
  tensor = {type, {shape, shape + dims_count}, {}};
  *output = reinterpret_cast<TRITONBACKEND_Output*>(&tensor);
  return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_OutputBuffer(TRITONBACKEND_Output* output, void** buffer, uint64_t byte_size,
                                               TRITONSERVER_MemoryType* memory_type, int64_t*) {
  if (fail_output_buffers) return Error(TRITONSERVER_ERROR_INTERNAL, "no memory for an output");
  output->tensor.bytes.resize(byte_size);
  *buffer = output->tensor.bytes.data();
  *memory_type = TRITONSERVER_MEMORY_CPU;
  return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ResponseSend(TRITONBACKEND_Response* response, uint32_t send_flags,
                                               TRITONSERVER_Error* error) {
  response->contents.is_final = (send_flags & kTritonResponseFinal) != 0;
  if (error != nullptr) response->contents.error = error->message;
  response->log->AddResponse(std::move(response->contents));
  delete response;
  return nullptr;
}

}  // extern "C"
