// GELU(x) = x * Phi(x), the one with erf, in the same steps, and so with the same bits, at every level. Within 1e-5 of
// the true value, far below what 8-bit activations are rounded by:
//
//   Phi(x) = 0.5 + x * P(t), t = x^2 * 2 / 25 - 1, for |x| < 5; beyond that 0 or 1
//
// P is a polynomial of degree 10 that makes the largest error of x * Phi(x) as small as can be; each step is a fused
// multiply-add.
#pragma once

namespace naiad {

inline constexpr float kGeluLimit = 5.0F;
inline constexpr float kGeluScale = 0.08F;  // 2 / kGeluLimit^2
// Highest power first.
inline constexpr float kGeluPolynomial[] = {2.27724429e-3F, -6.27799533e-3F, 7.02135847e-3F, -8.32986104e-3F,
                                            1.55478267e-2F, -2.42151411e-2F, 3.17441749e-2F, -4.03191739e-2F,
                                            5.14880084e-2F, -7.03005184e-2F, 1.41364302e-1F};

}  // namespace naiad
