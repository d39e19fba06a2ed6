// Small checkpoints of random shape: config.json and the tensors that it wants, under the names of
// docs/models.md §1.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/seed.h"
#include "tests/support/stored_numbers.h"
#include "tests/support/temp_folder.h"

namespace sluice::test {

struct Shapes {
  std::size_t vocab = 7, hidden = 6, intermediate = 10, layers = 3, interval = 3;
  std::size_t heads = 4, kv_heads = 2, head_dim = 8;
  std::size_t key_heads = 2, ratio = 3, key_dim = 4, value_dim = 5,
              kernel = 4;  // value heads = ratio * key heads
  std::size_t mtp_layers = 1;
  bool tied = false;

  std::size_t value_heads() const { return ratio * key_heads; }
  std::size_t conv_dim() const { return 2 * key_heads * key_dim + value_heads() * value_dim; }
  bool is_attention(std::size_t layer) const { return (layer + 1) % interval == 0; }
};

inline Shapes random_shapes(Random& random) {
  Shapes shapes;
  shapes.vocab = pick(random, 2, 9);
  shapes.hidden = pick(random, 1, 9);
  shapes.intermediate = pick(random, 1, 9);
  shapes.layers = pick(random, 1, 5);
  shapes.interval = pick(random, 1, 4);
  shapes.kv_heads = pick(random, 1, 3);
  shapes.heads = shapes.kv_heads * pick(random, 1, 3);
  shapes.head_dim = 8 * pick(random, 1, 2);
  shapes.key_heads = pick(random, 1, 4);
  shapes.ratio = pick(random, 1, 4);
  shapes.key_dim = pick(random, 1, 5);
  shapes.value_dim = pick(random, 1, 5);
  shapes.kernel = pick(random, 1, 5);
  shapes.mtp_layers = pick(random, 0, 2);
  shapes.tied = random() % 2 == 0;
  return shapes;
}

// The text fields of a config; as a whole it is a `qwen3_5_text` config.
inline Json text_config(const Shapes& shapes) {
  return {{"model_type", "qwen3_5_text"},
          {"dtype", "bfloat16"},
          {"vocab_size", shapes.vocab},
          {"hidden_size", shapes.hidden},
          {"intermediate_size", shapes.intermediate},
          {"num_hidden_layers", shapes.layers},
          {"full_attention_interval", shapes.interval},
          {"num_attention_heads", shapes.heads},
          {"num_key_value_heads", shapes.kv_heads},
          {"head_dim", shapes.head_dim},
          {"linear_num_key_heads", shapes.key_heads},
          {"linear_num_value_heads", shapes.value_heads()},
          {"linear_key_head_dim", shapes.key_dim},
          {"linear_value_head_dim", shapes.value_dim},
          {"linear_conv_kernel_dim", shapes.kernel},
          {"mtp_num_hidden_layers", shapes.mtp_layers},
          {"tie_word_embeddings", shapes.tied},
          {"rope_parameters",
           {{"rope_type", "default"}, {"rope_theta", 10000.0}, {"partial_rotary_factor", 0.5}}}};
}

// The config of the multimodal model around a text config.
inline Json nested_config(Json text) {
  const Json tied = text["tie_word_embeddings"];
  return {{"architectures", {"Qwen3_5ForConditionalGeneration"}},
          {"model_type", "qwen3_5"},
          {"text_config", std::move(text)},
          {"vision_config", {{"model_type", "qwen3_5_vision"}, {"hidden_size", 16}}},
          {"tie_word_embeddings", tied}};
}

// Draws the tensors of a checkpoint; every one in a storage type of its own.
class CheckpointTensors {
 public:
  CheckpointTensors(Random& random, const Shapes& shapes, std::string prefix)
      : random_(random), shapes_(shapes), prefix_(std::move(prefix)) {}

  std::vector<StoredTensor> draw() {
    const Shapes& s = shapes_;
    add(prefix_ + "embed_tokens.weight", {s.vocab, s.hidden});
    for (std::size_t i = 0; i < s.layers; ++i)
      layer(prefix_ + "layers." + std::to_string(i) + ".", s.is_attention(i));
    add(prefix_ + "norm.weight", {s.hidden});
    if (!s.tied) add("lm_head.weight", {s.vocab, s.hidden});
    if (s.mtp_layers > 0) {
      add("mtp.fc.weight", {s.hidden, 2 * s.hidden});
      for (const char* name : {"norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden"})
        add("mtp." + std::string(name) + ".weight", {s.hidden});
    }
    for (std::size_t i = 0; i < s.mtp_layers; ++i) layer("mtp.layers." + std::to_string(i) + ".", true);
    return std::move(tensors_);
  }

 private:
  void add(const std::string& name, const std::vector<std::size_t>& shape) {
    static constexpr const char* kTypes[] = {"F32", "F16", "BF16"};
    const std::string dtype = kTypes[pick(random_, 0, 2)];
    std::size_t n = 1;
    for (const std::size_t extent : shape) n *= extent;
    tensors_.push_back({name, dtype, shape, random_stored(random_, dtype, n)});
  }

  void layer(const std::string& at, bool is_attention) {
    const Shapes& s = shapes_;
    add(at + "input_layernorm.weight", {s.hidden});
    add(at + "post_attention_layernorm.weight", {s.hidden});
    add(at + "mlp.gate_proj.weight", {s.intermediate, s.hidden});
    add(at + "mlp.up_proj.weight", {s.intermediate, s.hidden});
    add(at + "mlp.down_proj.weight", {s.hidden, s.intermediate});
    if (is_attention) {
      add(at + "self_attn.q_proj.weight", {s.heads * 2 * s.head_dim, s.hidden});
      add(at + "self_attn.k_proj.weight", {s.kv_heads * s.head_dim, s.hidden});
      add(at + "self_attn.v_proj.weight", {s.kv_heads * s.head_dim, s.hidden});
      add(at + "self_attn.o_proj.weight", {s.hidden, s.heads * s.head_dim});
      add(at + "self_attn.q_norm.weight", {s.head_dim});
      add(at + "self_attn.k_norm.weight", {s.head_dim});
      return;
    }
    add(at + "linear_attn.in_proj_qkv.weight", {s.conv_dim(), s.hidden});
    add(at + "linear_attn.in_proj_z.weight", {s.value_heads() * s.value_dim, s.hidden});
    add(at + "linear_attn.in_proj_b.weight", {s.value_heads(), s.hidden});
    add(at + "linear_attn.in_proj_a.weight", {s.value_heads(), s.hidden});
    add(at + "linear_attn.conv1d.weight", {s.conv_dim(), 1, s.kernel});
    add(at + "linear_attn.A_log", {s.value_heads()});
    add(at + "linear_attn.dt_bias", {s.value_heads()});
    add(at + "linear_attn.norm.weight", {s.value_dim});
    add(at + "linear_attn.out_proj.weight", {s.hidden, s.value_heads() * s.value_dim});
  }

  Random& random_;
  const Shapes& shapes_;
  std::string prefix_;
  std::vector<StoredTensor> tensors_;
};

// Writes config.json and model.safetensors.
inline void write_checkpoint(const TempFolder& folder, const Json& config,
                             const std::vector<StoredTensor>& tensors) {
  folder.write("config.json", config.dump());
  folder.write("model.safetensors", safetensors_file(tensors));
}

}  // namespace sluice::test
