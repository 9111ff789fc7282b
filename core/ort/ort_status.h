// From ONNX Runtime's exceptions to our Status: nothing that it throws leaves this room.
#pragma once

#include <exception>
#include <new>
#include <string_view>

#include "engine/status.h"
#include "ort/ort_api.h"

namespace naiad {

// Whether ONNX Runtime's message says that memory ran out: it has no error code for that. The only place that knows.
[[nodiscard]] bool IsOutOfMemoryMessage(std::string_view message);

// kResourceExhausted if memory ran out, else kInternal: what reaches ONNX Runtime has been checked before.
[[nodiscard]] Status StatusFromOrtMessage(std::string_view message);

// Calls `body` and turns what it throws into a status.
template <typename Body>
Status CatchAsStatus(const Body& body) noexcept {
  try {
    body();
    return Status::Ok();
  } catch (const std::bad_alloc&) {
    return Status::ResourceExhausted("out of memory");
  } catch (const std::exception& error) {  // Ort::Exception among them.
    return StatusFromOrtMessage(error.what());
  }
}

}  // namespace naiad
