#include "kernels/cpu_features.h"

#include <array>
#include <cstddef>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

namespace naiad {
namespace {

// In the order of SimdLevel.
constexpr std::array<std::pair<const char*, SimdLevel>, 3> kLevels{
    {{"scalar", SimdLevel::kScalar}, {"avx2", SimdLevel::kAvx2}, {"avx512", SimdLevel::kAvx512}}};

SimdLevel BestLevel() {
#if defined(__x86_64__)
  const bool has_avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
  if (has_avx2) return has_avx512 ? SimdLevel::kAvx512 : SimdLevel::kAvx2;
#endif
  return SimdLevel::kScalar;
}

}  // namespace

Status ChooseSimdLevel(const char* wanted, SimdLevel* level) {
  const std::string_view name = wanted == nullptr ? std::string_view{} : std::string_view{wanted};
  const SimdLevel best = BestLevel();
  if (name.empty() || name == "auto") {
    *level = best;
    return Status::Ok();
  }
  for (const auto& [known, its_level] : kLevels) {
    if (name != known) continue;
    if (its_level > best) {
      return Status::InvalidArgument(std::string(kSimdLevelVariable) + " is '" + std::string(name) +
                                     "', which this CPU does not have");
    }
    *level = its_level;
    return Status::Ok();
  }
  return Status::InvalidArgument(std::string(kSimdLevelVariable) + " is '" + std::string(name) +
                                 "'; it must be 'auto', 'scalar', 'avx2' or 'avx512'");
}

const char* SimdLevelName(SimdLevel level) { return kLevels[static_cast<size_t>(level)].first; }

Status ChooseSimdLevelFromEnvironment(SimdLevel* level) {
  return ChooseSimdLevel(std::getenv(kSimdLevelVariable), level);
}

}  // namespace naiad
