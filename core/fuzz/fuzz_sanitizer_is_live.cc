// Not about naiad: a crime behind a lock. That it is found proves that coverage guides the search (the lock is four
// bytes, chance would need a billion tries for them) and that the sanitizer named by the first byte reports what it
// should. A run of this target must fail.
#include <cstdint>
#include <limits>
#include <memory>

namespace {

void UseAfterFree() {
  auto owner = std::make_unique<int>(1);
  // The pointer itself is volatile: the compiler must not see the crime.
  int* volatile dangling = owner.get();
  owner.reset();
  *dangling = 2;
}

void OverflowInteger() {
  volatile int largest = std::numeric_limits<int>::max();
  largest = largest + 1;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 4) return 0;
  if (data[1] == 'c' && data[2] == '0' && data[3] == 'w') {
    if (data[0] == 'a') UseAfterFree();
    if (data[0] == 'u') OverflowInteger();
  }
  return 0;
}
