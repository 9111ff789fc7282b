// Which instruction sets the kernels may use on this machine.
#pragma once

#include "engine/status.h"

namespace naiad {

// A set of kernels. Each level has its own translation unit, compiled with just the flags that it needs; a new one
// (AVX-512) is one more enumerator, one more unit and one more line in AttentionMathFor.
enum class SimdLevel {
  kScalar,  // Portable C++, the reference.
  kAvx2,    // AVX2 and FMA.
};

// The environment variable that caps the level: "scalar" or "avx2". For tests and for finding faults.
inline constexpr char kSimdLevelVariable[] = "NAIAD_SIMD_LEVEL";

// Sets `level` to the best that this CPU has, or to `wanted` ("scalar", "avx2") if that is not null and not empty.
// Fails with kInvalidArgument on an unknown name and on a level that the CPU lacks.
Status ChooseSimdLevel(const char* wanted, SimdLevel* level);

// ChooseSimdLevel for the value of kSimdLevelVariable.
Status ChooseSimdLevelFromEnvironment(SimdLevel* level);

}  // namespace naiad
