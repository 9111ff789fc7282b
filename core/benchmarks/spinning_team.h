// Threads for measurements: they wait actively, as ONNX Runtime's do by default.
#pragma once

#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

#include "kernels/parallel_for.h"

namespace naiad {

class SpinningTeam {
 public:
  explicit SpinningTeam(int threads) {
    for (int i = 1; i < threads; ++i) helpers_.emplace_back([this] { Help(); });
  }
  ~SpinningTeam() {
    stop_ = true;
    for (std::thread& helper : helpers_) helper.join();
  }
  SpinningTeam(const SpinningTeam&) = delete;
  SpinningTeam& operator=(const SpinningTeam&) = delete;

  // A ParallelFor; one call at a time.
  void Run(size_t count, const Task& task) {
    task_ = &task;
    count_ = count;
    next_ = 0;
    idle_ = 0;
    ++round_;
    Work();
    while (idle_ != helpers_.size()) {
    }
  }

 private:
  void Work() {
    for (size_t i = next_++; i < count_; i = next_++) (*task_)(i);
  }
  void Help() {
    for (size_t seen = 0; !stop_;) {
      if (round_ == seen) continue;
      ++seen;
      Work();
      ++idle_;
    }
  }

  std::vector<std::thread> helpers_;
  const Task* task_ = nullptr;
  size_t count_ = 0;
  std::atomic<size_t> next_ = 0;
  std::atomic<size_t> idle_ = 0;
  std::atomic<size_t> round_ = 0;
  std::atomic<bool> stop_ = false;
};

}  // namespace naiad
