// The steps of exp and tanh that all levels share. All polynomials have the highest power first, are interpolated at
// Chebyshev nodes, and take one fused multiply-add a step.
#pragma once

namespace naiad {

// exp(y) for y <= 0, within 2 ulp; 0 below kLowestExponent, where the true value is under 1.2e-38. y = n * ln 2 + r
// with |r| <= ln 2 / 2; exp(r) is a polynomial (relative error 3e-9 before rounding).
inline constexpr float kLowestExponent = -87.3F;
inline constexpr float kLog2OfE = 1.44269504F;
inline constexpr float kLn2 = 0.693147182F;
// The same in two pieces; n times the first one is exact.
inline constexpr float kLn2High = 0.693359375F;
inline constexpr float kLn2Low = -2.12194440e-4F;
inline constexpr float kExpPolynomial[] = {
    1.394215988e-3F, 8.375968227e-3F, 4.166634014e-2F, 1.666640530e-1F, 5.000000050e-1F, 1.000000040F, 1.0F};

// tanh(x) within 4 ulp. |x| <= kLargestSmallTanh: x times a polynomial in x^2 (relative error 2e-10 before rounding);
// else (1 - e) / (1 + e) with e = exp(-2|x|), where nothing cancels.
inline constexpr float kLargestSmallTanh = 0.6F;
inline constexpr float kTanhPolynomial[] = {
    2.102294925e-3F, -8.130431495e-3F, 2.168013344e-2F, -5.394252068e-2F, 1.333316464e-1F, -3.333332915e-1F, 1.0F};

// 2^f for |f| <= 1/2, relative error 4e-6; exactly 1 for 0.
inline constexpr float kExp2Polynomial[] = {9.666368515e-3F, 5.592197584e-2F, 2.402234904e-1F, 6.931210452e-1F, 1.0F};

}  // namespace naiad
