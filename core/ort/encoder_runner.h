// Runs an encoder graph on ONNX Runtime.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "encoder/encoder_runner.h"
#include "engine/status.h"
#include "ort/ort_runtime.h"

namespace naiad {

// What the manifest says about a graph. All numbers at least 1.
struct EncoderGraph {
  std::string graph_path;
  int32_t vocabulary_size = 0;
  int32_t context_length_tokens = 0;
  bool uses_token_type_ids = false;
  bool output_per_sequence = false;  // true: "logits" [S, output_width]; false: "last_hidden_state" [T, output_width].
  int32_t output_width = 0;
  bool token_logits = false;  // With output_per_sequence false: "logits" [T, output_width].
};

// Loads the graph. intra_op_threads: 0 = one for each core that this process may use. Errors as CreateDecoderRunner.
Status CreateEncoderRunner(std::shared_ptr<OrtRuntime> runtime, const EncoderGraph& graph, int32_t intra_op_threads,
                           std::unique_ptr<EncoderRunner>* runner);

}  // namespace naiad
