// The oracle's step with the roundings to bf16 that devices make on purpose: of activations that meet bf16 weights (where the
// device wants them so), of keys and of values. Composed of the oracle's ops in fp64. What is left between it and
// the device are fp32's roundings, and what these tip over to the next bf16 number.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <variant>
#include <vector>

#include "base/bf16.h"
#include "model/weights.h"
#include "oracle/ops.h"
#include "oracle/oracle.h"

namespace sluice::test {

struct Roundings {
  bool activations = false;
  bool keys_and_values = false;
  bool to_fp16 = false;       // keys and values are rounded to fp16, not bf16
  bool before_scale = false;  // normed activations are rounded before 1 / rms multiplies them
};

class RoundedOracle {
 public:
  using Values = std::vector<double>;
  using View = std::span<const double>;

  RoundedOracle(const model::Model& model, Roundings roundings)
      : model_(model),
        config_(model.config),
        roundings_(roundings),
        state_(oracle::empty_state<double>(config_)) {}

  // Feeds `token`; logits after it.
  Values feed(std::int32_t token) {
    Values x = row(model_.weights.embedding, static_cast<std::size_t>(token));
    for (std::size_t i = 0; i < config_.n_layers(); ++i) through_layer(i, x);
    ++state_.length;
    return multiply(model_.weights.head, operand(x, model_.weights.norm), true);
  }

  const oracle::SequenceState<double>& state() const { return state_; }

  // Feeds `token` without logits. The last layer must attend: what it computes but keys and values, nobody will need.
  void skip(std::int32_t token) {
    Values x = row(model_.weights.embedding, static_cast<std::size_t>(token));
    const std::size_t last = config_.n_layers() - 1;
    for (std::size_t i = 0; i < last; ++i) through_layer(i, x);
    const model::LayerWeights& layer = model_.weights.layers[last];
    append(std::get<model::AttentionWeights>(layer.mixer), state_.layers[last], operand(x, layer.mix_norm));
    ++state_.length;
  }

 private:
  void through_layer(std::size_t index, Values& x) {
    const model::LayerWeights& layer = model_.weights.layers[index];
    const Values h = operand(x, layer.mix_norm);
    add(x, std::visit([&](const auto& mixer) { return mix(mixer, state_.layers[index], h); }, layer.mixer));
    add(x, mlp(layer.mlp, operand(x, layer.mlp_norm)));
  }

  static double rounded(double x) {
    return static_cast<double>(bf16_to_float(float_to_bf16(static_cast<float>(x))));
  }
  // To nearest, ties to even; below the largest fp16 number.
  static double rounded_to_fp16(double x) {
    constexpr int kLeastExponent = -14;
    constexpr int kFractionBits = 10;
    const int exponent = x == 0 ? kLeastExponent : std::max(std::ilogb(x), kLeastExponent);
    return std::ldexp(std::nearbyint(std::ldexp(x, kFractionBits - exponent)), exponent - kFractionBits);
  }
  static void add(Values& x, const Values& y) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
  }
  static Values row(const model::Matrix& weight, std::size_t index) {
    std::vector<float> values(weight.cols);
    weight.read_row(index, values);
    return {values.begin(), values.end()};
  }
  static View head_of(const Values& x, std::size_t head, std::size_t size) {
    return View(x).subspan(head * size, size);
  }

  // `is_operand`: x comes from operand().
  Values multiply(const model::Matrix& weight, const Values& x, bool is_operand = false) const {
    if (!roundings_.activations || weight.dtype != model::DType::kBF16 ||
        (is_operand && roundings_.before_scale))
      return oracle::multiply<double>(weight, x);
    Values rounded_x(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) rounded_x[i] = rounded(x[i]);
    return oracle::multiply<double>(weight, rounded_x);
  }
  // The layer's normed input, rounded here if that happens before 1 / rms.
  Values operand(const Values& x, std::span<const float> weight) const {
    if (!roundings_.before_scale) return norm(x, weight);
    double squares = 0;
    for (const double value : x) squares += value * value;
    const double scale = 1 / std::sqrt(squares / static_cast<double>(x.size()) + config_.rms_norm_eps);
    Values y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) y[i] = rounded(x[i] * static_cast<double>(weight[i])) * scale;
    return y;
  }
  Values norm(View x, std::span<const float> weight) const {
    return oracle::rms_norm<double>(x, weight, config_.rms_norm_eps);
  }
  void cache(Values& to, View values) const {
    for (const double x : values) {
      if (roundings_.keys_and_values)
        to.push_back(roundings_.to_fp16 ? rounded_to_fp16(x) : rounded(x));
      else
        to.push_back(x);
    }
  }

  Values mix(const model::DeltaNetWeights& weights, oracle::LayerState<double>& state,
             const Values& h) const {
    const std::size_t key_size = config_.key_head_dim;
    const std::size_t value_size = config_.value_head_dim;
    const std::size_t kernel = config_.conv_kernel;
    const Values z = multiply(weights.z, h, true);
    const Values b = multiply(weights.b, h, true);
    const Values a = multiply(weights.a, h, true);
    Values qkv = multiply(weights.qkv, h, true);
    for (std::size_t c = 0; c < qkv.size(); ++c)
      qkv[c] = oracle::silu(oracle::conv_step<double>(
          std::span(state.conv_state).subspan(c * (kernel - 1), kernel - 1),
          std::span<const float>(weights.conv).subspan(c * kernel, kernel), qkv[c]));
    const std::span<double> keys = std::span(qkv).subspan(config_.key_dim(), config_.key_dim());
    for (std::size_t head = 0; head < config_.n_key_heads; ++head) {
      const std::span<double> query = std::span(qkv).subspan(head * key_size, key_size);
      oracle::l2_normalize<double>(query);
      oracle::l2_normalize<double>(keys.subspan(head * key_size, key_size));
      for (double& q : query) q /= std::sqrt(static_cast<double>(key_size));
    }
    Values mixed;
    for (std::size_t head = 0; head < config_.n_value_heads; ++head) {
      const std::size_t key_at = weights.key_head[head] * key_size;
      const double g = static_cast<double>(weights.decay[head]) *
                       oracle::softplus(a[head] + static_cast<double>(weights.dt_bias[head]));
      const Values o = oracle::delta_rule_step<double>(
          std::span(state.delta_state).subspan(head * value_size * key_size, value_size * key_size),
          View(qkv).subspan(key_at, key_size), keys.subspan(key_at, key_size),
          View(qkv).subspan(2 * config_.key_dim() + head * value_size, value_size), g,
          oracle::sigmoid(b[head]));
      const Values gated =
          oracle::gated_norm<double>(o, head_of(z, head, value_size), weights.norm, config_.rms_norm_eps);
      mixed.insert(mixed.end(), gated.begin(), gated.end());
    }
    return multiply(weights.out, mixed);
  }

  void append(const model::AttentionWeights& weights, oracle::LayerState<double>& state,
              const Values& h) const {
    const std::size_t size = config_.head_dim;
    const Values k = multiply(weights.k, h, true);
    for (std::size_t head = 0; head < config_.n_kv_heads; ++head) {
      Values key = norm(head_of(k, head, size), weights.k_norm);
      oracle::rotary_embedding<double>(key, config_.rotary_dim, config_.rope_theta, state_.length);
      cache(state.keys, key);
    }
    cache(state.values, multiply(weights.v, h, true));
  }

  Values mix(const model::AttentionWeights& weights, oracle::LayerState<double>& state,
             const Values& h) const {
    append(weights, state, h);
    const std::size_t size = config_.head_dim;
    const Values q_gate = multiply(weights.q_gate, h, true);
    Values mixed;
    for (std::size_t head = 0; head < config_.n_heads; ++head) {
      Values query = norm(head_of(q_gate, 2 * head, size), weights.q_norm);
      oracle::rotary_embedding<double>(query, config_.rotary_dim, config_.rope_theta, state_.length);
      const Values o = oracle::attend<double>(query, state.keys, state.values, config_.n_kv_heads,
                                              head / (config_.n_heads / config_.n_kv_heads));
      for (std::size_t i = 0; i < size; ++i)
        mixed.push_back(o[i] * oracle::sigmoid(head_of(q_gate, 2 * head + 1, size)[i]));
    }
    return multiply(weights.out, mixed);
  }

  Values mlp(const model::MlpWeights& weights, const Values& h) const {
    Values gated = multiply(weights.gate, h, true);
    const Values up = multiply(weights.up, h, true);
    for (std::size_t i = 0; i < gated.size(); ++i) gated[i] = oracle::silu(gated[i]) * up[i];
    return multiply(weights.down, gated);
  }

  const model::Model& model_;
  const model::ModelConfig& config_;
  Roundings roundings_;
  oracle::SequenceState<double> state_;
};

}  // namespace sluice::test
