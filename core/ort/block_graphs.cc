#include "ort/block_graphs.h"

#include <initializer_list>
#include <string_view>

namespace naiad {
namespace {

constexpr uint64_t kFloat16 = 10;  // onnx.TensorProto.DataType
constexpr uint64_t kInt64 = 7;
constexpr uint64_t kIrVersion = 8;
constexpr uint64_t kOpset = 18;

// A message in protobuf's wire format: the few kinds of fields that these graphs need.
class Message {
 public:
  Message& Number(uint32_t field, uint64_t value) {
    AppendVarint(uint64_t{field} << 3);
    AppendVarint(value);
    return *this;
  }

  Message& Text(uint32_t field, std::string_view text) {
    AppendVarint(uint64_t{field} << 3 | 2);
    AppendVarint(text.size());
    bytes_.append(text);
    return *this;
  }

  Message& Nested(uint32_t field, const Message& message) { return Text(field, message.bytes_); }

  [[nodiscard]] const std::string& bytes() const { return bytes_; }

 private:
  void AppendVarint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_.push_back(static_cast<char>(value | 0x80));
    bytes_.push_back(static_cast<char>(value));
  }

  std::string bytes_;
};

// onnx.ValueInfoProto of a tensor whose shape is not declared.
Message Tensor(std::string_view name, uint64_t element_type) {
  const Message type = Message().Nested(1, Message().Number(1, element_type));
  return Message().Text(1, name).Nested(2, type);
}

// onnx.NodeProto with one output.
Message Node(std::string_view op_type, std::initializer_list<std::string_view> inputs, std::string_view output) {
  Message node;
  for (const std::string_view input : inputs) node.Text(1, input);
  return node.Text(2, output).Text(4, op_type);
}

std::string Model(Message& graph) {
  graph.Text(2, "blocks");
  const Message opset = Message().Text(1, "").Number(2, kOpset);
  return Message().Number(1, kIrVersion).Nested(7, graph).Nested(8, opset).bytes();
}

}  // namespace

std::string BlockCopyGraph(int32_t num_tensors) {
  Message graph;
  graph.Nested(11, Tensor("source", kInt64)).Nested(11, Tensor("target", kInt64));
  for (int32_t i = 0; i < num_tensors; ++i) {
    const std::string number = std::to_string(i);
    const std::string pool = "pool." + number;
    const std::string moved = "moved." + number;
    const std::string pool_out = "pool_out." + number;
    graph.Nested(1, Node("Gather", {pool, "source"}, moved));  // Along axis 0.
    graph.Nested(1, Node("ScatterND", {pool, "target", moved}, pool_out));
    graph.Nested(11, Tensor(pool, kFloat16)).Nested(12, Tensor(pool_out, kFloat16));
  }
  return Model(graph);
}

std::string ZerosGraph() {
  // AttributeProto `value` of type TENSOR: one float16 of value zero, its bits in int32_data.
  const Message zero = Message().Number(1, 1).Number(2, kFloat16).Number(5, 0);
  const Message attribute = Message().Text(1, "value").Nested(5, zero).Number(20, 4);
  Message graph;
  graph.Nested(1, Node("ConstantOfShape", {"shape"}, "zeros").Nested(5, attribute));
  graph.Nested(11, Tensor("shape", kInt64)).Nested(12, Tensor("zeros", kFloat16));
  return Model(graph);
}

}  // namespace naiad
