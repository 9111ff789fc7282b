// Makes requests, as the server would hand them over, from the bytes of a fuzzer.
#pragma once

#include <string>
#include <vector>

#include "byte_source.h"
#include "tests/triton/fake_triton.h"
#include "triton/request_contents.h"

namespace naiad::fuzz {

// Names that get a request past the first look; a fuzzer would need long to find them.
struct KnownNames {
  std::vector<std::string> tensors;
  std::vector<std::string> parameters;
  std::vector<std::string> outputs;
  std::vector<std::string> texts;  // Values of string parameters.
};

// A request read with ReadRequest. Tensors may have any type, shape and bytes, in pieces; so what Triton itself would
// refuse, such as a size that does not go with the shape, arrives too. `status` is that of ReadRequest.
struct ReadBack {
  Status status;
  RequestContents contents;
};

ReadBack RequestFrom(ByteSource& bytes, const KnownNames& names);

}  // namespace naiad::fuzz
