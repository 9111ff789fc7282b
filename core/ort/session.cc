#include "ort/session.h"

#include <sched.h>

#include <algorithm>
#include <bit>
#include <mutex>

#include "ort/custom_ops.h"

namespace naiad {
namespace {

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

}  // namespace

Ort::Session OpenSession(const OrtRuntime& runtime, const std::string& graph_path, int32_t intra_op_threads) {
  Ort::SessionOptions options;
  options.Add(NaiadOpDomain());
  // A number, even for "all": ONNX Runtime's own 0 would also pin threads to cores, and several models share the
  // machine.
  options.SetIntraOpNumThreads(intra_op_threads > 0 ? intra_op_threads : UsableCores());
  options.SetInterOpNumThreads(1);
  options.SetExecutionMode(ORT_SEQUENTIAL);
  options.SetGraphOptimizationLevel(ORT_ENABLE_ALL);
  // Patterns are kept for each input shape that was ever seen, and packed batches hardly ever repeat one: memory would
  // grow.
  options.DisableMemPattern();
  // Threads sleep while they wait. A thread that waits actively helps only where it has a core for itself; with more
  // threads on the machine than cores (several models, the services, clients) it takes the core from the thread it
  // waits for.
  options.AddConfigEntry("session.intra_op.allow_spinning", "0");
  return OpenKnowingTheDomain(runtime, graph_path, options);
}

std::span<float> OutputBuffer::Reserve(size_t count) {
  if (count > floats_.size()) {
    floats_ = {};  // Give back first: the old content is not wanted, and both need not fit.
    floats_.resize(std::bit_ceil(count));
  }
  return std::span(floats_).first(count);
}

}  // namespace naiad
