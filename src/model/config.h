// What a checkpoint says about itself: sizes, layer pattern, constants. Nothing here is a habit of one model:
// every number comes from config.json (Qwen3.5's `text_config`) or from a GGUF's metadata (docs/models.md §3).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"

namespace sluice::model {

enum class LayerKind : std::uint8_t { kDeltaNet, kAttention };

struct ModelConfig {
  std::string model_type;  // "qwen3_5", "qwen3_5_text"; a GGUF's architecture, "qwen35"
  // As the config states it: "bfloat16", "float32", ...; empty if it doesn't. Of a GGUF, which states none, the type that
  // most of its bytes are of: "BF16", "Q4_K", ...
  std::string dtype;

  std::size_t vocab_size = 0;
  std::size_t hidden_size = 0;
  std::size_t intermediate_size = 0;
  std::vector<LayerKind> layers;  // one entry a layer

  // Attention layers.
  std::size_t n_heads = 0;     // query heads
  std::size_t n_kv_heads = 0;  // divides n_heads
  std::size_t head_dim = 0;
  std::size_t rotary_dim = 0;  // even, <= head_dim: the leading dimensions that RoPE turns
  double rope_theta = 0;

  // DeltaNet layers.
  std::size_t n_key_heads = 0;
  std::size_t n_value_heads = 0;  // a multiple of n_key_heads
  std::size_t key_head_dim = 0;
  std::size_t value_head_dim = 0;
  std::size_t conv_kernel = 0;  // taps of the short convolution, >= 1

  double rms_norm_eps = 0;
  bool tie_word_embeddings = false;
  std::size_t max_positions = 0;
  std::size_t n_mtp_layers = 0;
  std::vector<std::int32_t> eos_token_ids;  // ascending; may be empty

  std::size_t n_layers() const { return layers.size(); }
  std::size_t query_dim() const { return n_heads * head_dim; }
  std::size_t kv_dim() const { return n_kv_heads * head_dim; }
  std::size_t key_dim() const { return n_key_heads * key_head_dim; }
  std::size_t value_dim() const { return n_value_heads * value_head_dim; }
  std::size_t conv_dim() const { return 2 * key_dim() + value_dim(); }  // channels: Q | K | V
};

// Reads config.json in the folder `path`, or the metadata of the GGUF file `path`. Throws Error that names file, field
// and expectation for an unknown model type, a missing field, a wrong type, a value out of range, dimensions that don't
// divide, or products that overflow.
ModelConfig read_config(const std::filesystem::path& path);

// The same from the parsed JSON of a config.json; `where` names it in errors.
ModelConfig parse_config(const Json& json, std::string_view where);

}  // namespace sluice::model
