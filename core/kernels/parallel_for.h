// How a kernel gets its independent tasks run, without knowing whose threads do it.
#pragma once

#include <cstddef>
#include <functional>

namespace naiad {

// One task of a kernel. Never throws, and touches nothing that another task of the same call writes.
using Task = std::function<void(size_t task)>;

// Calls `task` once for each of 0 .. count-1, in any order and on any threads, and returns when all have ended.
using ParallelFor = std::function<void(size_t count, const Task& task)>;

// Runs the tasks one after the other on the calling thread.
inline void SerialFor(size_t count, const Task& task) {
  for (size_t i = 0; i < count; ++i) task(i);
}

}  // namespace naiad
