#include "config/triton_config.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>

#include "config/field_reader.h"

namespace naiad {
namespace {

constexpr char kDocument[] = "config.pbtxt";
constexpr int64_t kMostBytes = int64_t{1} << 46;
constexpr uint64_t kMostGpus = 1'024;

// A tensor as the contract declares it.
struct Tensor {
  std::string_view name;
  std::string_view data_type;
  bool required = false;
};

// The text at `key`, or "" if there is none.
std::string TextAt(const nlohmann::json& value, const char* key) {
  if (!value.is_object()) return "";
  const auto found = value.find(key);
  return found != value.end() && found->is_string() ? found->get<std::string>() : "";
}

std::vector<Tensor> InputsOf(Task task) {
  if (task == Task::kGenerate) {
    return {{"input_ids", "TYPE_INT32", true},
            {"stop_token_ids", "TYPE_INT32"},
            {"logit_bias_ids", "TYPE_INT32"},
            {"logit_bias_values", "TYPE_FP32"}};
  }
  return {
      {"input_ids", "TYPE_INT32", true}, {"sequence_lengths", "TYPE_INT32", true}, {"token_type_ids", "TYPE_INT32"}};
}

std::vector<Tensor> OutputsOf(Task task) {
  switch (task) {
    case Task::kGenerate:
      return {{"output_ids", "TYPE_INT32", true}, {"output_log_probs", "TYPE_FP32"},
              {"top_log_prob_ids", "TYPE_INT32"}, {"top_log_prob_values", "TYPE_FP32"},
              {"context_log_probs", "TYPE_FP32"}, {"context_top_ids", "TYPE_INT32"},
              {"context_top_values", "TYPE_FP32"}};
    case Task::kEmbed:
      return {{"embeddings", "TYPE_FP32", true}, {"hidden_states", "TYPE_FP32"}};
    case Task::kClassify:
    case Task::kClassifyTokens:
      return {{"logits", "TYPE_FP32", true}};
  }
  return {};
}

void CheckTensors(FieldReader& reader, std::string_view list, const std::vector<Tensor>& known) {
  std::vector<bool> seen(known.size(), false);
  for (const auto& entry : reader.Array(list)) {
    const std::string name = TextAt(entry, "name");
    const std::string data_type = TextAt(entry, "data_type");
    size_t index = 0;
    while (index < known.size() && known[index].name != name) ++index;
    if (index == known.size()) {
      reader.Fail(list, "has the unknown tensor \"" + name + "\"");
      return;
    }
    if (known[index].data_type != data_type) {
      reader.Fail(
          list, "\"" + name + "\" has data_type " + data_type + "; it must be " + std::string(known[index].data_type));
    }
    seen[index] = true;
  }
  for (size_t index = 0; index < known.size(); ++index) {
    if (known[index].required && !seen[index]) {
      reader.Fail(list, "lacks the tensor \"" + std::string(known[index].name) + "\"");
    }
  }
}

void CheckBatching(FieldReader& reader) {
  if (reader.Int("max_batch_size", {0, std::numeric_limits<int32_t>::max()}) != 0) {
    reader.Fail("max_batch_size", "must be 0: the backend batches by itself");
  }
  for (const std::string_view key : {"dynamic_batching", "sequence_batching", "ensemble_scheduling"}) {
    if (reader.Has(key)) reader.Fail(key, "must not be set: the backend batches by itself");
  }
}

// The only GPU of an instance group: of several, Triton would make an instance on each.
void ReadGpu(FieldReader& reader, const nlohmann::json& group, int32_t* gpu) {
  const auto gpus = group.find("gpus");
  const bool one = gpus != group.end() && gpus->is_array() && gpus->size() == 1 && gpus->front().is_number_unsigned();
  if (!one) {
    reader.Fail("instance_group.gpus", "must name one GPU, as in gpus: [ 0 ]: one engine a model");
    return;
  }
  const auto number = gpus->front().get<uint64_t>();
  if (number > kMostGpus)
    return reader.Fail("instance_group.gpus", "is " + std::to_string(number) + ", which is no GPU");
  *gpu = static_cast<int32_t>(number);
}

// Of one instance group; what Triton's own type of it could not hold is cut, so that a sum always fits.
int64_t InstancesOf(const nlohmann::json& group) {
  using Limits = std::numeric_limits<int32_t>;
  const auto number = group.find("count");
  if (number == group.end() || !number->is_number_integer()) return 1;
  return std::clamp<int64_t>(number->get<int64_t>(), Limits::min(), Limits::max());
}

void ReadInstances(FieldReader& reader, ModelConfig* config) {
  const bool cuda = config->device == Device::kCuda;
  const std::string_view wanted = cuda ? "KIND_GPU" : "KIND_CPU";
  if (!reader.Has("instance_group")) {
    if (cuda) reader.Fail("instance_group", "is missing; a model for cuda needs kind: KIND_GPU, gpus: [ 0 ]");
    return;
  }
  int64_t count = 0;
  for (const auto& group : reader.Array("instance_group")) {
    const std::string kind = TextAt(group, "kind");
    if (kind != wanted) {
      reader.Fail("instance_group.kind",
                  "is " + kind + "; it must be " + std::string(wanted) + " for device " + (cuda ? "cuda" : "cpu"));
    }
    if (cuda) ReadGpu(reader, group, &config->gpu);
    count += InstancesOf(group);
  }
  if (count != 1) {
    reader.Fail("instance_group.count", "is " + std::to_string(count) + "; it must be 1, one engine a model");
  }
}

void CheckDecoupled(FieldReader& reader, Task task) {
  bool decoupled = false;
  if (reader.Has("model_transaction_policy")) {
    FieldReader policy = reader.Object("model_transaction_policy");
    decoupled = policy.Has("decoupled") && policy.Bool("decoupled");
  }
  const bool wanted = task == Task::kGenerate;
  if (decoupled != wanted) {
    reader.Fail("model_transaction_policy.decoupled", std::string("is ") + (decoupled ? "true" : "false") +
                                                          "; it must be " + (wanted ? "true" : "false") + " for task " +
                                                          std::string(TaskName(task)));
  }
}

// Memory of one KV block over all layers: keys and values.
int64_t BlockBytes(const DecoderConfig& decoder) {
  return int64_t{2} * decoder.num_layers * decoder.num_kv_heads * decoder.kv_block_tokens *
         KvRowBytes(decoder.kv_cache_type, decoder.head_size);
}

struct RealRange {
  double low;
  double high;
  const char* low_text;  // As it reads in a message.
  const char* high_text;
};

// Reads `parameters`, whose values are {"string_value": TEXT}.
class ParameterReader {
 public:
  ParameterReader(FieldReader& parameters, const nlohmann::json& values) : reader_(parameters), values_(values) {}

  // Each sets `target` if the key is there.
  template <typename Number>
  void ReadInt(std::string_view key, IntRange range, Number* target) {
    int64_t number = 0;
    const std::optional<std::string> text = Find(key);
    if (!text.has_value()) return;
    if (Parses(*text, &number) && number >= range.low && number <= range.high) {
      *target = static_cast<Number>(number);
      return;
    }
    Refuse(key, *text, "an integer from " + std::to_string(range.low) + " to " + std::to_string(range.high));
  }

  void ReadReal(std::string_view key, RealRange range, float* target) {
    double number = 0.0;
    const std::optional<std::string> text = Find(key);
    if (!text.has_value()) return;
    // Written so that NaN fails.
    if (Parses(*text, &number) && number >= range.low && number <= range.high) {
      *target = static_cast<float>(number);
      return;
    }
    Refuse(key, *text, std::string("a number from ") + range.low_text + " to " + range.high_text);
  }

  void ReadBool(std::string_view key, bool* target) {
    const std::optional<std::string> text = Find(key);
    if (!text.has_value()) return;
    if (*text == "true" || *text == "false") {
      *target = *text == "true";
      return;
    }
    Refuse(key, *text, "true or false");
  }

 private:
  std::optional<std::string> Find(std::string_view key) const {
    const auto found = values_.find(key);
    return found == values_.end() ? std::nullopt : std::optional(TextAt(*found, "string_value"));
  }

  // Whether the whole text is a number.
  template <typename Number>
  static bool Parses(const std::string& text, Number* number) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
    return error == std::errc() && end == text.data() + text.size();
  }

  void Refuse(std::string_view key, const std::string& text, const std::string& rule) {
    reader_.Fail(key, "is \"" + text + "\"; it must be " + rule);
  }

  FieldReader& reader_;
  const nlohmann::json& values_;
};

void ReadParameters(FieldReader& reader, const nlohmann::json& triton_config, ModelConfig* config) {
  if (!reader.Has("parameters")) return;
  FieldReader parameters = reader.Object("parameters");
  if (!reader.ok()) return;
  ParameterReader values(parameters, triton_config.at("parameters"));
  EngineLimits& limits = config->limits;
  if (config->task == Task::kGenerate) {
    parameters.AllowOnly({"kv_cache_bytes", "max_step_tokens", "max_active_requests", "max_waiting_requests",
                          "max_draft_tokens", "max_step_stretch", "prefix_cache", "intra_op_threads"});
    values.ReadInt("kv_cache_bytes", {BlockBytes(config->decoder), kMostBytes}, &limits.kv_cache_bytes);
    values.ReadInt("max_step_tokens", {2, 65'536}, &limits.max_step_tokens);
    values.ReadInt("max_active_requests", {1, 4'096}, &limits.max_active_requests);
    values.ReadInt("max_draft_tokens", {0, 64}, &limits.max_draft_tokens);
    values.ReadReal("max_step_stretch", {1.1, 100.0, "1.1", "100"}, &limits.max_step_stretch);
    values.ReadBool("prefix_cache", &limits.prefix_cache);
  } else {
    parameters.AllowOnly({"max_batch_tokens", "max_waiting_requests", "intra_op_threads"});
    values.ReadInt("max_batch_tokens", {1, 1'048'576}, &limits.max_batch_tokens);
  }
  values.ReadInt("max_waiting_requests", {1, 1'048'576}, &limits.max_waiting_requests);
  values.ReadInt("intra_op_threads", {0, 1'024}, &limits.intra_op_threads);
}

}  // namespace

Status ReadTritonConfig(const nlohmann::json& triton_config, ModelConfig* config) {
  Status status;
  FieldReader reader(triton_config, kDocument, "", &status);
  CheckBatching(reader);
  ReadInstances(reader, config);
  CheckDecoupled(reader, config->task);
  CheckTensors(reader, "input", InputsOf(config->task));
  CheckTensors(reader, "output", OutputsOf(config->task));
  ReadParameters(reader, triton_config, config);
  return status;
}

}  // namespace naiad
