#include "triton/parameter_reader.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string_view>

namespace naiad {
namespace {

// Parameters with which Triton and its clients steer the transport; they may accompany any request.
bool IsReservedByTriton(std::string_view name) {
  constexpr std::array<std::string_view, 7> kReserved = {
      "sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "headers", "binary_data_output"};
  return name.starts_with("triton_") || std::find(kReserved.begin(), kReserved.end(), name) != kReserved.end();
}

}  // namespace

const ParameterValue* ParameterReader::Find(const std::string& name) {
  known_.insert(name);
  for (const RequestParameter& parameter : parameters_) {
    if (parameter.name == name) return &parameter.value;
  }
  return nullptr;
}

void ParameterReader::Fail(const std::string& message) {
  if (status_.ok()) status_ = Status::InvalidArgument(message);
}

int64_t ParameterReader::Int64(const std::string& name, int64_t default_value) {
  const ParameterValue* value = Find(name);
  if (value == nullptr) return default_value;
  if (const auto* number = std::get_if<int64_t>(value)) return *number;
  Fail(name + " must be an integer parameter");
  return default_value;
}

int32_t ParameterReader::Int32(const std::string& name, int32_t default_value) {
  using Limits = std::numeric_limits<int32_t>;
  const int64_t number = Int64(name, default_value);
  if (number >= Limits::min() && number <= Limits::max()) return static_cast<int32_t>(number);
  Fail(name + " is " + std::to_string(number) + "; it must fit 32 bits");
  return default_value;
}

float ParameterReader::Float(const std::string& name, float default_value) {
  const ParameterValue* value = Find(name);
  if (value == nullptr) return default_value;
  double number = 0.0;
  if (const auto* real = std::get_if<double>(value)) {
    number = *real;
  } else if (const auto* integer = std::get_if<int64_t>(value)) {
    number = static_cast<double>(*integer);
  } else {
    Fail(name + " must be a number parameter");
    return default_value;
  }
  if (std::abs(number) <= static_cast<double>(std::numeric_limits<float>::max())) return static_cast<float>(number);
  Fail(name + " must be a finite number");
  return default_value;
}

bool ParameterReader::Bool(const std::string& name, bool default_value) {
  const ParameterValue* value = Find(name);
  if (value == nullptr) return default_value;
  if (const auto* flag = std::get_if<bool>(value)) return *flag;
  Fail(name + " must be a bool parameter");
  return default_value;
}

std::string ParameterReader::Text(const std::string& name, const std::string& default_value) {
  const ParameterValue* value = Find(name);
  if (value == nullptr) return default_value;
  if (const auto* text = std::get_if<std::string>(value)) return *text;
  Fail(name + " must be a string parameter");
  return default_value;
}

Status ParameterReader::Finish() {
  for (const RequestParameter& parameter : parameters_) {
    if (!known_.contains(parameter.name) && !IsReservedByTriton(parameter.name)) {
      Fail(parameter.name + " is not a known parameter");
    }
  }
  return status_;
}

}  // namespace naiad
