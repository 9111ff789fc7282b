// Configurations that load; the tests change them.
#pragma once

#include <string>

namespace naiad {

inline constexpr char kGenerateTriton[] = R"({
  "name": "chat", "backend": "naiad", "max_batch_size": 0,
  "input": [{"name": "input_ids", "data_type": "TYPE_INT32", "dims": [-1], "optional": true},
            {"name": "stop_token_ids", "data_type": "TYPE_INT32", "dims": [-1], "optional": true}],
  "output": [{"name": "output_ids", "data_type": "TYPE_INT32", "dims": [-1]}],
  "instance_group": [{"name": "chat_0", "kind": "KIND_CPU", "count": 1}],
  "model_transaction_policy": {"decoupled": true},
  "parameters": {"kv_cache_bytes": {"string_value": "1048576"}, "intra_op_threads": {"string_value": "2"}}
})";

inline constexpr char kGenerateManifest[] = R"({
  "format_version": 1, "name": "chat", "task": "generate", "architecture": "llama", "precision": "int8",
  "limits": {"context_length_tokens": 8192, "vocabulary_size": 49152},
  "special_tokens": {"bos_id": 1, "eos_ids": [2, 7], "pad_id": 2},
  "decoder": {"num_layers": 30, "num_kv_heads": 3, "head_size": 64, "kv_block_tokens": 16},
  "files": {"graph": {"path": "1/model.onnx", "sha256": "00", "size_bytes": 10},
            "graph_data": {"path": "1/model.onnx.data", "sha256": "00", "size_bytes": 1},
            "tokenizer": {"path": "tokenizer.json", "sha256": "00", "size_bytes": 1}},
  "parity": {}, "source": {}
})";

inline constexpr char kClassifyTriton[] = R"({
  "name": "sentiment", "backend": "naiad", "max_batch_size": 0,
  "input": [{"name": "input_ids", "data_type": "TYPE_INT32", "dims": [-1]},
            {"name": "sequence_lengths", "data_type": "TYPE_INT32", "dims": [-1]},
            {"name": "token_type_ids", "data_type": "TYPE_INT32", "dims": [-1], "optional": true}],
  "output": [{"name": "logits", "data_type": "TYPE_FP32", "dims": [-1, -1]}],
  "parameters": {"max_batch_tokens": {"string_value": "1024"}}
})";

inline constexpr char kClassifyManifest[] = R"({
  "format_version": 1, "name": "sentiment", "task": "classify", "architecture": "bert", "precision": "fp32",
  "limits": {"context_length_tokens": 512, "vocabulary_size": 30522},
  "encoder": {"hidden_size": 384, "pooling": "cls", "normalize": false, "uses_token_type_ids": true,
              "activation": "softmax"},
  "labels": ["negative", "positive"],
  "files": {"graph": {"path": "1/model.onnx", "sha256": "00", "size_bytes": 10}}
})";

}  // namespace naiad
