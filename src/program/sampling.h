// How a token is chosen from a row of logits. The arithmetic is the same, bit for bit, on every backend: it
// uses integers, IEEE add, multiply, divide and compare in a fixed order, and no libm.
//
// Choice. Edited logits l_i (see LogitEdit). Greedy (temperature 0): the largest, the lowest id among equals.
// Otherwise, in this order (as transformers does): l_i / temperature; keep the top_k largest; keep the
// smallest set of largest probabilities whose sum reaches top_p; drop what is below min_p times the largest
// probability; among what is left, the largest l_i / temperature + G_i, with G_i = -log(-log(u_i)) standard
// Gumbel noise (Gumbel-max: a sample of the softmax, and one that needs no sum). u_i comes from Philox4x32-10
// (Salmon et al., 2011), keyed by the seed, with counter (token id, draw): the same seed gives the same token
// whatever else runs, in whatever order.
//
// Details that every backend shares (program/sampler_math.h): equal logits rank by id, lowest first, so that
// top_k keeps exactly k and the choice is unique. Probabilities are relative to the largest, exp(s_i - s_max)
// with s = l / temperature, and top_p adds them as integers, whose sum doesn't depend on the order. The
// likeliest token is never dropped. A temperature below 1e-5 is greedy (l / temperature could overflow). A
// token at -infinity is masked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace sluice::program {

struct Sampling {
  float temperature = 0.0F;  // 0: greedy; finite, >= 0
  std::size_t top_k = 0;     // 0: all
  float top_p = 1.0F;        // 0 to 1
  float min_p = 0.0F;        // 0 to 1
  std::uint64_t seed = 0;
};

// Temperatures so small are 0: l / temperature could overflow, and a sample is the largest logit anyway.
inline constexpr float kSmallestTemperature = 1e-5F;
inline bool is_greedy(const Sampling& how) {
  return !(how.temperature >= kSmallestTemperature);
}

// Throws Error that names the field, prefixed with `where`, if one is out of its range.
void validate(const Sampling& how, std::string_view where);

// What penalties, logit bias and masks do to one token's logit, before anything else:
// l = l > 0 ? l / repeat : l * repeat; l += add.  Mask: add = -infinity. Sorted by token, no token twice.
struct LogitEdit {
  std::int32_t token = 0;
  float repeat = 1.0F;
  float add = 0.0F;
};

// Applies `edits` to `logits` [vocab] in place.
void apply_edits(std::span<float> logits, std::span<const LogitEdit> edits);

// The chosen id. `logits` [vocab], already edited; `draw` counts the tokens sampled so far in the sequence.
// Ids >= n_tokens are never chosen (the head's padding rows). Neither is NaN, nor a masked token; nothing, if
// that leaves none.
std::optional<std::int32_t> try_sample(std::span<const float> logits, std::size_t n_tokens,
                                       const Sampling& how, std::uint64_t draw);

// The same, from logits that come in tiles: tile i is [tile_ends[i - 1], tile_ends[i]) with tile_best[i] its largest logit
// (-infinity if it has none that can be chosen: such a tile isn't looked at). Greedy choices and those among the top_k look at
// few tiles.
std::optional<std::int32_t> try_sample(std::span<const float> logits, std::size_t n_tokens,
                                       const Sampling& how, std::uint64_t draw,
                                       std::span<const std::uint32_t> tile_ends,
                                       std::span<const float> tile_best);

// The same; throws Error if nothing can be chosen.
std::int32_t sample(std::span<const float> logits, std::size_t n_tokens, const Sampling& how,
                    std::uint64_t draw);

// Philox4x32-10 of a 128-bit counter under a 64-bit key.
struct PhiloxBlock {
  std::uint32_t word[4];
};
PhiloxBlock philox4x32_10(const PhiloxBlock& counter, std::uint64_t key);

// exp and natural log in fp32 by integer and IEEE arithmetic; within 2 ulp of the exact value (tests check
// it). portable_exp: any finite or infinite x; below -103.98 it is 0, above 88.73 infinity. portable_log: x >
// 0, normal or subnormal.
float portable_exp(float x);
float portable_log(float x);

}  // namespace sluice::program
