// One token through the model (docs/models.md §2):
//
//   x = embedding[token]
//   for each layer:
//     x += mixer(rms_norm(x))                          mixer: Gated DeltaNet or full attention
//     h  = rms_norm(x);  x += down(silu(gate(h)) · up(h))
//   hidden = rms_norm(x);  logits = head · hidden
//
// Gated DeltaNet, h normed:
//   qkv, z, b, a = projections of h;  qkv = silu(conv(qkv));  q, k, v = split(qkv)
//   per V head:  q, k = l2(q), l2(k) of its K head;  q /= sqrt(key_head_dim)
//                β = σ(b);  g = −exp(A_log) softplus(a + dt_bias)
//                o = gated_norm(delta_rule(S, q, k, v, g, β), z)
//   out · concat(o)
//
// Attention, h normed:
//   [q | gate] per head, k, v = projections of h;  q, k = rope(rms_norm(q)), rope(rms_norm(k));  k, v join the cache
//   per head:  o = attend(q, K, V) · σ(gate)
//   out · concat(o)
#include "oracle/oracle.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "oracle/ops.h"

namespace sluice::oracle {
namespace {

using model::ModelConfig;

template <typename T>
std::span<const T> head_of(const std::vector<T>& x, std::size_t head, std::size_t size) {
  return std::span<const T>(x).subspan(head * size, size);
}

template <typename T>
std::vector<T> read_row(const model::Matrix& weight, std::size_t row) {
  std::vector<float> values(weight.cols);
  weight.read_row(row, values);
  return std::vector<T>(values.begin(), values.end());
}

// silu(conv(qkv)): [conv_dim].
template <typename T>
std::vector<T> convolve(const ModelConfig& config, const std::vector<float>& taps, std::vector<T>& conv_state,
                        std::span<const T> qkv) {
  const std::size_t kernel = config.conv_kernel;
  std::vector<T> mixed(qkv.size());
  for (std::size_t c = 0; c < qkv.size(); ++c) {
    const std::span<T> state = std::span<T>(conv_state).subspan(c * (kernel - 1), kernel - 1);
    mixed[c] = silu(conv_step(state, std::span<const float>(taps).subspan(c * kernel, kernel), qkv[c]));
  }
  return mixed;
}

template <typename T>
std::vector<T> mix(const ModelConfig& config, const model::DeltaNetWeights& weights, LayerState<T>& state,
                   std::size_t /*position*/, std::span<const T> h) {
  const std::size_t key_size = config.key_head_dim;
  const std::size_t value_size = config.value_head_dim;
  const std::vector<T> z = multiply(weights.z, h);
  const std::vector<T> b = multiply(weights.b, h);
  const std::vector<T> a = multiply(weights.a, h);
  std::vector<T> qkv = multiply(weights.qkv, h);
  qkv = convolve<T>(config, weights.conv, state.conv_state, qkv);

  const std::span<T> q = std::span<T>(qkv).first(config.key_dim());
  const std::span<T> k = std::span<T>(qkv).subspan(config.key_dim(), config.key_dim());
  const std::span<const T> v = std::span<const T>(qkv).last(config.value_dim());
  for (std::size_t head = 0; head < config.n_key_heads; ++head) {
    l2_normalize(q.subspan(head * key_size, key_size));
    l2_normalize(k.subspan(head * key_size, key_size));
  }
  const T scale = 1 / std::sqrt(static_cast<T>(key_size));
  for (T& value : q) value *= scale;

  std::vector<T> mixed;
  mixed.reserve(config.value_dim());
  for (std::size_t head = 0; head < config.n_value_heads; ++head) {
    const std::size_t key_at = weights.key_head[head] * key_size;
    const T beta = sigmoid(b[head]);
    const T g =
        static_cast<T>(weights.decay[head]) * softplus(a[head] + static_cast<T>(weights.dt_bias[head]));
    const std::size_t state_size = value_size * key_size;
    const std::vector<T> o = delta_rule_step<T>(
        std::span<T>(state.delta_state).subspan(head * state_size, state_size), q.subspan(key_at, key_size),
        k.subspan(key_at, key_size), v.subspan(head * value_size, value_size), g, beta);
    const std::vector<T> gated =
        gated_norm<T>(o, head_of(z, head, value_size), weights.norm, static_cast<T>(config.rms_norm_eps));
    mixed.insert(mixed.end(), gated.begin(), gated.end());
  }
  return multiply<T>(weights.out, mixed);
}

template <typename T>
std::vector<T> mix(const ModelConfig& config, const model::AttentionWeights& weights, LayerState<T>& state,
                   std::size_t position, std::span<const T> h) {
  const std::size_t size = config.head_dim;
  const auto eps = static_cast<T>(config.rms_norm_eps);
  const std::vector<T> q_gate = multiply(weights.q_gate, h);
  const std::vector<T> k = multiply(weights.k, h);
  const std::vector<T> v = multiply(weights.v, h);

  for (std::size_t head = 0; head < config.n_kv_heads; ++head) {
    std::vector<T> key = rms_norm<T>(head_of(k, head, size), weights.k_norm, eps);
    rotary_embedding<T>(key, config.rotary_dim, config.rope_theta, position);
    state.keys.insert(state.keys.end(), key.begin(), key.end());
  }
  state.values.insert(state.values.end(), v.begin(), v.end());

  std::vector<T> mixed;
  mixed.reserve(config.query_dim());
  for (std::size_t head = 0; head < config.n_heads; ++head) {
    std::vector<T> query = rms_norm<T>(head_of(q_gate, 2 * head, size), weights.q_norm, eps);
    const std::span<const T> gate = head_of(q_gate, 2 * head + 1, size);
    rotary_embedding<T>(query, config.rotary_dim, config.rope_theta, position);
    const std::size_t kv_head = head / (config.n_heads / config.n_kv_heads);
    const std::vector<T> o = attend<T>(query, state.keys, state.values, config.n_kv_heads, kv_head);
    for (std::size_t i = 0; i < size; ++i) mixed.push_back(o[i] * sigmoid(gate[i]));
  }
  return multiply<T>(weights.out, mixed);
}

template <typename T>
std::vector<T> mlp(const model::MlpWeights& weights, std::span<const T> h) {
  std::vector<T> gated = multiply(weights.gate, h);
  const std::vector<T> up = multiply(weights.up, h);
  for (std::size_t i = 0; i < gated.size(); ++i) gated[i] = silu(gated[i]) * up[i];
  return multiply<T>(weights.down, gated);
}

template <typename T>
void add(std::vector<T>& x, const std::vector<T>& y) {
  for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
}

}  // namespace

template <typename T>
SequenceState<T> empty_state(const ModelConfig& config) {
  SequenceState<T> state;
  state.layers.resize(config.n_layers());
  for (std::size_t i = 0; i < config.n_layers(); ++i) {
    if (config.layers[i] != model::LayerKind::kDeltaNet) continue;
    state.layers[i].conv_state.assign(config.conv_dim() * (config.conv_kernel - 1), T{0});
    state.layers[i].delta_state.assign(config.value_dim() * config.key_head_dim, T{0});
  }
  return state;
}

template <typename T>
std::vector<T> feed(const model::Model& model, SequenceState<T>& state, std::int32_t token) {
  const ModelConfig& config = model.config;
  SLUICE_CHECK(token >= 0 && static_cast<std::size_t>(token) < config.vocab_size);
  const auto eps = static_cast<T>(config.rms_norm_eps);

  std::vector<T> x = read_row<T>(model.weights.embedding, static_cast<std::size_t>(token));
  for (std::size_t i = 0; i < config.n_layers(); ++i) {
    const model::LayerWeights& layer = model.weights.layers[i];
    const std::vector<T> h = rms_norm<T>(x, layer.mix_norm, eps);
    add(x,
        std::visit([&](const auto& mixer) { return mix<T>(config, mixer, state.layers[i], state.length, h); },
                   layer.mixer));
    add(x, mlp<T>(layer.mlp, rms_norm<T>(x, layer.mlp_norm, eps)));
  }
  ++state.length;
  return rms_norm<T>(x, model.weights.norm, eps);
}

template <typename T>
std::vector<T> logits(const model::Model& model, std::span<const T> hidden) {
  return multiply(model.weights.head, hidden);
}

template SequenceState<float> empty_state(const ModelConfig&);
template SequenceState<double> empty_state(const ModelConfig&);
template std::vector<float> feed(const model::Model&, SequenceState<float>&, std::int32_t);
template std::vector<double> feed(const model::Model&, SequenceState<double>&, std::int32_t);
template std::vector<float> logits(const model::Model&, std::span<const float>);
template std::vector<double> logits(const model::Model&, std::span<const double>);

}  // namespace sluice::oracle
