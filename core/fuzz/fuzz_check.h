// What a fuzz target asserts about the code that it drives.
#pragma once

#include <cstdio>
#include <cstdlib>

// Ends the process, which libFuzzer reports as a finding, unless `condition` holds. Not assert: release builds drop it.
#define NAIAD_FUZZ_CHECK(condition)                                                       \
  do {                                                                                    \
    if (!(condition)) {                                                                   \
      std::fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                       \
    }                                                                                     \
  } while (false)
