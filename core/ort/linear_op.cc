#include "ort/linear_op.h"

#include <array>
#include <cmath>
#include <string>

#include "kernels/cpu_features.h"

namespace naiad {
namespace {

enum Input { kInput, kPacked, kBias, kNormWeight, kResidual };

constexpr size_t kMaxRank = 8;

int32_t ReadSize(const Ort::ConstKernelInfo& info, const char* name) {
  const int64_t value = info.GetAttribute<int64_t>(name);
  // Too large is found out by CheckLinearWeights.
  return static_cast<int32_t>(value < 0 || value > INT32_MAX ? 0 : value);
}

int64_t ReadOptional(const Ort::ConstKernelInfo& info, const char* name, int64_t otherwise) {
  int64_t value = otherwise;
  const Ort::Status status{Ort::GetApi().KernelInfoGetAttribute_int64(info, name, &value)};
  return status.IsOK() ? value : otherwise;
}

LinearFormat ReadFormat(const Ort::ConstKernelInfo& info) {
  const int64_t bits = info.GetAttribute<int64_t>("bits");
  if (bits != 4 && bits != 8) {
    throw Ort::Exception("bits is " + std::to_string(bits) + "; it must be 4 or 8", ORT_INVALID_GRAPH);
  }
  const int64_t block = ReadOptional(info, "block", kBlockInputs);
  if (block != kBlockInputs && !(block == kWideBlockInputs && bits == 8)) {
    throw Ort::Exception("block is " + std::to_string(block) + "; it must be 32, or with 8 bits 128",
                         ORT_INVALID_GRAPH);
  }
  if (bits == 4) return LinearFormat::kInt4;
  return block == kWideBlockInputs ? LinearFormat::kInt8Wide : LinearFormat::kInt8;
}

bool CheckFlag(const char* name, int64_t value) {
  if (value != 0 && value != 1) {
    throw Ort::Exception(std::string(name) + " is " + std::to_string(value) + "; it must be 0 or 1", ORT_INVALID_GRAPH);
  }
  return value == 1;
}

template <typename T>
std::span<const T> ReadConstant(const Ort::ConstKernelInfo& info, size_t index, const char* name) {
  int is_constant = 0;
  const OrtValue* value = nullptr;
  Ort::ThrowOnError(Ort::GetApi().KernelInfoGetConstantInput_tensor(info, index, &is_constant, &value));
  if (is_constant == 0 || value == nullptr) {
    throw Ort::Exception(std::string(name) + " must be a constant of the graph", ORT_INVALID_GRAPH);
  }
  return ElementsOf<T>(Ort::ConstValue(value));
}

// Whether the node has this optional input.
bool IsGiven(const Ort::ConstKernelInfo& info, size_t index) {
  return info.GetInputCount() > index && !info.GetInputName(index).empty();
}

// Shared by the layers that a thread runs, one after the other; several sessions may run the same kernel at once.
LinearScratch& ScratchOfThisThread() {
  static thread_local LinearScratch scratch;
  return scratch;
}

}  // namespace

LinearOrtKernel::LinearOrtKernel(const OrtKernelInfo* raw_info) : math_(LinearMathFor(SimdLevelForThisProcess())) {
  const Ort::ConstKernelInfo info(raw_info);
  weights_.format = ReadFormat(info);
  weights_.inputs = ReadSize(info, "K");
  weights_.outputs = ReadSize(info, "N");
  weights_.factor = info.GetAttribute<float>("factor");
  weights_.is_gated = CheckFlag("gated", info.GetAttribute<int64_t>("gated"));
  weights_.has_gelu = CheckFlag("gelu", ReadOptional(info, "gelu", 0));
  if (!std::isfinite(weights_.factor)) throw Ort::Exception("factor must be finite", ORT_INVALID_GRAPH);
  weights_.packed = ReadConstant<uint8_t>(info, kPacked, "packed");
  if (IsGiven(info, kBias)) weights_.bias = ReadConstant<float>(info, kBias, "bias");
  if (IsGiven(info, kNormWeight)) {
    weights_.norm_weight = ReadConstant<float>(info, kNormWeight, "norm_weight");
    weights_.epsilon = info.GetAttribute<float>("epsilon");
  }
  ThrowIfFailed(CheckLinearWeights(weights_));
}

OrtStatusPtr LinearOrtKernel::ComputeV2(OrtKernelContext* raw_context) noexcept {
  return CatchAsOrtStatus([&] {
    const Ort::KernelContext context(raw_context);
    const Ort::ConstValue input = context.GetInput(kInput);
    const Ort::TensorTypeAndShapeInfo info = input.GetTensorTypeAndShapeInfo();
    const size_t rank = info.GetDimensionsCount();
    std::array<int64_t, kMaxRank> shape{};
    if (rank < 1 || rank > kMaxRank) {
      throw Ort::Exception(
          "input has " + std::to_string(rank) + " dimensions; expected 1 to " + std::to_string(kMaxRank),
          ORT_INVALID_ARGUMENT);
    }
    Ort::ThrowOnError(Ort::GetApi().GetDimensions(info, shape.data(), rank));
    const int64_t width = InputWidth(weights_);
    if (shape[rank - 1] != width) {
      throw Ort::Exception("input is " + std::to_string(shape[rank - 1]) + " wide; expected " + std::to_string(width),
                           ORT_INVALID_ARGUMENT);
    }
    shape[rank - 1] = weights_.outputs;
    const size_t elements = info.GetElementCount();
    const bool has_residual = context.GetInputCount() > kResidual && context.GetInput(kResidual) != nullptr;
    Ort::UnownedValue output = context.GetOutput(0, shape.data(), rank);
    const size_t rows = elements / static_cast<size_t>(width);
    ThrowIfFailed(Linear({weights_,
                          {input.GetTensorData<float>(), elements},
                          {output.GetTensorMutableData<float>(), rows * static_cast<size_t>(weights_.outputs)},
                          has_residual ? ElementsOf<float>(context.GetInput(kResidual)) : std::span<const float>()},
                         math_, SessionThreads(raw_context), &ScratchOfThisThread()));
  });
}

}  // namespace naiad
