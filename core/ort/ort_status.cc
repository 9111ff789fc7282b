#include "ort/ort_status.h"

#include <array>
#include <string>

namespace naiad {

bool IsOutOfMemoryMessage(std::string_view message) {
  constexpr std::array<std::string_view, 5> kSigns = {
      "Failed to allocate memory",        // The arena, when the system refuses.
      "is smaller than requested bytes",  // The arena, at its own limit.
      "bad_alloc",                        // std::bad_alloc, passed on from a kernel.
      "out of memory",                    // CUDA.
      "memory exhausted in a naiad operator",
  };
  for (const std::string_view sign : kSigns) {
    if (message.find(sign) != std::string_view::npos) return true;
  }
  return false;
}

Status StatusFromOrtMessage(std::string_view message) {
  const std::string text = "ONNX Runtime: " + std::string(message);
  return IsOutOfMemoryMessage(message) ? Status::ResourceExhausted(text) : Status::Internal(text);
}

}  // namespace naiad
