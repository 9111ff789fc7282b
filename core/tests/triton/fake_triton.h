// A server for unit tests: implements the functions of triton/abi.h that the glue calls, and records what it was told.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <variant>
#include <vector>

#include "triton/abi.h"

struct TRITONSERVER_Error {
  TRITONSERVER_Error_Code code;
  std::string message;
};

struct TRITONBACKEND_Input {
  std::string name;
  TRITONSERVER_DataType type = TRITONSERVER_TYPE_INT32;
  std::vector<int64_t> shape;
  std::vector<std::vector<unsigned char>> buffers;  // The tensor in pieces.
};

namespace naiad::testing {

struct ReceivedTensor {
  TRITONSERVER_DataType type;
  std::vector<int64_t> shape;
  std::vector<unsigned char> bytes;
};

struct ReceivedResponse {
  std::map<std::string, ReceivedTensor> tensors;
  std::map<std::string, std::variant<std::string, int64_t>> parameters;
  bool is_final = false;
  std::string error;  // Empty: a normal response.
};

struct ReportedStatistics {
  bool success = false;
  uint64_t exec_start_ns = 0;
  uint64_t compute_start_ns = 0;
  uint64_t compute_end_ns = 0;
  uint64_t exec_end_ns = 0;
};

// What the server saw of one request. Thread-safe.
class RequestLog {
 public:
  void AddResponse(ReceivedResponse response);
  void AddStatistics(const ReportedStatistics& statistics);
  void SetReleased();
  // Waits until the request is released, then gives its responses.
  std::vector<ReceivedResponse> WaitForRelease();
  std::vector<ReceivedResponse> WaitForResponses(size_t count);
  std::vector<ReportedStatistics> statistics();
  void Cancel();
  bool cancelled();
  int factories = 0;  // Alive now.

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<ReceivedResponse> responses_;
  std::vector<ReportedStatistics> statistics_;
  bool released_ = false;
  bool cancelled_ = false;
};

struct RequestSpec {
  std::string id = "r";
  std::vector<TRITONBACKEND_Input> inputs;
  std::map<std::string, std::variant<std::string, int64_t, bool, double>> parameters;
  std::vector<std::string> requested_outputs;
};

TRITONBACKEND_Input Int32Input(const std::string& name, const std::vector<int32_t>& values);
TRITONBACKEND_Input FloatInput(const std::string& name, const std::vector<float>& values);

// A request owned by whoever releases it, and the log that outlives it.
std::pair<TRITONBACKEND_Request*, std::shared_ptr<RequestLog>> NewRequest(RequestSpec spec);

// The next OutputBuffer calls fail, as when a client's memory is gone.
void FailOutputBuffers(bool fail);
// The same for the responses of one request; nullptr: of none.
void FailOutputBuffersOf(std::shared_ptr<RequestLog> log);

std::vector<int32_t> Int32s(const ReceivedTensor& tensor);
std::vector<float> Floats(const ReceivedTensor& tensor);

// Value of a counter or gauge, or the number of observations of a histogram, by "name{label=value,...}"; -1: no such.
double MetricValue(const std::string& series);
size_t LiveMetrics();
size_t LiveMetricFamilies();

}  // namespace naiad::testing
