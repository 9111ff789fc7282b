#include "encoder/encoder_work.h"

#include <algorithm>
#include <utility>

namespace naiad {

EncoderWork::EncoderWork(EncoderRequest request, const EncoderShape& shape, Clock::time_point started)
    : request_(std::move(request)) {
  const bool row_a_token =
      request_.output == EncoderOutput::kHiddenStates || request_.output == EncoderOutput::kTokenLogits;
  result_.rows = static_cast<int64_t>(row_a_token ? request_.input_ids.size() : request_.sequence_lengths.size());
  result_.width = shape.output_width;
  result_.queue = std::chrono::duration_cast<std::chrono::microseconds>(started - request_.arrival);
}

WorkSlice EncoderWork::AddTo(PackedTexts& texts, size_t max_tokens) {
  WorkSlice slice{texts.sequences(), texts.sequences()};
  while (!all_added()) {
    const size_t length = static_cast<size_t>(request_.sequence_lengths[next_sequence_]);
    if (texts.tokens() > 0 && texts.tokens() + length > max_tokens) break;
    const std::span<const int32_t> ids(request_.input_ids);
    const std::span<const int32_t> types(request_.token_type_ids);
    texts.Add(ids.subspan(next_token_, length), types.empty() ? types : types.subspan(next_token_, length));
    next_token_ += length;
    ++next_sequence_;
    ++slice.end;
  }
  return slice;
}

void EncoderWork::Collect(const PackedTexts& texts, const WorkSlice& slice, std::span<const float> output,
                          std::chrono::microseconds duration) {
  const size_t width = static_cast<size_t>(result_.width);
  result_.values.resize(static_cast<size_t>(result_.rows) * width);
  const auto rows_of = [&](size_t begin, size_t end) { return output.subspan(begin * width, (end - begin) * width); };
  const auto take = [&](std::span<const float> rows) {
    std::copy(rows.begin(), rows.end(), result_.values.begin() + static_cast<std::ptrdiff_t>(values_begin_));
    values_begin_ += rows.size();
  };
  switch (request_.output) {
    case EncoderOutput::kLogits:
      take(rows_of(slice.begin, slice.end));
      break;
    case EncoderOutput::kTokenLogits:
    case EncoderOutput::kHiddenStates:
      take(rows_of(texts.first_token(slice.begin), texts.first_token(slice.end)));
      break;
    case EncoderOutput::kEmbeddings:
      for (size_t s = slice.begin; s < slice.end; ++s) {
        PoolHiddenStates(request_.pooling, rows_of(texts.first_token(s), texts.first_token(s + 1)),
                         std::span(result_.values).subspan(values_begin_, width));
        values_begin_ += width;
      }
      break;
  }
  result_.compute += duration;
}

}  // namespace naiad
