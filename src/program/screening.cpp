#include "program/screening.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "base/error.h"
#include "program/sampler_math.h"

namespace sluice::program {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The least words whose noise may reach g, for g in steps: from below the least noise to above the largest.
class NoiseTable {
 public:
  NoiseTable() {
    for (std::size_t i = 0; i < words_.size(); ++i) {
      constexpr double kDistance = 0.01;
      const double g = static_cast<double>(i) / kSteps - kBelow - kDistance;
      const double word = std::floor(0x1p+32 * std::exp(-std::exp(-g))) - 1;
      words_[i] = static_cast<std::uint32_t>(std::clamp(word, 0.0, 4294967295.0));
    }
  }

  // A word below it gives noise below g.
  std::uint32_t least_word(float g) const {
    const float step = (g + static_cast<float>(kBelow)) * static_cast<float>(kSteps);
    if (!(step > 0.0F)) return 0;  // NaN, too
    const auto last = static_cast<float>(words_.size() - 1);
    return words_[static_cast<std::size_t>(std::min(step, last))];
  }

 private:
  static constexpr int kSteps = 8;  // in one
  static constexpr int kBelow = 4;
  std::array<std::uint32_t, (kBelow + 24) * kSteps + 1> words_{};
};

// Adds the noise of four tokens, `first` is a multiple of four, where it can lift them to `best`; raises `best`.
void add_noise(const NoiseTable& table, const Choice& choice, std::uint32_t first, std::span<float> lower,
               std::span<float> upper, float& best) {
  std::array<bool, 4> reaches_it{};
  bool any = false;
  for (std::size_t i = 0; i < upper.size(); ++i) {
    reaches_it[i] = reaches(upper[i] + sampler::kGumbelMax, best);
    any = any || reaches_it[i];
  }
  std::uint32_t words[4] = {first / 4, 0, static_cast<std::uint32_t>(choice.draw),
                            static_cast<std::uint32_t>(choice.draw >> 32U)};
  if (any) sampler::philox4x32_10(words, choice.sampling.seed);
  for (std::size_t i = 0; i < upper.size(); ++i) {
    if (!reaches_it[i] || words[i] < table.least_word(best - upper[i])) {
      lower[i] = upper[i] = -kInfinity;
      continue;
    }
    const float noise = sampler::gumbel(words[i]);
    lower[i] += noise;
    upper[i] += noise;
    best = std::max(best, lower[i]);
  }
}

}  // namespace

std::optional<ScreenRule> screen_rule(const Choice& choice, std::size_t n_columns) {
  const Sampling& how = choice.sampling;
  if (is_greedy(how)) return ScreenRule::kGreedy;
  if (how.top_k != 0 && how.top_k < std::min(choice.n_tokens, n_columns)) {
    if (how.top_k > screen_panels(n_columns) / 2) return std::nullopt;
    return ScreenRule::kTopK;
  }
  if (how.top_p < 1.0F) return std::nullopt;
  if (how.min_p <= 0.0F) return ScreenRule::kNoise;
  if (how.min_p < std::numeric_limits<float>::min()) return std::nullopt;
  return ScreenRule::kMinP;
}

void panel_bounds(ScreenRule rule, const Choice& choice, std::uint32_t first_id, std::span<float> lower,
                  std::span<float> upper, std::span<float> floors, std::span<float> ceilings) {
  SLUICE_CHECK(first_id % kScreenPanel == 0 && lower.size() == upper.size());
  if (rule != ScreenRule::kGreedy) {
    const float temperature = choice.sampling.temperature;
    for (float& bound : lower) bound /= temperature;
    for (float& bound : upper)
      bound =
          bound == -kInfinity ? bound : std::max(bound / temperature, std::numeric_limits<float>::lowest());
  }
  if (rule == ScreenRule::kNoise) {
    static const NoiseTable table;
    float best = -kInfinity;
    for (std::size_t i = 0; i < lower.size(); i += 4) {
      const std::size_t n = std::min<std::size_t>(4, lower.size() - i);
      add_noise(table, choice, first_id + static_cast<std::uint32_t>(i), lower.subspan(i, n),
                upper.subspan(i, n), best);
    }
  }
  for (std::size_t panel = 0; panel < floors.size(); ++panel) {
    const std::size_t begin = panel * kScreenPanel;
    const std::size_t end = std::min(begin + kScreenPanel, lower.size());
    float floor = -kInfinity;
    float ceiling = -kInfinity;
    for (std::size_t i = begin; i < end; ++i) {
      floor = lower[i] > floor ? lower[i] : floor;  // NaN is not known to be anything
      if (!(upper[i] <= ceiling)) ceiling = upper[i] >= ceiling ? upper[i] : kInfinity;
    }
    floors[panel] = floor;
    ceilings[panel] = ceiling;
  }
}

float screen_threshold(ScreenRule rule, const Sampling& how, std::span<const float> floors) {
  if (rule == ScreenRule::kTopK) {
    const std::size_t k = how.top_k;
    std::vector<float> largest(std::min(k, floors.size()));
    std::partial_sort_copy(floors.begin(), floors.end(), largest.begin(), largest.end(), std::greater<>());
    return largest.size() < k ? -kInfinity : largest.back();
  }
  float best = -kInfinity;
  for (const float floor : floors) best = std::max(best, floor);
  if (rule != ScreenRule::kMinP) return best;
  constexpr float kDistance = 1e-3F;
  const float lowered = best + (sampler::log(how.min_p) - kDistance);
  return lowered - std::fabs(lowered) * 0x1p-22F;
}

float sample_threshold(ScreenRule rule, const Sampling& how, std::span<const float> floors,
                       std::size_t n_panels) {
  Sampling of_sample = how;
  of_sample.top_k = (how.top_k * floors.size() + n_panels - 1) / n_panels;
  return screen_threshold(rule, of_sample, floors);
}

}  // namespace sluice::program
