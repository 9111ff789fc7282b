#include "config/manifest.h"

#include <algorithm>
#include <limits>

#include "config/field_reader.h"

namespace naiad {
namespace {

constexpr int64_t kFormatVersion = 1;
constexpr int32_t kMostTokens = 16'777'216;  // Of a context or a vocabulary: where a float counts no further.

void ReadFile(FieldReader& files, std::string_view key, std::string* path, int64_t* size_bytes) {
  FieldReader file = files.Object(key);
  file.AllowOnly({"path", "sha256", "size_bytes"});
  *path = file.String("path");
  *size_bytes = file.Int("size_bytes", {1, std::numeric_limits<int64_t>::max()});
  static_cast<void>(file.String("sha256"));
  const bool leaves_folder = path->starts_with('/') || ("/" + *path + "/").find("/../") != std::string::npos;
  if (leaves_folder) file.Fail("path", "is \"" + *path + "\"; it must stay inside the model's folder");
}

void ReadFiles(FieldReader& manifest, ModelConfig* config) {
  FieldReader files = manifest.Object("files");
  files.AllowOnly({"graph", "graph_data", "tokenizer", "tokenizer_config", "chat_template"});
  ReadFile(files, "graph", &config->graph_path, &config->graph_size_bytes);
  const std::string folder = std::to_string(config->version) + "/";
  if (!config->graph_path.starts_with(folder)) {
    files.Fail("graph.path", "is \"" + config->graph_path + "\", but version " + std::to_string(config->version) +
                                 " is being loaded; it must start with \"" + folder + "\"");
  }
  std::string path;
  int64_t size_bytes = 0;
  if (files.Has("graph_data")) ReadFile(files, "graph_data", &path, &size_bytes);
  if (files.Has("tokenizer")) ReadFile(files, "tokenizer", &config->tokenizer_path, &size_bytes);
}

void ReadDecoder(FieldReader& manifest, ModelConfig* config) {
  FieldReader decoder = manifest.Object("decoder");
  decoder.AllowOnly({"num_layers", "num_kv_heads", "head_size", "kv_block_tokens", "kv_cache_type"});
  config->decoder.num_layers = decoder.Int32("num_layers", {1, 1024});
  config->decoder.num_kv_heads = decoder.Int32("num_kv_heads", {1, 1024});
  config->decoder.head_size = decoder.Int32("head_size", {1, 1024});
  config->decoder.kv_block_tokens = decoder.Int32("kv_block_tokens", {1, 1024});
  if (decoder.Has("kv_cache_type") && decoder.OneOf("kv_cache_type", {"float", "int8"}) == "int8") {
    config->decoder.kv_cache_type = KvCacheType::kInt8;
  }
}

// A graph for a GPU is in half precision, its KV cache too.
void ReadDevice(FieldReader& manifest, ModelConfig* config) {
  if (!manifest.Has("device") || manifest.OneOf("device", {"cpu", "cuda"}) != "cuda") return;
  config->device = Device::kCuda;
  if (config->task != Task::kGenerate) {
    manifest.Fail("device", "is cuda, which is for task generate; the task is " + std::string(TaskName(config->task)));
    return;
  }
  if (config->decoder.kv_cache_type != KvCacheType::kFloat) {
    manifest.Fail("decoder.kv_cache_type", "is int8, which is for device cpu; the device is cuda");
  }
  const bool bfloat16 = manifest.OneOf("precision", {"fp16", "bf16"}) == "bf16";
  config->decoder.kv_cache_type = bfloat16 ? KvCacheType::kBfloat16 : KvCacheType::kFloat16;
}

void ReadEncoder(FieldReader& manifest, ModelConfig* config) {
  FieldReader encoder = manifest.Object("encoder");
  encoder.AllowOnly({"hidden_size", "pooling", "normalize", "uses_token_type_ids", "activation"});
  config->encoder.hidden_size = encoder.Int32("hidden_size", {1, 65'536});
  config->encoder.uses_token_type_ids = encoder.Bool("uses_token_type_ids");
  if (encoder.Has("pooling")) config->encoder.pooling = encoder.OneOf("pooling", {"mean", "cls", "max"});
  if (encoder.Has("normalize")) static_cast<void>(encoder.Bool("normalize"));
  if (encoder.Has("activation")) static_cast<void>(encoder.OneOf("activation", {"softmax", "sigmoid", "none"}));
}

void ReadLabels(FieldReader& manifest, ModelConfig* config) {
  const nlohmann::json& labels = manifest.Array("labels");
  const auto is_text = [](const nlohmann::json& label) { return label.is_string(); };
  if (labels.empty() || !std::all_of(labels.begin(), labels.end(), is_text)) {
    manifest.Fail("labels", "must be a list of at least one text");
  }
  config->num_labels = static_cast<int32_t>(labels.size());
}

void ReadLimits(FieldReader& manifest, ModelConfig* config) {
  FieldReader limits = manifest.Object("limits");
  limits.AllowOnly({"context_length_tokens", "vocabulary_size"});
  config->context_length_tokens = limits.Int32("context_length_tokens", {1, kMostTokens});
  config->vocabulary_size = limits.Int32("vocabulary_size", {1, kMostTokens});
}

void ReadSpecialTokens(FieldReader& manifest, ModelConfig* config) {
  if (!manifest.Has("special_tokens")) return;
  FieldReader tokens = manifest.Object("special_tokens");
  tokens.AllowOnly({"bos_id", "eos_ids", "pad_id"});
  const IntRange ids{0, config->vocabulary_size - 1};
  if (tokens.Has("eos_ids")) config->eos_token_ids = tokens.Int32List("eos_ids", ids);
  for (const std::string_view key : {"bos_id", "pad_id"}) {
    if (tokens.Has(key)) static_cast<void>(tokens.Int32(key, ids));
  }
}

void ReadTask(const ModelIdentity& identity, FieldReader& manifest, ModelConfig* config) {
  const std::string name = manifest.String("name");
  if (name != identity.name) {
    manifest.Fail("name", "is \"" + name + "\", but the model is loaded as \"" + identity.name + "\"");
  }
  const std::string name_of_task = manifest.OneOf("task", {"generate", "embed", "classify", "classify_tokens"});
  for (const Task task : {Task::kGenerate, Task::kEmbed, Task::kClassify, Task::kClassifyTokens}) {
    if (TaskName(task) == name_of_task) config->task = task;
  }
}

}  // namespace

std::string_view TaskName(Task task) {
  switch (task) {
    case Task::kGenerate:
      return "generate";
    case Task::kEmbed:
      return "embed";
    case Task::kClassify:
      return "classify";
    case Task::kClassifyTokens:
      return "classify_tokens";
  }
  return "";
}

Status ReadManifest(const ModelIdentity& identity, const nlohmann::json& manifest, ModelConfig* config) {
  Status status;
  FieldReader reader(manifest, kManifestFile, "", &status);
  // First of all: another version may mean anything by the other keys.
  static_cast<void>(reader.Int("format_version", {kFormatVersion, kFormatVersion}));
  reader.AllowOnly({"format_version", "name", "task", "architecture", "device", "precision", "limits", "special_tokens",
                    "decoder", "encoder", "labels", "files", "parity", "quality", "source", "training"});
  config->name = identity.name;
  config->version = identity.version;
  ReadTask(identity, reader, config);
  ReadLimits(reader, config);
  ReadSpecialTokens(reader, config);
  if (config->task == Task::kGenerate) {
    ReadDecoder(reader, config);
  } else {
    ReadEncoder(reader, config);
  }
  ReadDevice(reader, config);
  if (config->task == Task::kClassify || config->task == Task::kClassifyTokens) ReadLabels(reader, config);
  ReadFiles(reader, config);
  return status;
}

}  // namespace naiad
