// Which logits can decide a choice, told from bounds of all of them: what a screened head recomputes.
//
// Given lower_i ≤ l_i ≤ upper_i for every logit that `try_sample` (sampling.h) would see, a set S of columns is found such
// that try_sample chooses the same token from the logits of S alone, the others taken for masked. Columns are taken in panels
// of 16: a panel's floor is the largest of what its lower bounds are worth, its ceiling the largest of its upper bounds'. S is
// the panels whose ceiling isn't below a threshold. Why that suffices:
//
// Worth. All that a choice does to a logit is non-decreasing in fp32 as it is in the reals: l / repeat or l · repeat by the
// sign of l, + add, / temperature, + noise, since rounding is monotone. So applied to both bounds it gives bounds of the
// result. A column that is masked or padding has both at -infinity. Comparisons below are of these fp32 results, so ties are
// kept: a panel is dropped only if its ceiling is strictly below the threshold.
//
// A ceiling of -infinity belongs to a panel without a column that can be chosen: it is dropped whatever the threshold. (A
// logit that only the division by the temperature makes infinite has the lowest finite number as upper bound instead.)
// A floor that is above -infinity belongs to a column that can be chosen: its logit is no NaN and not masked. Where bounds
// aren't known (overflow, NaN), lower is -infinity and upper +infinity: such a column sets no threshold and is never dropped.
//
//   greedy    Threshold: the largest floor. Every column of the largest logit has an upper bound of at least that logit, which
//             is at least every lower bound: all of them are in S, so the lowest id among equals is.
//   top_k     Threshold: the k-th largest floor. k panels hold a column each that is worth that much, so the k-th largest
//             worth is no less, and every column that top_k keeps, ties included, is in S. What else S holds is exact
//             and ranks behind, so top_k keeps the same k, and top_p, min_p and the noise meet the same candidates. If there
//             are fewer than k floors above -infinity the threshold is -infinity: S has all that can be chosen.
//   min_p     (without top_k and top_p) Threshold: the largest floor f, lowered by what min_p allows. A column is kept if
//             exp(s_i - s_max) ≥ min_p, where s_max ≥ f. exp is within 2 ulp, the subtraction rounds once: s_i ≥ f + log(min_p)
//             - 1e-3 with room to spare, for min_p that isn't subnormal. All that min_p keeps, and s_max, are in S.
//   noise     (temperature alone) The worth has each column's Gumbel noise added before floors and ceilings are taken.
//             Threshold: the largest floor; as greedy, on the sums. Noise is what costs, so a column is first asked whether
//             its noise could lift it to the largest floor so far: by the largest noise there is, then by the random word
//             itself, of which the noise is an increasing function (the bound keeps a hundredth of distance, thousands of
//             times its rounding). One that can't counts as -infinity: its sum is below the threshold, or, where rounding
//             swallows the noise, equal to one of a lower id, which wins.
//
// What can't be told from few logits, and takes the full head: top_p without top_k (it needs the sum of all probabilities),
// top_k of more than half the panels, a subnormal min_p.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "program/backend.h"

namespace sluice::program {

inline constexpr std::size_t kScreenPanel = 16;  // columns that are kept or dropped together

// What the narrower copy of a head takes: a byte a weight, and for each column a scale and two norms.
constexpr std::size_t screen_panel_bytes(std::size_t depth) {
  constexpr std::size_t kGroup = 4;  // weights of a column that lie side by side
  constexpr std::size_t kOfColumn = 8;
  return kScreenPanel * ((depth + kGroup - 1) / kGroup * kGroup + kOfColumn);
}
constexpr std::size_t screen_panels(std::size_t n_columns) {
  return (n_columns + kScreenPanel - 1) / kScreenPanel;
}

enum class ScreenRule : std::uint8_t { kGreedy, kTopK, kMinP, kNoise };

// How `choice` is decided among `n_columns` logits; nothing if it needs all of them.
std::optional<ScreenRule> screen_rule(const Choice& choice, std::size_t n_columns);

// In place: from bounds of edited logits to floors and ceilings of what they are worth, [panels]. `lower` and `upper` are
// columns first_id, ...: a multiple of 16 from there on; the last panel may be a part.
void panel_bounds(ScreenRule rule, const Choice& choice, std::uint32_t first_id, std::span<float> lower,
                  std::span<float> upper, std::span<float> floors, std::span<float> ceilings);

float screen_threshold(ScreenRule rule, const Sampling& how, std::span<const float> floors);

// The same for a sample of `n_panels`: of top_k as many as should be in it. Says what the threshold may be like, no more.
float sample_threshold(ScreenRule rule, const Sampling& how, std::span<const float> floors,
                       std::size_t n_panels);

// Whether a panel must be recomputed. NaN, as bound or as threshold, drops nothing.
inline bool reaches(float ceiling, float threshold) {
  return !(ceiling < threshold) && !(ceiling == -__builtin_inff());
}

}  // namespace sluice::program
