// Random numbers that are a function of (seed, counter) and of nothing else.
#pragma once

#include <cstdint>

namespace naiad {

// The finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): a bijection
// of 64-bit numbers whose output bits each depend on all input bits.
[[nodiscard]] constexpr uint64_t MixBits(uint64_t bits) {
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9ULL;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebULL;
  return bits ^ (bits >> 31);
}

// A number in [0, 1), uniform over multiples of 2^-53. Counter-based, so the draw for a token does not depend on how
// many draws others have made: the same request gives the same tokens alone or batched. The seed is mixed first, or
// neighbouring seeds would draw shifted copies of one stream.
[[nodiscard]] constexpr double UniformAt(uint64_t seed, uint64_t counter) {
  constexpr uint64_t kGoldenGamma = 0x9e3779b97f4a7c15ULL;
  const uint64_t stream = MixBits(seed + kGoldenGamma);
  return static_cast<double>(MixBits(stream + (counter + 1) * kGoldenGamma) >> 11) * 0x1.0p-53;
}

// The seed of sequence `index` of a request: the request's own for the first, so that asking for more changes nothing
// about it.
[[nodiscard]] constexpr uint64_t SequenceSeed(uint64_t seed, int32_t index) {
  return index == 0 ? seed : MixBits(seed + static_cast<uint64_t>(index) * 0x9e3779b97f4a7c15ULL);
}

}  // namespace naiad
