// silu(x) = x * sigmoid(x) in the same steps, and so with the same bits, at every level:
//
//   e = exp(-|x|);  sigmoid = (x < 0 ? e : 1) / (1 + e)
//
// with exp in the steps of exp_constants.h.
#pragma once

#include "kernels/exp_constants.h"
