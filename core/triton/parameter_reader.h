// Typed access to the parameters of one request.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "triton/request_contents.h"

namespace naiad {

// Each read names a parameter, which is thereby known, and gives its value or the default. The first wrong one becomes
// the status of Finish, which also refuses parameters that nobody asked for, except Triton's own.
class ParameterReader {
 public:
  explicit ParameterReader(const std::vector<RequestParameter>& parameters) : parameters_(parameters) {}

  [[nodiscard]] bool Has(const std::string& name) { return Find(name) != nullptr; }
  [[nodiscard]] int32_t Int32(const std::string& name, int32_t default_value);
  [[nodiscard]] int64_t Int64(const std::string& name, int64_t default_value);
  // An integer is taken for a number, too.
  [[nodiscard]] float Float(const std::string& name, float default_value);
  [[nodiscard]] bool Bool(const std::string& name, bool default_value);
  [[nodiscard]] std::string Text(const std::string& name, const std::string& default_value);

  Status Finish();

 private:
  const ParameterValue* Find(const std::string& name);
  void Fail(const std::string& message);

  const std::vector<RequestParameter>& parameters_;
  std::set<std::string> known_;
  Status status_;
};

}  // namespace naiad
