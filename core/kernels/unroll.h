// Loops that are unrolled for certain.
#pragma once

#include <type_traits>
#include <utility>

namespace naiad {

// Calls f with 0 .. kCount-1, each as a type of its own: then GCC keeps arrays that f indexes in registers. With a loop
// it writes them to memory in each round. Always inlined, so that units for different instruction sets share no copy.
template <int kCount, typename Function>
[[gnu::always_inline]] static inline void Unroll(Function f) {
  [&]<int... kIndex>(std::integer_sequence<int, kIndex...>) __attribute__((always_inline)) {
    (f(std::integral_constant<int, kIndex>{}), ...);
  }(std::make_integer_sequence<int, kCount>{});
}

}  // namespace naiad
