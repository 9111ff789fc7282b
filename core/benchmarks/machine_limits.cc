#include "machine_limits.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <numeric>
#include <vector>

#include "kernels/cpu_features.h"

namespace naiad {
namespace {

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

template <typename Function>
double BestSeconds(int rounds, const Function& f) {
  double best = 1e9;
  for (int i = 0; i < rounds; ++i) {
    const double begin = Seconds();
    f();
    best = std::min(best, Seconds() - begin);
  }
  return best;
}

#if defined(__x86_64__)
// Operations a second of `threads` threads that all run `spin`.
double SpinningOpsPerSecond(double (*spin)(long rounds), SimdLevel needed, const ParallelFor& parallel_for,
                            int threads) {
  SimdLevel level = SimdLevel::kScalar;
  if (!ChooseSimdLevel(nullptr, &level).ok() || level < needed) return 0.0;
  constexpr long kRounds = 2'000'000;
  std::vector<double> operations(static_cast<size_t>(threads));
  const double seconds =
      BestSeconds(5, [&] { parallel_for(operations.size(), [&](size_t t) { operations[t] = spin(kRounds); }); });
  return std::accumulate(operations.begin(), operations.end(), 0.0) / seconds;
}
#endif

}  // namespace

double ReadBytesPerSecond(const ParallelFor& parallel_for, int threads) {
  constexpr size_t kCount = size_t{32} << 20;
  const std::vector<uint64_t> numbers(kCount, 1);
  std::vector<uint64_t> sums(static_cast<size_t>(threads));
  const size_t share = kCount / static_cast<size_t>(threads);
  const double seconds = BestSeconds(5, [&] {
    parallel_for(sums.size(), [&](size_t t) {
      const auto first = numbers.begin() + static_cast<ptrdiff_t>(t * share);
      sums[t] = std::accumulate(first, first + static_cast<ptrdiff_t>(share), uint64_t{0});
    });
  });
  return static_cast<double>(std::accumulate(sums.begin(), sums.end(), uint64_t{0}) * sizeof(uint64_t)) / seconds;
}

double VnniOpsPerSecond(const ParallelFor& parallel_for, int threads) {
#if defined(__x86_64__)
  return SpinningOpsPerSecond(SpinVnni, SimdLevel::kAvx512, parallel_for, threads);
#else
  static_cast<void>(parallel_for);
  static_cast<void>(threads);
  return 0.0;
#endif
}

double TileOpsPerSecond(const ParallelFor& parallel_for, int threads) {
#if defined(__x86_64__)
  return SpinningOpsPerSecond(SpinTiles, SimdLevel::kAmx, parallel_for, threads);
#else
  static_cast<void>(parallel_for);
  static_cast<void>(threads);
  return 0.0;
#endif
}

double FmaFlopsPerSecond(const ParallelFor& parallel_for, int threads) {
#if defined(__x86_64__)
  return SpinningOpsPerSecond(SpinFma, SimdLevel::kAvx512, parallel_for, threads);
#else
  static_cast<void>(parallel_for);
  static_cast<void>(threads);
  return 0.0;
#endif
}

}  // namespace naiad
