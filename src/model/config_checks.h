// What every config must keep, whatever file it comes from (config.json, a GGUF's metadata), and the errors for those
// that don't: "FIELD is VALUE (FILE): expected RANGE".
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "model/config.h"

namespace sluice::model {

// Every size is at most this. So a product of two of them (a matrix, a layer's recurrent state) stays below 2^50, and
// times 4 bytes and kMaxLayers layers below 2^64. What also grows with the context (the KV cache) is multiplied with
// checks.
inline constexpr std::size_t kMaxSize = std::size_t{1} << 24U;
inline constexpr std::size_t kMaxLayers = 4096;
inline constexpr std::size_t kMaxMtpLayers = 64;
inline constexpr std::size_t kMaxConvKernel = 4096;
inline constexpr std::size_t kMaxPositions = std::size_t{1} << 31U;
inline constexpr std::size_t kMaxEndTokens = 1000;
// Frequencies theta^(-2j/rotary_dim) are at most 1 and, in fp32, not 0; an epsilon in fp32 is neither 0 nor more than
// what it protects.
inline constexpr double kMinTheta = 1;
inline constexpr double kMaxTheta = 1e30;
inline constexpr double kMinEps = 1e-30;
inline constexpr double kMaxEps = 1;

// Fields of one file; the last part of each function's arguments is a field's full name there.
class ConfigChecks {
 public:
  explicit ConfigChecks(std::string_view where) : where_(where) {}

  [[noreturn]] void fail(std::string_view field, const std::string& is, const std::string& expected) const;

  // "an integer from 1 to 16777216"
  static std::string range_text(std::size_t low, std::size_t high);
  // `value`, which must be from `low` to `high`.
  std::size_t within(std::string_view field, std::size_t value, std::size_t low, std::size_t high) const;
  double within(std::string_view field, double value, double low, double high) const;

  // How a file calls the sizes that depend on each other.
  struct Names {
    std::string n_heads, n_kv_heads, head_dim;
    std::string n_key_heads, n_value_heads, key_head_dim, value_head_dim;
  };
  // Heads divide and no row of heads is wider than kMaxSize. The sizes themselves are within range already.
  void heads(const ModelConfig& config, const Names& names) const;

  // Adds an end token where its number belongs, once; it must be in the vocabulary.
  void add_eos(std::string_view field, std::size_t id, ModelConfig& config) const;

  const std::string& where() const { return where_; }

 private:
  std::string where_;
};

}  // namespace sluice::model
