#include "triton/encoder_codec.h"

#include <algorithm>

#include "triton/deadline.h"
#include "triton/parameter_reader.h"

namespace naiad {
namespace {

constexpr char kEmbeddings[] = "embeddings";
constexpr char kHiddenStates[] = "hidden_states";
constexpr char kLogits[] = "logits";

const char* OutputName(EncoderOutput output) {
  switch (output) {
    case EncoderOutput::kLogits:
    case EncoderOutput::kTokenLogits:
      return kLogits;
    case EncoderOutput::kEmbeddings:
      return kEmbeddings;
    case EncoderOutput::kHiddenStates:
      return kHiddenStates;
  }
  return kLogits;
}

Status DecodeOutput(const RequestContents& contents, Task task, EncoderOutput* output) {
  if (task == Task::kClassify || task == Task::kClassifyTokens) {
    *output = task == Task::kClassify ? EncoderOutput::kLogits : EncoderOutput::kTokenLogits;
    return Status::Ok();
  }
  const auto wants = [&contents](const char* name) {
    const auto& names = contents.requested_outputs;
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  // A client that names no output is given both names by Triton: hidden states are never a default.
  if (wants(kEmbeddings) == wants(kHiddenStates)) {
    return Status::InvalidArgument("outputs must name exactly one of embeddings and hidden_states");
  }
  *output = wants(kEmbeddings) ? EncoderOutput::kEmbeddings : EncoderOutput::kHiddenStates;
  return Status::Ok();
}

Status DecodePooling(const std::string& name, Pooling* pooling) {
  if (name == "mean") {
    *pooling = Pooling::kMean;
  } else if (name == "cls") {
    *pooling = Pooling::kCls;
  } else if (name == "max") {
    *pooling = Pooling::kMax;
  } else {
    return Status::InvalidArgument("pooling is \"" + name + "\"; it must be mean, cls or max");
  }
  return Status::Ok();
}

}  // namespace

bool IsEncoderStop(const RequestContents& contents) { return ParameterReader(contents.parameters).Bool("stop", false); }

Status DecodeEncoder(const RequestContents& contents, const EncoderContract& contract, EncoderRequest* request) {
  request->id = contents.id;
  ParameterReader parameters(contents.parameters);
  const std::string pooling = parameters.Text("pooling", contract.pooling);
  const Status deadline_status = ReadDeadline(parameters, request->arrival, &request->deadline);
  Status status = parameters.Finish();
  if (status.ok()) status = deadline_status;
  if (status.ok()) status = DecodePooling(pooling, &request->pooling);
  if (status.ok()) status = DecodeOutput(contents, contract.task, &request->output);
  if (status.ok()) status = FindInt32Input(contents, "input_ids", &request->input_ids);
  if (status.ok()) status = FindInt32Input(contents, "sequence_lengths", &request->sequence_lengths);
  if (status.ok()) status = FindInt32Input(contents, "token_type_ids", &request->token_type_ids);
  return status;
}

ResponseContents EncodeResult(const EncoderResult& result, EncoderOutput output) {
  ResponseContents response;
  response.tensors.push_back(FloatTensor(OutputName(output), result.values, {result.rows, result.width}));
  response.numbers.push_back({"queue_us", result.queue.count()});
  response.numbers.push_back({"compute_us", result.compute.count()});
  return response;
}

}  // namespace naiad
