// The texts of one run, one after the other without padding. Reused from run to run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "encoder/encoder_runner.h"

namespace naiad {

class PackedTexts {
 public:
  explicit PackedTexts(bool uses_token_type_ids) : uses_token_type_ids_(uses_token_type_ids) {}

  void Clear();
  // token_types: as long as ids, or empty for all 0.
  void Add(std::span<const int32_t> ids, std::span<const int32_t> token_types);

  [[nodiscard]] size_t tokens() const { return input_ids_.size(); }
  [[nodiscard]] size_t sequences() const { return cu_seqlens_.size() - 1; }
  [[nodiscard]] size_t first_token(size_t sequence) const { return static_cast<size_t>(cu_seqlens_[sequence]); }

  // Views that end with the next change.
  [[nodiscard]] EncoderBatch batch() const { return {input_ids_, position_ids_, token_type_ids_, cu_seqlens_}; }

 private:
  const bool uses_token_type_ids_;
  std::vector<int64_t> input_ids_;
  std::vector<int64_t> position_ids_;
  std::vector<int64_t> token_type_ids_;
  std::vector<int32_t> cu_seqlens_ = {0};
};

}  // namespace naiad
