// A checkpoint in Hugging Face's form turned into a GGUF file, by the transforms that docs/models.md §3 lists (those of
// llama.cpp's convert_hf_to_gguf.py) and nothing of the program's.
#pragma once

#include <cmath>
#include <cstddef>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "model/config.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/stored_numbers.h"

namespace sluice::test {

class GgufConverter {
 public:
  // `prefix`: of the language model's tensors, "model." or "model.language_model.".
  GgufConverter(const model::ModelConfig& config, const std::vector<StoredTensor>& tensors,
                std::string prefix)
      : config_(config), prefix_(std::move(prefix)) {
    for (const StoredTensor& tensor : tensors) stored_[tensor.name] = tensor;
  }

  GgufWriter convert() {
    write_keys();
    plain(prefix_ + "embed_tokens.weight", "token_embd.weight");
    if (has("lm_head.weight")) plain("lm_head.weight", "output.weight");
    norm(prefix_ + "norm.weight", "output_norm.weight");
    for (std::size_t i = 0; i < config_.n_layers(); ++i)
      layer(prefix_ + "layers." + std::to_string(i) + ".", i,
            config_.layers[i] == model::LayerKind::kAttention);
    if (has("mtp.fc.weight"))
      for (std::size_t i = 0; i < config_.n_mtp_layers; ++i) mtp_layer(i);
    return std::move(writer_);
  }

 private:
  void write_keys() {
    const auto size = [&](const std::string& key, std::size_t value) {
      writer_.key("qwen35." + key, static_cast<std::uint32_t>(value));
    };
    writer_.key("general.architecture", std::string("qwen35"));
    size("block_count", config_.n_layers() + config_.n_mtp_layers);
    if (config_.n_mtp_layers > 0) size("nextn_predict_layers", config_.n_mtp_layers);
    size("context_length", config_.max_positions);
    size("embedding_length", config_.hidden_size);
    size("feed_forward_length", config_.intermediate_size);
    size("attention.head_count", config_.n_heads);
    size("attention.head_count_kv", config_.n_kv_heads);
    size("attention.key_length", config_.head_dim);
    size("attention.value_length", config_.head_dim);
    size("rope.dimension_count", config_.rotary_dim);
    writer_.key("qwen35.attention.layer_norm_rms_epsilon", static_cast<float>(config_.rms_norm_eps));
    writer_.key("qwen35.rope.freq_base", static_cast<float>(config_.rope_theta));
    writer_.array("qwen35.rope.dimension_sections", std::vector<std::int32_t>{11, 11, 10, 0});
    size("ssm.conv_kernel", config_.conv_kernel);
    size("ssm.state_size", config_.key_head_dim);
    size("ssm.group_count", config_.n_key_heads);
    size("ssm.time_step_rank", config_.n_value_heads);
    size("ssm.inner_size", config_.n_value_heads * config_.value_head_dim);
    layer_pattern();
  }

  // full_attention_interval where a rule is enough, else the list of flags.
  void layer_pattern() {
    for (std::size_t interval = 1; interval <= config_.n_layers() + 1; ++interval) {
      bool fits = true;
      for (std::size_t i = 0; i < config_.n_layers(); ++i)
        fits &= ((i + 1) % interval == 0) == (config_.layers[i] == model::LayerKind::kAttention);
      if (!fits) continue;
      writer_.key("qwen35.full_attention_interval", static_cast<std::uint32_t>(interval));
      return;
    }
    std::string flags;
    for (const model::LayerKind kind : config_.layers)
      flags += gguf_bytes(kind == model::LayerKind::kDeltaNet);
    for (std::size_t i = 0; i < config_.n_mtp_layers; ++i) flags += gguf_bytes(false);
    writer_.raw_key("qwen35.attention.recurrent_layers", 9,
                    gguf_bytes(std::uint32_t{7}) + gguf_bytes(std::uint64_t{flags.size()}) + flags);
  }

  bool has(const std::string& name) const { return stored_.contains(name); }
  const StoredTensor& stored(const std::string& name) const {
    const auto found = stored_.find(name);
    if (found == stored_.end()) throw std::runtime_error("the test has no tensor " + name);
    return found->second;
  }

  static std::uint32_t type_of(const std::string& dtype) {
    if (dtype == "F32") return ggml::kF32;
    return dtype == "F16" ? ggml::kF16 : ggml::kBF16;
  }

  void add(const StoredTensor& tensor, const std::string& name) {
    const std::vector<std::uint64_t> dimensions(tensor.shape.rbegin(), tensor.shape.rend());
    writer_.tensor(name, type_of(tensor.dtype), dimensions, tensor.bytes);
  }

  void plain(const std::string& from, const std::string& to) { add(stored(from), to); }

  // As fp32, each value changed by `change`.
  static StoredTensor as_f32(const StoredTensor& tensor, const std::function<float(float)>& change) {
    StoredTensor changed = {tensor.name, "F32", tensor.shape, {}};
    for (const double value : stored_values(tensor.dtype, tensor.bytes))
      changed.bytes += gguf_bytes(change(static_cast<float>(value)));
    return changed;
  }
  static float same(float value) { return value; }

  void norm(const std::string& from, const std::string& to) {
    add(as_f32(stored(from), [](float value) { return value + 1.0F; }), to);
  }

  // Items of `item` bytes from `begin` on, in heads of `per_head` items: gguf_head[r*LKH+kh] = hf_head[kh*R+r].
  std::string tiled(const std::string& bytes, std::size_t begin, std::size_t per_head,
                    std::size_t item) const {
    const std::size_t ratio = config_.n_value_heads / config_.n_key_heads;
    const std::size_t head_bytes = per_head * item;
    std::string out = bytes;
    for (std::size_t kh = 0; kh < config_.n_key_heads; ++kh)
      for (std::size_t r = 0; r < ratio; ++r)
        out.replace(begin * item + (r * config_.n_key_heads + kh) * head_bytes, head_bytes, bytes,
                    begin * item + (kh * ratio + r) * head_bytes, head_bytes);
    return out;
  }

  static std::size_t row_bytes(const StoredTensor& tensor) {
    return tensor.bytes.size() / tensor.shape.front();
  }

  StoredTensor tiled_rows(StoredTensor tensor, std::size_t begin, std::size_t per_head) const {
    tensor.bytes = tiled(tensor.bytes, begin, per_head, row_bytes(tensor));
    return tensor;
  }

  StoredTensor tiled_columns(const StoredTensor& tensor) const {
    StoredTensor out = tensor;
    out.bytes.clear();
    const std::size_t row = row_bytes(tensor);
    for (std::size_t at = 0; at < tensor.bytes.size(); at += row)
      out.bytes +=
          tiled(tensor.bytes.substr(at, row), 0, config_.value_head_dim, stored_format(tensor.dtype).bytes);
    return out;
  }

  void delta_net(const std::string& at, const std::string& to) {
    const std::size_t v_begin = 2 * config_.n_key_heads * config_.key_head_dim;
    const std::size_t head_dim = config_.value_head_dim;
    add(tiled_rows(stored(at + "in_proj_qkv.weight"), v_begin, head_dim), to + "attn_qkv.weight");
    add(tiled_rows(stored(at + "in_proj_z.weight"), 0, head_dim), to + "attn_gate.weight");
    add(tiled_rows(stored(at + "in_proj_b.weight"), 0, 1), to + "ssm_beta.weight");
    add(tiled_rows(stored(at + "in_proj_a.weight"), 0, 1), to + "ssm_alpha.weight");
    const auto minus_exp = [](float value) { return -std::exp(value); };
    add(tiled_rows(as_f32(stored(at + "A_log"), minus_exp), 0, 1), to + "ssm_a");
    add(tiled_rows(as_f32(stored(at + "dt_bias"), same), 0, 1), to + "ssm_dt.bias");
    StoredTensor conv = tiled_rows(as_f32(stored(at + "conv1d.weight"), same), v_begin, head_dim);
    conv.shape = {conv.shape[0], conv.shape[2]};
    add(conv, to + "ssm_conv1d.weight");
    add(as_f32(stored(at + "norm.weight"), same), to + "ssm_norm.weight");
    add(tiled_columns(stored(at + "out_proj.weight")), to + "ssm_out.weight");
  }

  void attention(const std::string& at, const std::string& to) {
    plain(at + "q_proj.weight", to + "attn_q.weight");
    plain(at + "k_proj.weight", to + "attn_k.weight");
    plain(at + "v_proj.weight", to + "attn_v.weight");
    plain(at + "o_proj.weight", to + "attn_output.weight");
    norm(at + "q_norm.weight", to + "attn_q_norm.weight");
    norm(at + "k_norm.weight", to + "attn_k_norm.weight");
  }

  void layer(const std::string& at, std::size_t block, bool is_attention) {
    const std::string to = "blk." + std::to_string(block) + ".";
    norm(at + "input_layernorm.weight", to + "attn_norm.weight");
    norm(at + "post_attention_layernorm.weight", to + "post_attention_norm.weight");
    if (is_attention) {
      attention(at + "self_attn.", to);
    } else {
      delta_net(at + "linear_attn.", to);
    }
    plain(at + "mlp.gate_proj.weight", to + "ffn_gate.weight");
    plain(at + "mlp.up_proj.weight", to + "ffn_up.weight");
    plain(at + "mlp.down_proj.weight", to + "ffn_down.weight");
  }

  void mtp_layer(std::size_t i) {
    const std::size_t block = config_.n_layers() + i;
    const std::string to = "blk." + std::to_string(block) + ".nextn.";
    layer("mtp.layers." + std::to_string(i) + ".", block, true);
    plain("mtp.fc.weight", to + "eh_proj.weight");
    norm("mtp.pre_fc_norm_embedding.weight", to + "enorm.weight");
    norm("mtp.pre_fc_norm_hidden.weight", to + "hnorm.weight");
    norm("mtp.norm.weight", to + "shared_head_norm.weight");
  }

  model::ModelConfig config_;
  std::string prefix_;
  std::map<std::string, StoredTensor> stored_;
  GgufWriter writer_;
};

}  // namespace sluice::test
