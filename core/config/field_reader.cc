#include "config/field_reader.h"

#include <algorithm>
#include <utility>

namespace naiad {
namespace {

// The library writes a value by recursion: one that is nested a hundred thousand times, into a message, would exhaust
// the stack.
constexpr int kMaxJsonDepth = 64;
constexpr size_t kMaxMessageBytes = 1'000;

const nlohmann::json& EmptyObject() {
  static const nlohmann::json empty = nlohmann::json::object();
  return empty;
}

const nlohmann::json& EmptyArray() {
  static const nlohmann::json empty = nlohmann::json::array();
  return empty;
}

std::string RangeText(IntRange range) {
  if (range.low == range.high) return std::to_string(range.low);
  return "an integer from " + std::to_string(range.low) + " to " + std::to_string(range.high);
}

bool InRange(const nlohmann::json& value, IntRange range) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) return false;
  const auto number = value.get<int64_t>();
  return number >= range.low && number <= range.high;
}

// A value as it looks in the file, cut so that one bad value cannot fill the log.
std::string Shown(const nlohmann::json& value) {
  constexpr size_t kLongest = 80;
  std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
  return text;
}

}  // namespace

FieldReader::FieldReader(const nlohmann::json& object, std::string document, std::string path, Status* status)
    : object_(&object), document_(std::move(document)), path_(std::move(path)), status_(status) {}

bool FieldReader::Has(std::string_view key) const { return object_->contains(key); }

void FieldReader::Fail(std::string_view key, const std::string& text) {
  if (!status_->ok()) return;
  std::string message = document_ + ": " + path_ + std::string(key) + " " + text;
  if (message.size() > kMaxMessageBytes) message = message.substr(0, kMaxMessageBytes) + "...";
  *status_ = Status::InvalidArgument(message);
}

void FieldReader::FailValue(std::string_view key, const nlohmann::json& value, const std::string& rule) {
  Fail(key, "is " + Shown(value) + "; it must be " + rule);
}

void FieldReader::AllowOnly(std::initializer_list<std::string_view> known) {
  for (const auto& [key, value] : object_->items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      Fail(key, "is not a known key; known are " + JoinNames(known));
    }
  }
}

const nlohmann::json* FieldReader::Find(std::string_view key) {
  if (!ok()) return nullptr;
  const auto found = object_->find(key);
  if (found == object_->end()) {
    Fail(key, "is missing");
    return nullptr;
  }
  return &*found;
}

int64_t FieldReader::Int(std::string_view key, IntRange range) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return 0;
  if (!InRange(*value, range)) {
    FailValue(key, *value, RangeText(range));
    return 0;
  }
  return value->get<int64_t>();
}

int32_t FieldReader::Int32(std::string_view key, IntRange range) { return static_cast<int32_t>(Int(key, range)); }

std::vector<int32_t> FieldReader::Int32List(std::string_view key, IntRange range) {
  std::vector<int32_t> numbers;
  for (const auto& value : Array(key)) {
    if (!InRange(value, range)) {
      Fail(key, "has " + Shown(value) + "; each must be " + RangeText(range));
      return {};
    }
    numbers.push_back(value.get<int32_t>());
  }
  return numbers;
}

bool FieldReader::Bool(std::string_view key) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return false;
  if (!value->is_boolean()) {
    FailValue(key, *value, "true or false");
    return false;
  }
  return value->get<bool>();
}

std::string FieldReader::String(std::string_view key) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return {};
  if (!value->is_string() || value->get_ref<const std::string&>().empty()) {
    FailValue(key, *value, "a text that is not empty");
    return {};
  }
  return value->get<std::string>();
}

std::string FieldReader::OneOf(std::string_view key, std::initializer_list<std::string_view> allowed) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return {};
  if (value->is_string()) {
    auto text = value->get<std::string>();
    if (std::find(allowed.begin(), allowed.end(), text) != allowed.end()) return text;
  }
  FailValue(key, *value, "one of " + JoinNames(allowed));
  return {};
}

FieldReader FieldReader::Object(std::string_view key) {
  const nlohmann::json* value = Find(key);
  const std::string path = path_ + std::string(key) + ".";
  if (value != nullptr && value->is_object()) return {*value, document_, path, status_};
  if (value != nullptr) FailValue(key, *value, "an object");
  return {EmptyObject(), document_, path, status_};
}

const nlohmann::json& FieldReader::Array(std::string_view key) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return EmptyArray();
  if (!value->is_array()) {
    FailValue(key, *value, "a list");
    return EmptyArray();
  }
  return *value;
}

Status ParseJsonObject(const std::string& text, const std::string& document, nlohmann::json* value) {
  bool too_deep = false;
  // Nothing is left out: to read on is bounded by the text, and what is made of it goes at once.
  const auto note_depth = [&too_deep](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    too_deep = too_deep || depth > kMaxJsonDepth;
    return true;
  };
  *value = nlohmann::json::parse(text, note_depth, /*allow_exceptions=*/false);
  if (value->is_discarded()) return Status::InvalidArgument(document + ": is not valid JSON");
  if (too_deep) {
    return Status::InvalidArgument(document + ": has lists or objects nested more than " +
                                   std::to_string(kMaxJsonDepth) + " deep");
  }
  if (!value->is_object()) return Status::InvalidArgument(document + ": is not a JSON object");
  return Status::Ok();
}

std::string JoinNames(std::initializer_list<std::string_view> names) {
  std::string joined;
  for (const std::string_view name : names) {
    if (!joined.empty()) joined += ", ";
    joined += name;
  }
  return joined;
}

}  // namespace naiad
