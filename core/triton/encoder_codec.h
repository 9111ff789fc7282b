// Contracts "embed", "classify" and "classify_tokens" between the services and Triton (docs/contracts.md, section 3).
#pragma once

#include <string>

#include "config/model_config.h"
#include "encoder/encoder_engine.h"
#include "triton/request_contents.h"
#include "triton/response_contents.h"

namespace naiad {

// What a loaded encoder offers.
struct EncoderContract {
  Task task = Task::kEmbed;
  std::string pooling = "mean";  // Of a request that does not say.
};

// Whether the request is a stop message: it ends the waiting request of its id, and its tensors mean nothing.
bool IsEncoderStop(const RequestContents& contents);

// kInvalidArgument naming the parameter or tensor. The request, whose arrival must be set, comes without its sink.
Status DecodeEncoder(const RequestContents& contents, const EncoderContract& contract, EncoderRequest* request);

// The response views `result`, which must outlive it.
ResponseContents EncodeResult(const EncoderResult& result, EncoderOutput output);

}  // namespace naiad
