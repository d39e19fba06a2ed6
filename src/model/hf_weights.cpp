#include "model/hf_weights.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "model/tensor_reader.h"

namespace sluice::model {
namespace {

// Canonical (tiled) V head hv = r * LKH + kh is stored (grouped) head kh * R + r, R = LVH / LKH: the V-head
// reorder of docs/models.md §3.
HeadOrder v_head_order(const ModelConfig& config, std::size_t begin, std::size_t head_size) {
  const std::size_t ratio = config.n_value_heads / config.n_key_heads;
  HeadOrder order{.begin = begin, .head_size = head_size, .stored = {}};
  if (ratio == 1) return order;
  order.stored.resize(config.n_value_heads);
  for (std::size_t hv = 0; hv < config.n_value_heads; ++hv)
    order.stored[hv] = hv % config.n_key_heads * ratio + hv / config.n_key_heads;
  return order;
}

class Reader {
 public:
  Reader(const CheckpointFiles& files, const ModelConfig& config, const LoadProgress& progress)
      : files_(files), config_(config), reader_(files, "config.json", TensorReader::Ones::kCount, progress) {}

  Model read() {
    const std::string prefix = language_prefix();
    const std::size_t hidden = config_.hidden_size;
    Weights& weights = model_.weights;
    weights.embedding = matrix(prefix + "embed_tokens.weight", config_.vocab_size, hidden);
    for (std::size_t i = 0; i < config_.n_layers(); ++i)
      weights.layers.push_back(layer(prefix + "layers." + std::to_string(i) + ".", config_.layers[i]));
    weights.norm = norm(prefix + "norm.weight", hidden);
    weights.head = head(prefix, weights.embedding);
    weights.mtp = mtp();
    reader_.finish(model_);
    return std::move(model_);
  }

 private:
  std::string language_prefix() const {
    const std::string nested = "model.language_model.";
    return files_.contains(nested + "embed_tokens.weight") ? nested : "model.";
  }

  Matrix matrix(const std::string& name, std::size_t rows, std::size_t cols) {
    return reader_.matrix(name, rows, cols);
  }

  Matrix with_rows(Matrix matrix, std::size_t begin, std::size_t head_size) const {
    matrix.row_order = v_head_order(config_, begin, head_size);
    return matrix;
  }

  // A norm that is stored as its distance from one (docs/models.md §2, type A).
  std::vector<float> norm(const std::string& name, std::size_t n) {
    std::vector<float> values = reader_.vector(name, {n});
    for (float& value : values) value = 1.0F + value;
    return values;
  }

  // [n_value_heads, width] values in canonical head order, heads from `begin` on.
  static std::vector<float> reordered(const std::vector<float>& stored, const HeadOrder& order,
                                      std::size_t width) {
    std::vector<float> values(stored.size());
    for (std::size_t i = 0; i < stored.size() / width; ++i)
      for (std::size_t j = 0; j < width; ++j)
        values[i * width + j] = stored[order.stored_index(i) * width + j];
    return values;
  }

  std::vector<float> decay(const std::string& name) {
    std::vector<float> values = reader_.vector(name, {config_.n_value_heads});
    for (float& value : values) value = static_cast<float>(-std::exp(static_cast<double>(value)));
    reader_.check_finite(name, values);
    return reordered(values, v_head_order(config_, 0, 1), 1);
  }

  DeltaNetWeights delta_net(const std::string& prefix) {
    const std::size_t hidden = config_.hidden_size;
    const std::size_t heads = config_.n_value_heads;
    const std::size_t head_dim = config_.value_head_dim;
    const std::size_t v_begin = 2 * config_.key_dim();
    DeltaNetWeights net;
    net.qkv = with_rows(matrix(prefix + "in_proj_qkv.weight", config_.conv_dim(), hidden), v_begin, head_dim);
    net.z = with_rows(matrix(prefix + "in_proj_z.weight", config_.value_dim(), hidden), 0, head_dim);
    net.b = with_rows(matrix(prefix + "in_proj_b.weight", heads, hidden), 0, 1);
    net.a = with_rows(matrix(prefix + "in_proj_a.weight", heads, hidden), 0, 1);
    net.conv =
        reordered(reader_.vector(prefix + "conv1d.weight", {config_.conv_dim(), 1, config_.conv_kernel}),
                  v_head_order(config_, v_begin, head_dim), config_.conv_kernel);
    net.decay = decay(prefix + "A_log");
    net.dt_bias = reordered(reader_.vector(prefix + "dt_bias", {heads}), v_head_order(config_, 0, 1), 1);
    net.norm = reader_.vector(prefix + "norm.weight", {head_dim});
    net.out = matrix(prefix + "out_proj.weight", hidden, config_.value_dim());
    net.out.col_order = v_head_order(config_, 0, head_dim);
    for (std::size_t hv = 0; hv < heads; ++hv) net.key_head.push_back(hv % config_.n_key_heads);
    return net;
  }

  AttentionWeights attention(const std::string& prefix) {
    const std::size_t hidden = config_.hidden_size;
    AttentionWeights attention;
    attention.q_gate = matrix(prefix + "q_proj.weight", 2 * config_.query_dim(), hidden);
    attention.k = matrix(prefix + "k_proj.weight", config_.kv_dim(), hidden);
    attention.v = matrix(prefix + "v_proj.weight", config_.kv_dim(), hidden);
    attention.out = matrix(prefix + "o_proj.weight", hidden, config_.query_dim());
    attention.q_norm = norm(prefix + "q_norm.weight", config_.head_dim);
    attention.k_norm = norm(prefix + "k_norm.weight", config_.head_dim);
    return attention;
  }

  LayerWeights layer(const std::string& prefix, LayerKind kind) {
    const std::size_t hidden = config_.hidden_size;
    const std::size_t intermediate = config_.intermediate_size;
    LayerWeights layer;
    layer.mix_norm = norm(prefix + "input_layernorm.weight", hidden);
    if (kind == LayerKind::kDeltaNet) {
      layer.mixer = delta_net(prefix + "linear_attn.");
    } else {
      layer.mixer = attention(prefix + "self_attn.");
    }
    layer.mlp_norm = norm(prefix + "post_attention_layernorm.weight", hidden);
    layer.mlp.gate = matrix(prefix + "mlp.gate_proj.weight", intermediate, hidden);
    layer.mlp.up = matrix(prefix + "mlp.up_proj.weight", intermediate, hidden);
    layer.mlp.down = matrix(prefix + "mlp.down_proj.weight", hidden, intermediate);
    return layer;
  }

  // A tied head is the embedding, unless the file holds another one all the same: then the config is wrong about
  // its checkpoint, and the head in the file counts, as in transformers (PreTrainedModel.tie_weights).
  Matrix head(const std::string& prefix, const Matrix& embedding) {
    const std::string nested = prefix + "lm_head.weight";
    const std::string name = files_.contains(nested) ? nested : "lm_head.weight";
    if (config_.tie_word_embeddings && (!files_.contains(name) || holds(name, embedding))) return embedding;
    return matrix(name, config_.vocab_size, config_.hidden_size);
  }

  bool holds(const std::string& name, const Matrix& matrix) const {
    const TensorView& view = files_.tensor(name);
    return view.dtype == matrix.dtype && std::ranges::equal(view.data, matrix.data);
  }

  std::optional<MtpWeights> mtp() {
    const auto is_mtp = [](const std::string& name) { return name.starts_with("mtp."); };
    const std::vector<std::string> names = files_.names();
    if (config_.n_mtp_layers == 0 || std::none_of(names.begin(), names.end(), is_mtp)) return std::nullopt;
    reader_.begin_mtp();
    const std::size_t hidden = config_.hidden_size;
    MtpWeights mtp;
    mtp.fc = matrix("mtp.fc.weight", hidden, 2 * hidden);
    mtp.embedding_norm = norm("mtp.pre_fc_norm_embedding.weight", hidden);
    mtp.hidden_norm = norm("mtp.pre_fc_norm_hidden.weight", hidden);
    mtp.norm = norm("mtp.norm.weight", hidden);
    for (std::size_t i = 0; i < config_.n_mtp_layers; ++i)
      mtp.layers.push_back(layer("mtp.layers." + std::to_string(i) + ".", LayerKind::kAttention));
    return mtp;
  }

  const CheckpointFiles& files_;
  const ModelConfig& config_;
  TensorReader reader_;
  Model model_;
};

}  // namespace

Model read_hf_weights(const CheckpointFiles& files, const ModelConfig& config, const LoadProgress& progress) {
  return Reader(files, config, progress).read();
}

}  // namespace sluice::model
