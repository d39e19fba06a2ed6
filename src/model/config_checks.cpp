#include "model/config_checks.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.h"

namespace sluice::model {

void ConfigChecks::fail(std::string_view field, const std::string& is, const std::string& expected) const {
  throw Error(std::string(field) + " is " + is, where_, "expected " + expected);
}

std::string ConfigChecks::range_text(std::size_t low, std::size_t high) {
  return fmt::format("an integer from {} to {}", low, high);
}

std::size_t ConfigChecks::within(std::string_view field, std::size_t value, std::size_t low,
                                 std::size_t high) const {
  if (value < low || value > high) fail(field, std::to_string(value), range_text(low, high));
  return value;
}

double ConfigChecks::within(std::string_view field, double value, double low, double high) const {
  if (!(value >= low && value <= high))
    fail(field, fmt::format("{}", value), fmt::format("a number from {} to {}", low, high));
  return value;
}

void ConfigChecks::heads(const ModelConfig& config, const Names& names) const {
  const auto check_multiple = [&](const std::string& field, std::size_t value, const std::string& of,
                                  std::size_t divisor) {
    if (value % divisor != 0)
      fail(field, std::to_string(value), fmt::format("a multiple of {} = {}", of, divisor));
  };
  // Both are at most kMaxSize, so no product can overflow.
  const auto check_product = [&](const std::string& a_name, std::size_t a, const std::string& b_name,
                                 std::size_t b) {
    if (a * b > kMaxSize)
      fail(a_name + " × " + b_name, std::to_string(a * b), "at most " + std::to_string(kMaxSize));
  };
  check_multiple(names.n_heads, config.n_heads, names.n_kv_heads, config.n_kv_heads);
  check_product(names.n_heads, config.n_heads, names.head_dim, config.head_dim);
  check_multiple(names.n_value_heads, config.n_value_heads, names.n_key_heads, config.n_key_heads);
  check_product(names.n_key_heads, config.n_key_heads, names.key_head_dim, config.key_head_dim);
  check_product(names.n_value_heads, config.n_value_heads, names.value_head_dim, config.value_head_dim);
}

void ConfigChecks::add_eos(std::string_view field, std::size_t id, ModelConfig& config) const {
  const auto token = static_cast<std::int32_t>(within(field, id, 0, config.vocab_size - 1));
  std::vector<std::int32_t>& ids = config.eos_token_ids;
  const auto place = std::lower_bound(ids.begin(), ids.end(), token);
  if (place == ids.end() || *place != token) ids.insert(place, token);
  if (ids.size() > kMaxEndTokens)
    fail(field, "one of too many", fmt::format("at most {} end tokens", kMaxEndTokens));
}

}  // namespace sluice::model
