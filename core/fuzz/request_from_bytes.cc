#include "request_from_bytes.h"

#include <array>
#include <limits>
#include <utility>

namespace naiad::fuzz {
namespace {

constexpr size_t kMostTensors = 6;
constexpr size_t kMostParameters = 12;
constexpr size_t kMostTextBytes = 64;

// Where arithmetic on sizes goes wrong.
constexpr std::array<int64_t, 10> kHardDimensions = {0,
                                                     -1,
                                                     1,
                                                     2,
                                                     int64_t{1} << 30,
                                                     int64_t{1} << 31,
                                                     int64_t{1} << 61,
                                                     int64_t{1} << 62,
                                                     std::numeric_limits<int64_t>::max(),
                                                     std::numeric_limits<int64_t>::min()};

std::string Name(ByteSource& bytes, const std::vector<std::string>& known) {
  const size_t index = bytes.Size(known.size());
  return index < known.size() ? known[index] : bytes.Text(kMostTextBytes);
}

TRITONSERVER_DataType Type(ByteSource& bytes) {
  switch (bytes.Number(0, 5)) {
    case 0:
      return TRITONSERVER_TYPE_FP32;
    case 1:
      return static_cast<TRITONSERVER_DataType>(bytes.Any<int8_t>());
    default:
      return TRITONSERVER_TYPE_INT32;
  }
}

// In one piece or two.
std::vector<std::vector<unsigned char>> Pieces(ByteSource& bytes, std::vector<unsigned char> whole) {
  if (!bytes.Flag()) return {std::move(whole)};
  const auto cut = static_cast<std::ptrdiff_t>(bytes.Size(whole.size()));
  return {{whole.begin(), whole.begin() + cut}, {whole.begin() + cut, whole.end()}};
}

TRITONBACKEND_Input Tensor(ByteSource& bytes, const KnownNames& names) {
  TRITONBACKEND_Input input{Name(bytes, names.tensors), Type(bytes), {}, {}};
  std::vector<unsigned char> values;
  if (bytes.Flag()) {
    // Small numbers, such as token ids.
    const size_t count = bytes.Size(32);
    for (size_t index = 0; index < count; ++index) {
      const auto number = static_cast<int32_t>(bytes.Number(-2, 110));
      const auto* first = reinterpret_cast<const unsigned char*>(&number);
      values.insert(values.end(), first, first + sizeof(number));
    }
  } else {
    values = bytes.Take(bytes.Size(255));
  }
  if (bytes.Number(0, 3) != 0) {
    input.shape = {static_cast<int64_t>(values.size() / sizeof(int32_t))};
  } else {
    const size_t dims = bytes.Size(3);
    for (size_t index = 0; index < dims; ++index) {
      input.shape.push_back(bytes.Flag() ? kHardDimensions[bytes.Size(kHardDimensions.size() - 1)]
                                         : bytes.Any<int64_t>());
    }
  }
  input.buffers = Pieces(bytes, std::move(values));
  return input;
}

std::variant<std::string, int64_t, bool, double> Value(ByteSource& bytes, const KnownNames& names) {
  switch (bytes.Number(0, 5)) {
    case 0:
      return Name(bytes, names.texts);
    case 1:
      return bytes.Flag();
    case 2:
      return bytes.Any<double>();
    case 3:
      return static_cast<double>(bytes.Number(-12, 404)) / 4.0;
    case 4:
      return bytes.Any<int64_t>();
    default:
      return bytes.Number(-2, 101);
  }
}

}  // namespace

ReadBack RequestFrom(ByteSource& bytes, const KnownNames& names) {
  naiad::testing::RequestSpec spec;
  if (bytes.Flag()) spec.id = bytes.Text(kMostTextBytes);
  const size_t tensors = bytes.Size(kMostTensors);
  for (size_t index = 0; index < tensors; ++index) spec.inputs.push_back(Tensor(bytes, names));
  const size_t parameters = bytes.Size(kMostParameters);
  for (size_t index = 0; index < parameters; ++index) {
    std::string name = Name(bytes, names.parameters);
    spec.parameters[std::move(name)] = Value(bytes, names);
  }
  const size_t outputs = bytes.Size(3);
  for (size_t index = 0; index < outputs; ++index) spec.requested_outputs.push_back(Name(bytes, names.outputs));

  const auto [request, log] = naiad::testing::NewRequest(std::move(spec));
  ReadBack read;
  read.status = ReadRequest(request, &read.contents);
  TRITONBACKEND_RequestRelease(request, kTritonReleaseAll);
  return read;
}

}  // namespace naiad::fuzz
