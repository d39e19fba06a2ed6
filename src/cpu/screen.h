// The narrower copy of a head, and how far a logit can be from what it gives.
//
// A row of the head, w [K] as it is stored, has beside it integers c_k in [-127, 127] and a scale t: w ≈ t c. A row of
// activations, x [K] as the full head's kernel takes it (rounded to bf16 where that one wants it so), has integers q_k and a
// scale s: x ≈ s q, where |q_k| ≤ q_max = min(32639, (2^31 - 1) / (127 K)): about 16 bits at K ≤ 500, 15 at 1024, 12.7 at 5120. So
// N = Σ c_k q_k fits into 32 bits whatever the values, and every kernel, in whatever order and with whatever carries
// in between (arithmetic modulo 2^32), finds N exactly. The logit's estimate is t s N.
//
// Bound. Norms are Euclidean, ω ≥ ‖w‖, ρ ≥ ‖w - t c‖, ξ ≥ ‖x‖, δ ≥ ‖x - s q‖. In the reals
//
//   w·x - t s N = (w - t c)·s q + w·(x - s q),     |w - t c||s q| ≤ ρ (ξ + δ),     |w||x - s q| ≤ ω δ     (Cauchy–Schwarz)
//
// Rounding of the full head. u = 2^-24, γ_n = n u / (1 - n u). Whatever the kernel (kernels_*.cpp, matmul_*.h), an element is
// summed in fp32 and each of its K products passes through at most K + 2 roundings: a chain of K multiply-adds (AVX2, AVX-512,
// VDPBF16PS), of K products and K sums (portable, fp32 weights: K + 1), or 16 multiply-adds, the sum of even and odd, and one sum
// for each tile of 32 (AMX). So |logit - w·x| ≤ γ_{K+2} Σ|w_k x_k| ≤ γ_{K+2} ω ξ, without underflow.
//
// Underflow of the full head: VDPBF16PS and TDPBF16PS take subnormal operands as zero and flush subnormal results. Each of the
// at most 2 (K + 2) operations loses at most 2^-126, each operand less than 2^-126 times the other: together less than
// 2^-125 (K + 2) + 2^-126 √K (ω + ξ).
//
// Rounding of the estimate: N to fp32, t s, their product, and the sum with the bound are at most 4 roundings of |t s N| ≤
// (ω + ρ)(ξ + δ) ≤ 2 ω (ξ + δ) (ρ ≤ ω, but for a rounding of w / t: no c_k is farther from it than 0): 2 γ_5 ω (ξ + δ); a subnormal t s
// loses at most 2^-150 |N| ≤ 2^-119. Together, with X = ξ + δ,
//
//   |logit - estimate| ≤ ρ X + ω Y + τ,    Y = δ + γ_{K+12} X + 2^-126 √K,    τ = 2^-118 + 2^-125 (K + 2) + 2^-126 √K X
//
// X, Y and τ are computed in fp64, ρ and ω rounded up to bf16; the bound's own fp32 arithmetic (at most 6 roundings) is covered by
// 1 + 2^-16 in X, Y and τ.
//
// Overflow: partial sums of the full head and t s are below (1 + γ) ω X. Where that isn't below 2^126, or is NaN, or
// (K + 12) u isn't below 1, the bounds are -infinity and +infinity. In all other cases the logit is finite.
//
// Layout. Sixteen rows are a panel: t [16] fp32, ρ [16] bf16, ω [16] bf16, then c + 128 as bytes, [K / 4][16][4] with K
// rounded up to a multiple of four by zeros (128): 16 K + 128 bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cpu/kernels.h"
#include "program/screening.h"

namespace sluice::cpu {

constexpr std::size_t screen_depth(std::size_t depth) {
  return (depth + 3) / 4 * 4;
}

// What stands before a panel's bytes.
struct ScreenHeader {
  float scale[kLanes] = {};             // t
  std::uint16_t residual[kLanes] = {};  // ρ
  std::uint16_t norm[kLanes] = {};      // ω
};
static_assert(program::screen_panel_bytes(4) == sizeof(ScreenHeader) + 4 * kLanes);

// One lane: `weights` as they are stored, `out` [screen_depth(weights)] c + 128.
void quantize_weights(std::span<const float> weights, std::size_t lane, ScreenHeader& header,
                      std::uint8_t* out);

// A row of activations, and what `Kernels::screen` wants of it.
class ScreenOperand {
 public:
  // `x`: as the full head's kernel takes it.
  void set(std::span<const float> x);
  ScreenRow row() const;

 private:
  std::vector<std::int16_t> values_;
  std::vector<std::int8_t> halves_;
  ScreenRow row_;
};

}  // namespace sluice::cpu
