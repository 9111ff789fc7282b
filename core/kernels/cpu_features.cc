#include "kernels/cpu_features.h"

#include <cstdlib>
#include <string>
#include <string_view>

namespace naiad {
namespace {

bool HasAvx2() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

}  // namespace

Status ChooseSimdLevel(const char* wanted, SimdLevel* level) {
  const std::string_view name = wanted == nullptr ? std::string_view{} : std::string_view{wanted};
  const SimdLevel best = HasAvx2() ? SimdLevel::kAvx2 : SimdLevel::kScalar;
  if (name.empty() || name == "auto") {
    *level = best;
  } else if (name == "scalar") {
    *level = SimdLevel::kScalar;
  } else if (name == "avx2") {
    if (best != SimdLevel::kAvx2) {
      return Status::InvalidArgument(std::string(kSimdLevelVariable) + " is 'avx2', which this CPU does not have");
    }
    *level = SimdLevel::kAvx2;
  } else {
    return Status::InvalidArgument(std::string(kSimdLevelVariable) + " is '" + std::string(name) +
                                   "'; it must be 'auto', 'scalar' or 'avx2'");
  }
  return Status::Ok();
}

Status ChooseSimdLevelFromEnvironment(SimdLevel* level) {
  return ChooseSimdLevel(std::getenv(kSimdLevelVariable), level);
}

}  // namespace naiad
