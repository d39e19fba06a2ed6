"""Mistakes in the screened head: bounds that leave something out, thresholds that keep too little."""

from __future__ import annotations

from functools import partial

from . import Mutation as AnyMutation

Mutation = partial(AnyMutation, tests=("test_screen", ))

BOUNDS = "cpu/screen.cpp"
DOTS = "cpu/screen_dots.h"
STEPS = "cpu/screened_head.cpp"
SELECTION = "program/screening.cpp"
RULES = "program/screening.h"
KERNELS = tuple(f"cpu/kernels_{isa}.cpp" for isa in ("portable", "avx2", "avx512", "avx512_bf16", "amx"))

MUTATIONS = [
    Mutation("bound_without_the_residual", "the weights' own error left out", BOUNDS,
             "header.residual[lane] = up_to_bf16(units * (std::sqrt(residual) + 0x1p-22 * std::sqrt(norm)));",
             "header.residual[lane] = 0;"),
    Mutation("bound_without_the_activations_error", "the activations' quantization left out", BOUNDS,
             "kSlack * (std::sqrt(error) + gamma * reach", "kSlack * (gamma * reach"),
    Mutation("bound_without_rounding", "the roundings of both heads left out", BOUNDS, "gamma * reach +", "0 * reach +"),
    Mutation("residual_rounded_down", "norms rounded to nothing above", BOUNDS, "((bits & 0xFFFFU) != 0 ? 1 : 0)", "0"),
    Mutation("sums_overflow", "activations of 16 bits whatever K is", BOUNDS,
             "std::min(kMostActivation, fitting)", "kMostActivation"),
    Mutation("overflow_bounded", "sums that overflow taken for numbers", DOTS, "reach < all(0x1p+126F)",
             "reach == reach", compile=KERNELS),
    Mutation("weights_taken_as_signed", "what bytes without sign add to the sums not taken off", DOTS, "whole - row.offset",
             "whole", compile=KERNELS),
    Mutation("ties_dropped", "a panel that can only tie is left out", RULES, "!(ceiling < threshold)",
             "ceiling > threshold", compile=(STEPS, SELECTION)),
    Mutation("threshold_of_the_best", "top_k's threshold is the largest floor", SELECTION, "-kInfinity : largest.back()",
             "-kInfinity : largest.front()"),
    Mutation("threshold_of_ceilings", "the threshold is taken from what might be, not from what is", STEPS,
             "{a_.floors.data() + task.rows * n, n}", "{a_.ceilings.data() + task.rows * n, n}"),
    Mutation("min_p_as_greedy", "min_p keeps the largest alone", SELECTION,
             "best + (sampler::log(how.min_p) - kDistance)", "best - kDistance"),
    Mutation("noise_of_lower_bounds", "noise asked to lift the lower bound", SELECTION, "table.least_word(best - upper[i])",
             "table.least_word(best - lower[i])"),
    Mutation("unscreened_dropped", "what was left without bounds can't be the answer", STEPS,
             "std::fill_n(a_.ceilings.data() + first, n_panels, std::numeric_limits<float>::infinity());",
             "std::fill_n(a_.ceilings.data() + first, n_panels, -std::numeric_limits<float>::infinity());"),
    Mutation("screen_waits_not_for_skim", "screen decides by what an earlier step skimmed", "program/regions.cpp",
             "skimmed_columns(config_.vocab_size); n > 0)", "skimmed_columns(config_.vocab_size); n > config_.vocab_size)"),
    Mutation("groups_judged_as_one", "bytes of several groups of rows set beside one full head", "cpu/backend.cpp",
             "n_groups * head_bytes(), n_rows", "head_bytes(), n_rows"),
    Mutation("never_given_up", "all columns screened, whatever was skimmed", STEPS,
             "s_.pays_to_screen =\n      HeadPolicy::pays(", "s_.pays_to_screen =\n      true || HeadPolicy::pays("),
    Mutation("sample_keeps_all_of_top_k", "of a sample as many as of all", SELECTION,
             "(how.top_k * floors.size() + n_panels - 1) / n_panels", "how.top_k"),
    Mutation("noise_left_out", "bounds compared without their noise", SELECTION, "upper[i] += noise;", ""),
    Mutation("edits_of_lower_bounds_only", "a bias doesn't raise the upper bound", STEPS,
             "edit(*choice, tile, upper.data());", ""),
    Mutation("temperature_forgotten", "bounds of what isn't divided by the temperature", SELECTION,
             "for (float& bound : lower) bound /= temperature;", ""),
]
