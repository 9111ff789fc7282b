#include "kernels/cpu_features.h"

#include <array>
#include <cstddef>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace naiad {
namespace {

// In the order of SimdLevel.
constexpr std::array<std::pair<const char*, SimdLevel>, 4> kLevels{{{"scalar", SimdLevel::kScalar},
                                                                    {"avx2", SimdLevel::kAvx2},
                                                                    {"avx512", SimdLevel::kAvx512},
                                                                    {"amx", SimdLevel::kAmx}}};

#if defined(__x86_64__)
// Of Linux's interface for states that a process has to ask for (Documentation/arch/x86/xstate.rst).
constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
constexpr long kTileData = 18;               // XFEATURE_XTILEDATA

// Whether the CPU has AMX for 8-bit integers and for bfloat16, and the system lets all threads of this process use it.
bool MayUseTiles() {
  unsigned int eax = 0;
  unsigned int ebx = 0;
  unsigned int ecx = 0;
  unsigned int edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  // GCC 12 has no names for them in __builtin_cpu_supports.
  constexpr unsigned int kAmxBf16 = 1U << 22U;
  constexpr unsigned int kAmxTile = 1U << 24U;
  constexpr unsigned int kAmxInt8 = 1U << 25U;
  constexpr unsigned int kAll = kAmxBf16 | kAmxTile | kAmxInt8;
  if ((edx & kAll) != kAll || !__builtin_cpu_supports("avx512bf16")) return false;
  static const bool is_permitted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return is_permitted;
}
#endif

SimdLevel BestLevel() {
#if defined(__x86_64__)
  const bool has_avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
  if (has_avx512 && has_avx2) return MayUseTiles() ? SimdLevel::kAmx : SimdLevel::kAvx512;
  if (has_avx2) return SimdLevel::kAvx2;
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
                                 "'; it must be 'auto', 'scalar', 'avx2', 'avx512' or 'amx'");
}

const char* SimdLevelName(SimdLevel level) { return kLevels[static_cast<size_t>(level)].first; }

Status ChooseSimdLevelFromEnvironment(SimdLevel* level) {
  return ChooseSimdLevel(std::getenv(kSimdLevelVariable), level);
}

}  // namespace naiad
