#include "program/sampling.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "program/sampler_math.h"

namespace sluice::program {
namespace {

struct Candidate {
  float scaled = 0.0F;  // l / temperature
  std::uint32_t id = 0;
};

bool ranks_before(const Candidate& a, const Candidate& b) {
  return a.scaled > b.scaled || (a.scaled == b.scaled && a.id < b.id);
}

// False for NaN and for masked tokens.
bool can_be_chosen(float logit) {
  return logit > -std::numeric_limits<float>::infinity();
}

std::optional<std::int32_t> sample_greedy(std::span<const float> logits) {
  std::optional<std::size_t> best;
  for (std::size_t id = 0; id < logits.size(); ++id) {
    if (can_be_chosen(logits[id]) && (!best || logits[id] > logits[*best])) best = id;
  }
  if (!best) return std::nullopt;
  return static_cast<std::int32_t>(*best);
}

// Those of [begin, end).
void add_candidates(std::span<const float> logits, std::size_t begin, std::size_t end, float temperature,
                    std::vector<Candidate>& candidates) {
  for (std::size_t id = begin; id < end; ++id) {
    if (can_be_chosen(logits[id]))
      candidates.push_back({logits[id] / temperature, static_cast<std::uint32_t>(id)});
  }
}

void keep_top_k(std::vector<Candidate>& candidates, std::size_t k) {
  if (k == 0 || k >= candidates.size()) return;
  const auto end = candidates.begin() + static_cast<std::ptrdiff_t>(k);
  std::nth_element(candidates.begin(), end, candidates.end(), ranks_before);
  candidates.resize(k);
}

// Sorts only as far as the sum needs: a peaked distribution wants a few of 250,000 tokens.
void keep_top_p(std::vector<Candidate>& candidates, float top_p, float largest) {
  if (top_p >= 1.0F) return;
  const auto units = [largest](const Candidate& c) {
    return sampler::probability_units(sampler::relative_probability(c.scaled, largest));
  };
  std::uint64_t total = 0;
  for (const Candidate& c : candidates) total += units(c);
  const std::uint64_t wanted = sampler::units_wanted(top_p, total);

  std::uint64_t sum = 0;
  std::size_t kept = 0;
  for (std::size_t sorted = 0; sum < wanted; ++kept) {
    if (kept == sorted) {
      sorted = std::min(candidates.size(), 2 * sorted + 64);
      std::partial_sort(candidates.begin() + static_cast<std::ptrdiff_t>(kept),
                        candidates.begin() + static_cast<std::ptrdiff_t>(sorted), candidates.end(),
                        ranks_before);
    }
    sum += units(candidates[kept]);
  }
  candidates.resize(kept);
}

void keep_min_p(std::vector<Candidate>& candidates, float min_p, float largest) {
  if (min_p <= 0.0F) return;
  std::erase_if(candidates, [min_p, largest](const Candidate& c) {
    return sampler::relative_probability(c.scaled, largest) < min_p;
  });
}

// The largest of scaled + noise; the lowest id among equals, in whatever order the candidates stand.
std::int32_t gumbel_max(std::span<const Candidate> candidates, std::uint64_t seed, std::uint64_t draw) {
  std::optional<Candidate> best;
  for (const Candidate& c : candidates) {
    // No noise could lift it, and noise is what costs.
    if (best && c.scaled + sampler::kGumbelMax < best->scaled) continue;
    const Candidate noisy{c.scaled + sampler::token_gumbel(seed, draw, c.id), c.id};
    if (!best || ranks_before(noisy, *best)) best = noisy;
  }
  SLUICE_CHECK(best.has_value());  // there is a candidate
  return static_cast<std::int32_t>(best->id);
}

std::optional<std::int32_t> sample_among(std::vector<Candidate> candidates, const Sampling& how,
                                         std::uint64_t draw) {
  if (candidates.empty()) return std::nullopt;
  const float largest = std::min_element(candidates.begin(), candidates.end(), ranks_before)->scaled;
  keep_top_k(candidates, how.top_k);
  keep_top_p(candidates, how.top_p, largest);
  keep_min_p(candidates, how.min_p, largest);
  return gumbel_max(candidates, how.seed, draw);
}

void require(bool good, std::string_view where, std::string_view field, double value,
             std::string_view range) {
  if (!good) throw Error(fmt::format("{} is {}", field, value), where, fmt::format("want {}", range));
}

}  // namespace

void validate(const Sampling& how, std::string_view where) {
  const auto within_one = [](float x) { return x >= 0.0F && x <= 1.0F; };
  require(std::isfinite(how.temperature) && how.temperature >= 0.0F, where, "temperature",
          static_cast<double>(how.temperature), "0 (greedy) or a positive number");
  require(within_one(how.top_p), where, "top_p", static_cast<double>(how.top_p), "0 to 1");
  require(within_one(how.min_p), where, "min_p", static_cast<double>(how.min_p), "0 to 1");
}

void apply_edits(std::span<float> logits, std::span<const LogitEdit> edits) {
  for (const LogitEdit& edit : edits) {
    SLUICE_CHECK(edit.token >= 0 && static_cast<std::size_t>(edit.token) < logits.size());
    float& l = logits[static_cast<std::size_t>(edit.token)];
    l = l > 0.0F ? l / edit.repeat : l * edit.repeat;
    l += edit.add;
  }
}

std::optional<std::int32_t> try_sample(std::span<const float> logits, std::size_t n_tokens,
                                       const Sampling& how, std::uint64_t draw) {
  const std::span<const float> real = logits.first(std::min(n_tokens, logits.size()));
  if (is_greedy(how)) return sample_greedy(real);
  std::vector<Candidate> candidates;
  candidates.reserve(real.size());
  add_candidates(real, 0, real.size(), how.temperature, candidates);
  return sample_among(std::move(candidates), how, draw);
}

std::optional<std::int32_t> try_sample(std::span<const float> logits, std::size_t n_tokens,
                                       const Sampling& how, std::uint64_t draw,
                                       std::span<const std::uint32_t> tile_ends,
                                       std::span<const float> tile_best) {
  SLUICE_CHECK(tile_ends.size() == tile_best.size() && !tile_ends.empty() &&
               tile_ends.back() == logits.size());
  const auto tile_begin = [&](std::size_t tile) { return tile == 0 ? 0 : tile_ends[tile - 1]; };
  if (is_greedy(how)) {
    // max_element takes the first among equals; NaN is never the best of a tile.
    const auto best =
        static_cast<std::size_t>(std::max_element(tile_best.begin(), tile_best.end()) - tile_best.begin());
    if (!can_be_chosen(tile_best[best])) return std::nullopt;
    const auto found = sample_greedy(
        logits.first(std::min<std::size_t>(n_tokens, tile_ends[best])).subspan(tile_begin(best)));
    if (!found) return std::nullopt;
    return *found + static_cast<std::int32_t>(tile_begin(best));
  }
  std::vector<Candidate> candidates;
  const auto add_tiles = [&](float least) {
    for (std::size_t tile = 0; tile < tile_best.size(); ++tile)
      if (can_be_chosen(tile_best[tile]) && tile_best[tile] / how.temperature >= least)
        add_candidates(logits, tile_begin(tile), std::min<std::size_t>(tile_ends[tile], n_tokens),
                       how.temperature, candidates);
  };
  if (how.top_k == 0 || how.top_k >= tile_best.size()) {
    add_tiles(-std::numeric_limits<float>::infinity());
    return sample_among(std::move(candidates), how, draw);
  }
  // The k tiles with the largest logits hold k logits that are at least the k-th tile's: none below those can be kept.
  // Compared after the division, whose rounding makes equals.
  std::vector<float> scaled(tile_best.size());
  std::transform(tile_best.begin(), tile_best.end(), scaled.begin(),
                 [&](float best) { return best / how.temperature; });
  const auto kth = scaled.begin() + static_cast<std::ptrdiff_t>(how.top_k) - 1;
  std::nth_element(scaled.begin(), kth, scaled.end(), std::greater<>());
  add_tiles(*kth);
  return sample_among(std::move(candidates), how, draw);
}

std::int32_t sample(std::span<const float> logits, std::size_t n_tokens, const Sampling& how,
                    std::uint64_t draw) {
  const std::optional<std::int32_t> token = try_sample(logits, n_tokens, how, draw);
  if (!token) throw Error("no token can be chosen: every logit is masked or NaN", "sampling");
  return *token;
}

PhiloxBlock philox4x32_10(const PhiloxBlock& counter, std::uint64_t key) {
  PhiloxBlock block = counter;
  sampler::philox4x32_10(block.word, key);
  return block;
}

float portable_exp(float x) {
  return sampler::exp(x);
}
float portable_log(float x) {
  return sampler::log(x);
}

}  // namespace sluice::program
