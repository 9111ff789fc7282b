#include "ort/session.h"

#include <sched.h>

#include <algorithm>
#include <bit>
#include <mutex>

#include "engine/thread_name.h"
#include "ort/cuda_provider.h"
#include "ort/custom_ops.h"

namespace naiad {
namespace {

constexpr char kSpinMicroseconds[] = "100";

int32_t UsableCores() {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof(cores), &cores) != 0) return 1;
  return std::max(1, CPU_COUNT(&cores));
}

// ONNX Runtime keeps a process-wide list of operator domains, and adds a new one without a lock between looking and
// adding: two models that load at the same time can both find ours missing, and the second one fails. So sessions open
// one after the other until one of them has put it there.
Ort::Session OpenKnowingTheDomain(const OrtRuntime& runtime, const std::string& graph_path,
                                  const Ort::SessionOptions& options) {
  static std::mutex& mutex = *new std::mutex;  // Outlives every static object.
  static bool is_domain_known = false;
  std::unique_lock lock(mutex);
  if (is_domain_known) lock.unlock();
  Ort::Session session(runtime.env(), graph_path.c_str(), options);
  if (lock.owns_lock()) is_domain_known = true;
  return session;
}

Ort::SessionOptions CommonOptions(const OrtRuntime& runtime, int32_t intra_op_threads,
                                  std::optional<int32_t> cuda_gpu) {
  Ort::SessionOptions options;
  if (cuda_gpu.has_value()) AppendCudaProvider(runtime, *cuda_gpu, &options);
  // A number, even for "all": ONNX Runtime's own 0 would also pin threads to cores, and several models share the
  // machine.
  options.SetIntraOpNumThreads(intra_op_threads > 0 ? intra_op_threads : UsableCores());
  options.SetInterOpNumThreads(1);
  options.SetExecutionMode(ORT_SEQUENTIAL);
  options.SetGraphOptimizationLevel(ORT_ENABLE_ALL);
  // Patterns are kept for each input shape that was ever seen, and packed batches hardly ever repeat one: memory would
  // grow.
  options.DisableMemPattern();
  // A thread that has nothing to do waits actively for as long as the gap between two operators of a step lasts, and
  // then sleeps: to wake it for each of hundreds of operators costs more than a tenth of a short step, but a thread
  // that waits for longer takes the core from the services, clients and other models that share the machine.
  options.AddConfigEntry("session.intra_op.allow_spinning", "1");
  options.AddConfigEntry("session.intra_op.spin_duration_us", kSpinMicroseconds);
  return options;
}

}  // namespace

Ort::Session OpenSession(const OrtRuntime& runtime, const std::string& graph_path, int32_t intra_op_threads,
                         std::optional<int32_t> cuda_gpu) {
  Ort::SessionOptions options = CommonOptions(runtime, intra_op_threads, cuda_gpu);
  options.Add(NaiadOpDomain());
  const NameOfNewThreads name(kKernelThreadName);
  return OpenKnowingTheDomain(runtime, graph_path, options);
}

Ort::Session OpenSessionOfBytes(const OrtRuntime& runtime, const std::string& graph, std::optional<int32_t> cuda_gpu) {
  return {runtime.env(), graph.data(), graph.size(), CommonOptions(runtime, /*intra_op_threads=*/1, cuda_gpu)};
}

std::span<float> OutputBuffer::Reserve(size_t count) {
  if (count > floats_.size()) {
    floats_ = {};  // Give back first: the old content is not wanted, and both need not fit.
    floats_.resize(std::bit_ceil(count));
  }
  return std::span(floats_).first(count);
}

}  // namespace naiad
