// silu(x) = x * sigmoid(x) in the same steps, and so with the same bits, at every level:
//
//   e = exp(-|x|);  sigmoid = (x < 0 ? e : 1) / (1 + e)
//
// exp(y) for y <= 0, within 2 ulp; 0 below kLowestExponent, where the true value is under 1.2e-38. y = n * ln 2 + r
// with |r| <= ln 2 / 2; exp(r) is a polynomial of degree 6, interpolated at Chebyshev nodes, each step a fused
// multiply-add.
#pragma once

namespace naiad {

inline constexpr float kLowestExponent = -87.3F;
inline constexpr float kLog2OfE = 1.44269504F;
// ln 2 in two pieces; n times the first one is exact.
inline constexpr float kLn2High = 0.693359375F;
inline constexpr float kLn2Low = -2.12194440e-4F;
// Highest power first.
inline constexpr float kExpPolynomial[] = {
    1.394215988e-3F, 8.375968227e-3F, 4.166634014e-2F, 1.666640530e-1F, 5.000000050e-1F, 1.000000040F, 1.0F};

}  // namespace naiad
