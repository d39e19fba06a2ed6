#include "model/random_model.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <system_error>
#include <thread>
#include <utility>

#include "base/bf16.h"
#include "base/error.h"

namespace sluice::model {
namespace {

// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators; OOPSLA 2014), of a counter: any part can
// be made without the parts before it.
std::uint64_t mix(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15U;
  x = (x ^ (x >> 30U)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27U)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31U);
}

struct Shape {
  std::string_view name;
  std::size_t hidden, layers, intermediate, heads, kv_heads, key_heads, value_heads;
};

constexpr std::array<Shape, 3> kShapes = {{
    {"qwen3.5-0.8b", 1024, 24, 3584, 8, 2, 16, 16},
    {"qwen3.5-2b", 2048, 24, 6144, 8, 2, 16, 16},
    {"qwen3.5-4b", 2560, 32, 9216, 16, 4, 16, 32},
}};

constexpr auto kShapeNames = [] {
  std::array<std::string_view, kShapes.size()> names{};
  for (std::size_t i = 0; i < names.size(); ++i) names[i] = kShapes[i].name;
  return names;
}();

constexpr std::size_t kPieceBytes = std::size_t{1} << 20U;  // that a thread fills at a time

// Elements [first, first + n) of a matrix; first and n are multiples of four, but for the matrix's last n. A word gives four
// numbers of 16 bits.
void fill_uniform(std::uint64_t seed, float limit, std::size_t first, std::span<std::uint16_t> out) {
  const float scale = limit / 32768.0F;
  for (std::size_t i = 0; i < out.size(); i += 4) {
    std::uint64_t word = mix(seed + (first + i) / 4);
    const std::size_t n = std::min<std::size_t>(4, out.size() - i);
    for (std::size_t j = 0; j < n; ++j, word >>= 16U) {
      const auto number = static_cast<float>(static_cast<std::int16_t>(word & 0xFFFFU));
      // Cut, not rounded: nobody minds, and it is faster.
      out[i + j] = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(number * scale) >> 16U);
    }
  }
}

}  // namespace

std::span<const std::string_view> known_shapes() {
  return kShapeNames;
}

std::optional<ModelConfig> known_shape(std::string_view name) {
  const auto* const shape =
      std::find_if(kShapes.begin(), kShapes.end(), [name](const Shape& it) { return it.name == name; });
  if (shape == kShapes.end()) return std::nullopt;
  ModelConfig config;
  config.model_type = "qwen3_5_text";
  config.dtype = "bfloat16";
  config.vocab_size = 248320;
  config.hidden_size = shape->hidden;
  config.intermediate_size = shape->intermediate;
  constexpr std::size_t kAttentionEvery = 4;
  for (std::size_t i = 0; i < shape->layers; ++i)
    config.layers.push_back((i + 1) % kAttentionEvery == 0 ? LayerKind::kAttention : LayerKind::kDeltaNet);
  config.n_heads = shape->heads;
  config.n_kv_heads = shape->kv_heads;
  config.head_dim = 256;
  config.rotary_dim = 64;
  config.rope_theta = 1e7;
  config.n_key_heads = shape->key_heads;
  config.n_value_heads = shape->value_heads;
  config.key_head_dim = 128;
  config.value_head_dim = 128;
  config.conv_kernel = 4;
  config.rms_norm_eps = 1e-6;
  config.tie_word_embeddings = true;
  config.max_positions = 262144;
  config.eos_token_ids = {248044};
  return config;
}

RandomModel::RandomModel(const ModelConfig& config, std::uint64_t seed)
    : seed_(seed), storage_(std::make_shared<Blocks>()) {
  model_.config = config;
  model_.storage = storage_;
  Weights& weights = model_.weights;
  weights.embedding = matrix("model.embed_tokens.weight", config.vocab_size, config.hidden_size);
  for (std::size_t i = 0; i < config.n_layers(); ++i)
    weights.layers.push_back(layer("model.layers." + std::to_string(i) + ".", config.layers[i]));
  weights.norm = norm("model.norm.weight", config.hidden_size);
  weights.head = config.tie_word_embeddings ? weights.embedding
                                            : matrix("lm_head.weight", config.vocab_size, config.hidden_size);
  std::ranges::sort(model_.tensors, {}, &TensorView::name);
}

std::span<std::byte> RandomModel::add(const std::string& name, DType dtype, std::vector<std::size_t> shape) {
  ModelTensor tensor;
  static_cast<TensorView&>(tensor) =
      TensorView{.name = name, .dtype = dtype, .shape = std::move(shape), .data = {}};
  const std::size_t n = bytes_of(dtype, tensor.size());
  storage_->blocks.emplace_back(n);
  const std::span<std::byte> data(storage_->blocks.back().data(), n);
  tensor.data = data;
  bytes_ += n;
  model_.tensors.push_back(std::move(tensor));
  return data;
}

Matrix RandomModel::matrix(const std::string& name, std::size_t rows, std::size_t cols) {
  const std::span<std::byte> data = add(name, DType::kBF16, {rows, cols});
  const float limit = 1.5F / std::sqrt(static_cast<float>(cols));
  pending_.push_back({.data = data, .limit = limit, .seed = mix(seed_ + model_.tensors.size())});
  return {.name = name,
          .dtype = DType::kBF16,
          .rows = rows,
          .cols = cols,
          .data = data,
          .row_order = {},
          .col_order = {}};
}

std::vector<float> RandomModel::vector(const std::string& name, DType dtype, std::vector<std::size_t> shape,
                                       float low, float high) {
  const std::span<std::byte> data = add(name, dtype, std::move(shape));
  const std::uint64_t seed = mix(seed_ + model_.tensors.size());
  std::vector<float> values(data.size() / bytes_of(dtype, 1));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float share = static_cast<float>(mix(seed + i) >> 40U) * 0x1p-24F;
    values[i] = low + share * (high - low);
    if (dtype == DType::kBF16) {
      const std::uint16_t rounded = float_to_bf16(values[i]);
      std::memcpy(data.data() + i * sizeof rounded, &rounded, sizeof rounded);
    }
  }
  if (dtype == DType::kF32) std::memcpy(data.data(), values.data(), data.size());
  to_float(dtype, data, 0, values);
  return values;
}

// Stored as its distance from one.
std::vector<float> RandomModel::norm(const std::string& name, std::size_t n) {
  std::vector<float> values = vector(name, DType::kBF16, {n}, -0.5F, 0.5F);
  for (float& value : values) value = 1.0F + value;
  return values;
}

DeltaNetWeights RandomModel::delta_net(const std::string& prefix) {
  const ModelConfig& config = model_.config;
  const std::size_t hidden = config.hidden_size;
  const std::size_t heads = config.n_value_heads;
  DeltaNetWeights net;
  net.qkv = matrix(prefix + "in_proj_qkv.weight", config.conv_dim(), hidden);
  net.z = matrix(prefix + "in_proj_z.weight", config.value_dim(), hidden);
  net.b = matrix(prefix + "in_proj_b.weight", heads, hidden);
  net.a = matrix(prefix + "in_proj_a.weight", heads, hidden);
  net.conv =
      vector(prefix + "conv1d.weight", DType::kBF16, {config.conv_dim(), 1, config.conv_kernel}, -0.5F, 0.5F);
  net.decay = vector(prefix + "A_log", DType::kF32, {heads}, -3.0F, 1.4F);
  for (float& value : net.decay) value = static_cast<float>(-std::exp(static_cast<double>(value)));
  net.dt_bias = vector(prefix + "dt_bias", DType::kBF16, {heads}, -3.0F, 1.0F);
  net.norm = vector(prefix + "norm.weight", DType::kF32, {config.value_head_dim}, 0.5F, 1.5F);
  net.out = matrix(prefix + "out_proj.weight", hidden, config.value_dim());
  for (std::size_t head = 0; head < heads; ++head) net.key_head.push_back(head % config.n_key_heads);
  return net;
}

AttentionWeights RandomModel::attention(const std::string& prefix) {
  const ModelConfig& config = model_.config;
  const std::size_t hidden = config.hidden_size;
  AttentionWeights attention;
  attention.q_gate = matrix(prefix + "q_proj.weight", 2 * config.query_dim(), hidden);
  attention.k = matrix(prefix + "k_proj.weight", config.kv_dim(), hidden);
  attention.v = matrix(prefix + "v_proj.weight", config.kv_dim(), hidden);
  attention.out = matrix(prefix + "o_proj.weight", hidden, config.query_dim());
  attention.q_norm = norm(prefix + "q_norm.weight", config.head_dim);
  attention.k_norm = norm(prefix + "k_norm.weight", config.head_dim);
  return attention;
}

LayerWeights RandomModel::layer(const std::string& prefix, LayerKind kind) {
  const std::size_t hidden = model_.config.hidden_size;
  const std::size_t intermediate = model_.config.intermediate_size;
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

void RandomModel::fill(std::size_t n_threads) {
  struct Piece {
    const Pending* matrix;
    std::size_t begin;  // bytes
  };
  std::vector<Piece> pieces;
  for (const Pending& matrix : pending_)
    for (std::size_t begin = 0; begin < matrix.data.size(); begin += kPieceBytes)
      pieces.push_back({&matrix, begin});
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    for (std::size_t i = next.fetch_add(1); i < pieces.size(); i = next.fetch_add(1)) {
      const auto& [matrix, begin] = pieces[i];
      const std::size_t size = std::min(kPieceBytes, matrix->data.size() - begin) / sizeof(std::uint16_t);
      auto* const out = reinterpret_cast<std::uint16_t*>(matrix->data.data() + begin);
      fill_uniform(matrix->seed, matrix->limit, begin / sizeof(std::uint16_t), {out, size});
    }
  };
  std::vector<std::jthread> threads;
  try {
    for (std::size_t i = 1; i < n_threads; ++i) threads.emplace_back(work);
  } catch (const std::system_error& error) {
    next = pieces.size();
    throw Error(std::string("can't start a thread: ") + error.what(), std::to_string(n_threads) + " threads",
                "use fewer (-t)");
  }
  work();
}

}  // namespace sluice::model
