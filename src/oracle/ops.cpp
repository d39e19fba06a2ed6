// Maths (docs/models.md §2):
//
//   rms_norm     y = x / sqrt(mean(x²) + eps) · w
//   l2_normalize y = x / sqrt(Σ x² + 1e-6)
//   rope         (x_j, x_j+r/2) ← (x_j cos a − x_j+r/2 sin a,  x_j+r/2 cos a + x_j sin a),  a = pos · θ^(−2j/r)
//   attend       o = Σ_t p_t v_t,  p = softmax_t(q·k_t / sqrt(D))
//   conv_step    y_t = Σ_j w_j x_(t−K+1+j)
//   delta rule   S ← e^g S;  δ = β (v − Sᵀk);  S ← S + k δᵀ;  o = Sᵀq
//   gated_norm   y = rms_norm(o) · silu(z)
#include "oracle/ops.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace sluice::oracle {
namespace {

template <typename T, typename U>
T dot(std::span<const T> a, std::span<const U> b) {
  T sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * static_cast<T>(b[i]);
  return sum;
}

}  // namespace

template <typename T>
T sigmoid(T x) {
  return 1 / (1 + std::exp(-x));
}

template <typename T>
T silu(T x) {
  return x * sigmoid(x);
}

template <typename T>
T softplus(T x) {
  return std::max(x, T{0}) + std::log1p(std::exp(-std::abs(x)));
}

template <typename T>
std::vector<T> multiply(const model::Matrix& weight, std::span<const T> x) {
  SLUICE_CHECK(x.size() == weight.cols);
  std::vector<float> row(weight.cols);
  std::vector<T> y(weight.rows);
  for (std::size_t r = 0; r < weight.rows; ++r) {
    weight.read_row(r, row);
    y[r] = dot(x, std::span<const float>(row));
  }
  return y;
}

template <typename T>
std::vector<T> rms_norm(std::span<const T> x, std::span<const float> weight, T eps) {
  SLUICE_CHECK(x.size() == weight.size());
  const T mean_square = dot(x, x) / static_cast<T>(x.size());
  const T scale = 1 / std::sqrt(mean_square + eps);
  std::vector<T> y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] * scale * static_cast<T>(weight[i]);
  return y;
}

template <typename T>
void l2_normalize(std::span<T> x) {
  const std::span<const T> values = x;
  const T scale = 1 / std::sqrt(dot(values, values) + static_cast<T>(1e-6));
  for (T& value : x) value *= scale;
}

template <typename T>
void rotary_embedding(std::span<T> head, std::size_t rotary_dim, double theta, std::size_t position) {
  SLUICE_CHECK(rotary_dim <= head.size() && rotary_dim % 2 == 0);
  const std::size_t half = rotary_dim / 2;
  for (std::size_t j = 0; j < half; ++j) {
    const float exponent = static_cast<float>(2 * j) / static_cast<float>(rotary_dim);
    const float inv_freq = 1.0F / static_cast<float>(std::pow(theta, static_cast<double>(exponent)));
    const float angle = static_cast<float>(position) * inv_freq;
    const T cosine = std::cos(static_cast<T>(angle));
    const T sine = std::sin(static_cast<T>(angle));
    const T first = head[j];
    const T second = head[j + half];
    head[j] = first * cosine - second * sine;
    head[j + half] = second * cosine + first * sine;
  }
}

template <typename T>
std::vector<T> attend(std::span<const T> query, std::span<const T> keys, std::span<const T> values,
                      std::size_t n_kv_heads, std::size_t kv_head) {
  const std::size_t head_dim = query.size();
  const std::size_t stride = n_kv_heads * head_dim;
  const std::size_t length = keys.size() / stride;
  SLUICE_CHECK(length > 0 && keys.size() == length * stride && values.size() == keys.size());

  const T scale = 1 / std::sqrt(static_cast<T>(head_dim));
  std::vector<T> weight(length);
  for (std::size_t t = 0; t < length; ++t) {
    weight[t] = scale * dot(query, keys.subspan(t * stride + kv_head * head_dim, head_dim));
  }
  const T largest = *std::max_element(weight.begin(), weight.end());
  T sum = 0;
  for (T& w : weight) {
    w = std::exp(w - largest);
    sum += w;
  }
  std::vector<T> out(head_dim, T{0});
  for (std::size_t t = 0; t < length; ++t) {
    const std::span<const T> value = values.subspan(t * stride + kv_head * head_dim, head_dim);
    for (std::size_t i = 0; i < head_dim; ++i) out[i] += weight[t] / sum * value[i];
  }
  return out;
}

template <typename T>
T conv_step(std::span<T> state, std::span<const float> taps, T input) {
  SLUICE_CHECK(taps.size() == state.size() + 1);
  T sum = 0;
  for (std::size_t j = 0; j < state.size(); ++j) sum += static_cast<T>(taps[j]) * state[j];
  sum += static_cast<T>(taps.back()) * input;
  if (!state.empty()) {
    std::copy(state.begin() + 1, state.end(), state.begin());
    state.back() = input;
  }
  return sum;
}

template <typename T>
std::vector<T> delta_rule_step(std::span<T> state, std::span<const T> query, std::span<const T> key,
                               std::span<const T> value, T g, T beta) {
  SLUICE_CHECK(key.size() == query.size() && state.size() == value.size() * key.size());
  const T decay = std::exp(g);
  std::vector<T> out(value.size());
  for (std::size_t i = 0; i < value.size(); ++i) {
    const std::span<T> row = state.subspan(i * key.size(), key.size());  // S[:, i]
    for (T& s : row) s *= decay;
    const T delta = beta * (value[i] - dot(key, std::span<const T>(row)));
    for (std::size_t j = 0; j < key.size(); ++j) row[j] += key[j] * delta;
    out[i] = dot(query, std::span<const T>(row));
  }
  return out;
}

template <typename T>
std::vector<T> gated_norm(std::span<const T> x, std::span<const T> gate, std::span<const float> weight,
                          T eps) {
  std::vector<T> y = rms_norm(x, weight, eps);
  for (std::size_t i = 0; i < y.size(); ++i) y[i] *= silu(gate[i]);
  return y;
}

#define SLUICE_INSTANTIATE(T)                                                                             \
  template T sigmoid(T);                                                                                  \
  template T silu(T);                                                                                     \
  template T softplus(T);                                                                                 \
  template std::vector<T> multiply(const model::Matrix&, std::span<const T>);                             \
  template std::vector<T> rms_norm(std::span<const T>, std::span<const float>, T);                        \
  template void l2_normalize(std::span<T>);                                                               \
  template void rotary_embedding(std::span<T>, std::size_t, double, std::size_t);                         \
  template std::vector<T> attend(std::span<const T>, std::span<const T>, std::span<const T>, std::size_t, \
                                 std::size_t);                                                            \
  template T conv_step(std::span<T>, std::span<const float>, T);                                          \
  template std::vector<T> delta_rule_step(std::span<T>, std::span<const T>, std::span<const T>,           \
                                          std::span<const T>, T, T);                                      \
  template std::vector<T> gated_norm(std::span<const T>, std::span<const T>, std::span<const float>, T)

SLUICE_INSTANTIATE(float);
SLUICE_INSTANTIATE(double);
#undef SLUICE_INSTANTIATE

}  // namespace sluice::oracle
