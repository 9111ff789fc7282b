// Commits one crime of each kind and expects the sanitizer of this build to report it.
#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>
#include <memory>
#include <thread>

namespace naiad {
namespace {

#ifdef NAIAD_SANITIZER_address

TEST(SanitizerIsLiveDeathTest, AddressSanitizerReportsUseAfterFree) {
  const auto use_after_free = [] {
    auto owner = std::make_unique<int>(1);
    // The pointer itself is volatile: the compiler must not see the crime, or it refuses to build.
    int* volatile dangling = owner.get();
    owner.reset();
    *dangling = 2;
  };
  EXPECT_DEATH(use_after_free(), "heap-use-after-free");
}

TEST(SanitizerIsLiveDeathTest, UndefinedBehaviourSanitizerReportsOverflow) {
  const auto overflow = [] {
    volatile int largest = std::numeric_limits<int>::max();
    largest = largest + 1;
  };
  EXPECT_DEATH(overflow(), "signed integer overflow");
}

#endif

#ifdef NAIAD_SANITIZER_thread

TEST(SanitizerIsLiveDeathTest, ThreadSanitizerReportsADataRace) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  constexpr int kExitCodeOfThreadSanitizer = 66;
  const auto race = [] {
    volatile int shared = 0;
    std::thread other([&shared] { shared = shared + 1; });
    shared = shared + 1;
    other.join();
    std::exit(EXIT_SUCCESS);
  };
  EXPECT_EXIT(race(), testing::ExitedWithCode(kExitCodeOfThreadSanitizer), "data race");
}

#endif

}  // namespace
}  // namespace naiad
