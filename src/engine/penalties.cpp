#include "engine/penalties.h"

#include <cmath>

#include <fmt/format.h>

#include "base/error.h"

namespace sluice::engine {
namespace {

void require(bool good, std::string_view field, float value, std::string_view range) {
  if (!good) throw Error(fmt::format("{} is {}", field, value), "sampling", fmt::format("want {}", range));
}

}  // namespace

Penalties::Penalties(const PenaltyOptions& options, std::span<const std::int32_t> prompt)
    : options_(options) {
  require(std::isfinite(options.presence), "presence_penalty", options.presence, "a finite number");
  require(std::isfinite(options.frequency), "frequency_penalty", options.frequency, "a finite number");
  require(std::isfinite(options.repeat) && options.repeat > 0.0F, "repeat_penalty", options.repeat,
          "a positive number, 1 for none");
  if (options.repeat == 1.0F) return;
  for (const std::int32_t token : prompt) generated_.try_emplace(token, 0);
}

void Penalties::add_generated(std::int32_t token) {
  ++generated_[token];
}

std::vector<program::LogitEdit> Penalties::edits() const {
  std::vector<program::LogitEdit> edits;
  if (options_.presence == 0.0F && options_.frequency == 0.0F && options_.repeat == 1.0F) return edits;
  edits.reserve(generated_.size());
  for (const auto& [token, count] : generated_) {
    const float subtract =
        count == 0 ? 0.0F : options_.presence + options_.frequency * static_cast<float>(count);
    edits.push_back({token, options_.repeat, -subtract});
  }
  return edits;
}

}  // namespace sluice::engine
