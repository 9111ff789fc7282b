// Which instruction sets the kernels may use on this machine.
#pragma once

#include "engine/status.h"

namespace naiad {

// A set of kernels; each level includes those before it. Each has its own translation units, compiled with just the
// flags that it needs; where a kernel has none for a level, the next lower one serves (docs/performance.md).
enum class SimdLevel {
  kScalar,  // Portable C++, the reference.
  kAvx2,    // AVX2, FMA and F16C.
  kAvx512,  // AVX-512 F, BW, VL and VNNI.
  kAmx,     // AMX's tiles of 8-bit integers and of bfloat16, if the system lets the process use them.
};

// The environment variable that caps the level: "scalar", "avx2", "avx512" or "amx". For tests and for finding faults.
inline constexpr char kSimdLevelVariable[] = "NAIAD_SIMD_LEVEL";

// Sets `level` to the best that this CPU has, or to `wanted` ("scalar", "avx2", "avx512", "amx"; "auto" is the best) if
// that is not null and not empty. Fails with kInvalidArgument on an unknown name and on a level that the CPU lacks.
Status ChooseSimdLevel(const char* wanted, SimdLevel* level);

// The name that kSimdLevelVariable has for `level`.
const char* SimdLevelName(SimdLevel level);

// ChooseSimdLevel for the value of kSimdLevelVariable.
Status ChooseSimdLevelFromEnvironment(SimdLevel* level);

}  // namespace naiad
