#include "ort/custom_ops.h"

#include "ort/linear_op.h"
#include "ort/packed_attention_op.h"
#include "ort/paged_attention_op.h"

namespace naiad {
namespace {

// Never destroyed: sessions of other static objects may still point here when statics are torn down.
struct OpDomain {
  OpDomain() {
    domain.Add(&paged_attention);
    domain.Add(&paged_attention_int8);
    domain.Add(&packed_attention);
    domain.Add(&linear);
  }
  PagedAttentionOp<float> paged_attention;
  PagedAttentionOp<uint8_t> paged_attention_int8;
  PackedAttentionOp packed_attention;
  LinearOp linear;
  Ort::CustomOpDomain domain{"naiad"};
};

}  // namespace

OrtCustomOpDomain* NaiadOpDomain() {
  static OpDomain& instance = *new OpDomain;
  return instance.domain;
}

}  // namespace naiad
