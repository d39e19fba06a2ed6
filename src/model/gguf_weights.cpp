// The names are llama.cpp's (gguf-py/gguf/constants.py, docs/models.md §3).
#include <algorithm>
#include <utility>

#include "base/error.h"
#include "model/gguf_model.h"
#include "model/tensor_reader.h"

namespace sluice::model {
namespace {

class GgufTensors final : public TensorSource {
 public:
  explicit GgufTensors(const Gguf& file) : file_(file) {}

  bool contains(std::string_view name) const override { return file_.contains(name); }
  const TensorView& tensor(std::string_view name) const override { return file_.tensor(name); }
  const std::filesystem::path& path_of(std::string_view name) const override { return file_.path_of(name); }
  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const auto& [name, view] : file_.tensors()) names.push_back(name);
    for (const auto& [name, type] : file_.unreadable()) names.push_back(name);
    std::sort(names.begin(), names.end());
    return names;
  }
  std::size_t total_bytes() const override {
    std::size_t total = 0;  // at most the files' sizes
    for (const auto& [name, view] : file_.tensors()) total += view.data.size();
    return total;
  }

 private:
  const Gguf& file_;
};

// V heads are tiled already, norms are multipliers, decay is -exp(A_log): everything is taken as it is.
class Reader {
 public:
  Reader(const GgufTensors& tensors, const ModelConfig& config, const LoadProgress& progress)
      // ggml drops trailing extents of one, which are leading ones here.
      : config_(config),
        reader_(tensors, "the metadata", TensorReader::Ones::kLeadingAreOptional, progress) {}

  Model read() {
    refuse_mtp_among_layers();
    const std::size_t hidden = config_.hidden_size;
    Weights& weights = model_.weights;
    weights.embedding = reader_.matrix("token_embd.weight", config_.vocab_size, hidden);
    for (std::size_t i = 0; i < config_.n_layers(); ++i)
      weights.layers.push_back(layer(block(i), config_.layers[i]));
    weights.norm = reader_.vector("output_norm.weight", {hidden});
    weights.head = config_.tie_word_embeddings ? weights.embedding
                                               : reader_.matrix("output.weight", config_.vocab_size, hidden);
    weights.mtp = mtp();
    reader_.finish(model_);
    return std::move(model_);
  }

 private:
  static std::string block(std::size_t i) { return "blk." + std::to_string(i) + "."; }
  bool contains(const std::string& name) const { return reader_.source().contains(name); }

  // Without nextn_predict_layers, block_count makes layers of them, which then lack what layers have.
  void refuse_mtp_among_layers() const {
    for (std::size_t i = 0; i < config_.n_layers(); ++i) {
      const std::string name = block(i) + "nextn.eh_proj.weight";
      if (contains(name))
        throw Error("tensor " + name + " is in a block that counts as a layer",
                    reader_.source().path_of(name).string(),
                    "expected qwen35.nextn_predict_layers to say how many of qwen35.block_count = " +
                        std::to_string(config_.n_layers() + config_.n_mtp_layers) +
                        " blocks are for multi-token prediction; it says " +
                        std::to_string(config_.n_mtp_layers));
    }
  }

  // [conv_dim, kernel]; also with the 1 in between that it has in safetensors.
  std::vector<float> conv(const std::string& name) {
    const std::size_t channels = config_.conv_dim();
    const std::size_t kernel = config_.conv_kernel;
    const bool squeezed = !contains(name) || reader_.source().tensor(name).shape.size() != 3;
    return reader_.vector(
        name, squeezed ? std::vector{channels, kernel} : std::vector{channels, std::size_t{1}, kernel});
  }

  std::vector<float> decay(const std::string& name) {
    std::vector<float> values = reader_.vector(name, {config_.n_value_heads});
    const auto growth = std::find_if(values.begin(), values.end(), [](float value) { return value > 0; });
    if (growth != values.end())
      throw Error(
          "tensor " + name + " has a value above 0 at index " + std::to_string(growth - values.begin()),
          reader_.source().path_of(name).string(), "expected -exp(A_log): a state that decays, not grows");
    return values;
  }

  DeltaNetWeights delta_net(const std::string& at) {
    const std::size_t hidden = config_.hidden_size;
    const std::size_t heads = config_.n_value_heads;
    // Ollama's files have no suffix.
    const std::string dt_bias = contains(at + "ssm_dt") ? at + "ssm_dt" : at + "ssm_dt.bias";
    DeltaNetWeights net;
    net.qkv = reader_.matrix(at + "attn_qkv.weight", config_.conv_dim(), hidden);
    net.z = reader_.matrix(at + "attn_gate.weight", config_.value_dim(), hidden);
    net.b = reader_.matrix(at + "ssm_beta.weight", heads, hidden);
    net.a = reader_.matrix(at + "ssm_alpha.weight", heads, hidden);
    net.conv = conv(at + "ssm_conv1d.weight");
    net.decay = decay(at + "ssm_a");
    net.dt_bias = reader_.vector(dt_bias, {heads});
    net.norm = reader_.vector(at + "ssm_norm.weight", {config_.value_head_dim});
    net.out = reader_.matrix(at + "ssm_out.weight", hidden, config_.value_dim());
    for (std::size_t hv = 0; hv < heads; ++hv) net.key_head.push_back(hv % config_.n_key_heads);
    return net;
  }

  AttentionWeights attention(const std::string& at) {
    const std::size_t hidden = config_.hidden_size;
    AttentionWeights attention;
    // llama.cpp's converter stacks the three if it is told to (--fuse-qkv).
    const std::string fused = at + "attn_qkv.weight";
    if (contains(fused) && !contains(at + "attn_q.weight")) {
      std::vector<Matrix> parts =
          reader_.stacked(fused, {2 * config_.query_dim(), config_.kv_dim(), config_.kv_dim()}, hidden);
      attention.q_gate = std::move(parts[0]);
      attention.k = std::move(parts[1]);
      attention.v = std::move(parts[2]);
    } else {
      attention.q_gate = reader_.matrix(at + "attn_q.weight", 2 * config_.query_dim(), hidden);
      attention.k = reader_.matrix(at + "attn_k.weight", config_.kv_dim(), hidden);
      attention.v = reader_.matrix(at + "attn_v.weight", config_.kv_dim(), hidden);
    }
    // Either form may come with the other's biases.
    for (const char* module : {"attn_q", "attn_k", "attn_v", "attn_qkv"}) reader_.know(at + module);
    attention.out = reader_.matrix(at + "attn_output.weight", hidden, config_.query_dim());
    attention.q_norm = reader_.vector(at + "attn_q_norm.weight", {config_.head_dim});
    attention.k_norm = reader_.vector(at + "attn_k_norm.weight", {config_.head_dim});
    return attention;
  }

  LayerWeights layer(const std::string& at, LayerKind kind) {
    const std::size_t hidden = config_.hidden_size;
    const std::size_t intermediate = config_.intermediate_size;
    LayerWeights layer;
    layer.mix_norm = reader_.vector(at + "attn_norm.weight", {hidden});
    if (kind == LayerKind::kDeltaNet) {
      layer.mixer = delta_net(at);
    } else {
      layer.mixer = attention(at);
    }
    layer.mlp_norm = reader_.vector(at + "post_attention_norm.weight", {hidden});
    layer.mlp.gate = reader_.matrix(at + "ffn_gate.weight", intermediate, hidden);
    layer.mlp.up = reader_.matrix(at + "ffn_up.weight", intermediate, hidden);
    layer.mlp.down = reader_.matrix(at + "ffn_down.weight", hidden, intermediate);
    return layer;
  }

  // What all MTP layers share stands in each of their blocks; the first one's is read.
  std::optional<MtpWeights> mtp() {
    const std::string at = block(config_.n_layers());
    const auto in_block = [&](const std::string& name) { return name.starts_with(at); };
    const std::vector<std::string> names = reader_.source().names();
    if (config_.n_mtp_layers == 0 || std::none_of(names.begin(), names.end(), in_block)) return std::nullopt;
    reader_.begin_mtp();
    const std::size_t hidden = config_.hidden_size;
    MtpWeights mtp;
    mtp.fc = reader_.matrix(at + "nextn.eh_proj.weight", hidden, 2 * hidden);
    mtp.embedding_norm = reader_.vector(at + "nextn.enorm.weight", {hidden});
    mtp.hidden_norm = reader_.vector(at + "nextn.hnorm.weight", {hidden});
    const std::string norm = at + "nextn.shared_head_norm.weight";
    mtp.norm = contains(norm) ? reader_.vector(norm, {hidden}) : model_.weights.norm;  // as in llama.cpp
    for (std::size_t i = 0; i < config_.n_mtp_layers; ++i)
      mtp.layers.push_back(layer(block(config_.n_layers() + i), LayerKind::kAttention));
    return mtp;
  }

  const ModelConfig& config_;
  TensorReader reader_;
  Model model_;
};

}  // namespace

Model read_gguf_weights(const Gguf& file, const ModelConfig& config, const LoadProgress& progress) {
  const GgufTensors tensors(file);
  return Reader(tensors, config, progress).read();
}

}  // namespace sluice::model
