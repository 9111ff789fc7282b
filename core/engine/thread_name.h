// Names that tools such as top show for a thread, so that its time can be told from that of Triton's own threads.
#pragma once

#include <string>

namespace naiad {

inline constexpr const char* kEngineThreadName = "naiad-engine";
inline constexpr const char* kKernelThreadName = "naiad-kernels";

// At most 15 characters; a longer name leaves the old one.
void NameThisThread(const char* name);

// While it lives, threads that this one starts begin with `name`, as Linux lets them take their parent's.
class NameOfNewThreads {
 public:
  explicit NameOfNewThreads(const char* name);
  ~NameOfNewThreads();
  NameOfNewThreads(const NameOfNewThreads&) = delete;
  NameOfNewThreads& operator=(const NameOfNewThreads&) = delete;

 private:
  std::string own_name_;
};

}  // namespace naiad
