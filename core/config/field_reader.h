// Typed access to a JSON object whose first broken rule becomes a status that names key, value and what is allowed.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "engine/status.h"

namespace naiad {

struct IntRange {
  int64_t low = 0;
  int64_t high = 0;
};

// Reads fields of one object. After the first error every read returns a neutral value and `status` keeps that error,
// so that a caller reads all it needs and looks once. `status` and the JSON value must outlive the reader.
class FieldReader {
 public:
  // `document` names the file in messages; `path` is the object's place in it, with a dot at the end, or empty.
  FieldReader(const nlohmann::json& object, std::string document, std::string path, Status* status);

  [[nodiscard]] bool Has(std::string_view key) const;
  // Refuses keys that are not in `known`.
  void AllowOnly(std::initializer_list<std::string_view> known);

  [[nodiscard]] int64_t Int(std::string_view key, IntRange range);
  [[nodiscard]] int32_t Int32(std::string_view key, IntRange range);
  [[nodiscard]] std::vector<int32_t> Int32List(std::string_view key, IntRange range);
  [[nodiscard]] bool Bool(std::string_view key);
  [[nodiscard]] std::string String(std::string_view key);  // Not empty.
  [[nodiscard]] std::string OneOf(std::string_view key, std::initializer_list<std::string_view> allowed);
  [[nodiscard]] FieldReader Object(std::string_view key);
  [[nodiscard]] const nlohmann::json& Array(std::string_view key);

  // Records "DOCUMENT: KEY <text>" unless there is an error already.
  void Fail(std::string_view key, const std::string& text);
  [[nodiscard]] bool ok() const { return status_->ok(); }

 private:
  // The value of `key`, or nullptr after an error; a missing key is an error.
  [[nodiscard]] const nlohmann::json* Find(std::string_view key);
  void FailValue(std::string_view key, const nlohmann::json& value, const std::string& rule);

  const nlohmann::json* object_;
  std::string document_;
  std::string path_;
  Status* status_;
};

// Parses `text` as a JSON object, nested at most 64 deep, into `value`; the status names `document`.
Status ParseJsonObject(const std::string& text, const std::string& document, nlohmann::json* value);

// "a, b, c", for messages.
std::string JoinNames(std::initializer_list<std::string_view> names);

}  // namespace naiad
