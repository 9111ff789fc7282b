#include "engine/thread_name.h"

#include <pthread.h>

#include <array>

namespace naiad {
namespace {

constexpr size_t kNameBytes = 16;  // What Linux keeps, with the zero at the end.

std::string NameOfThisThread() {
  std::array<char, kNameBytes> name{};
  return pthread_getname_np(pthread_self(), name.data(), name.size()) == 0 ? name.data() : "";
}

}  // namespace

void NameThisThread(const char* name) { pthread_setname_np(pthread_self(), name); }

NameOfNewThreads::NameOfNewThreads(const char* name) : own_name_(NameOfThisThread()) { NameThisThread(name); }

NameOfNewThreads::~NameOfNewThreads() { NameThisThread(own_name_.c_str()); }

}  // namespace naiad
