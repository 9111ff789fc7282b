// The one place that decides whether an encoder request can be run.
#pragma once

#include "encoder/encoder_request.h"
#include "encoder/encoder_runner.h"
#include "engine/status.h"

namespace naiad {

// kInvalidArgument that names the field, and the sequence where it is one sequence's fault. A request that passes
// cannot make a run fail for the others that share it.
Status ValidateEncoderRequest(const EncoderShape& shape, const EncoderRequest& request);

}  // namespace naiad
