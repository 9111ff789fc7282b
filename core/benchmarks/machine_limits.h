// What the machine can do at most, measured.
#pragma once

#include "kernels/parallel_for.h"

namespace naiad {

// Bytes a second that `threads` threads read together from memory that no cache holds.
double ReadBytesPerSecond(const ParallelFor& parallel_for, int threads);

// 8-bit operations a second (a multiplication and an addition are two) of `threads` threads, from registers alone; 0
// where this CPU has no AVX-512 VNNI.
double VnniOpsPerSecond(const ParallelFor& parallel_for, int threads);

// The same with AMX's tiles; 0 where this CPU has none.
double TileOpsPerSecond(const ParallelFor& parallel_for, int threads);

// Float operations a second (a multiplication and an addition are two) of `threads` threads, from registers alone; 0
// where this CPU has no AVX-512.
double FmaFlopsPerSecond(const ParallelFor& parallel_for, int threads);

#if defined(__x86_64__)
// Runs `rounds` rounds of VNNI instructions; returns the operations that they were.
double SpinVnni(long rounds);
// The same with products of tiles.
double SpinTiles(long rounds);
// The same with fused multiply-adds of floats.
double SpinFma(long rounds);
#endif

}  // namespace naiad
