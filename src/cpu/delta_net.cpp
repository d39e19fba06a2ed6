// The DeltaNet mixer's task.
#include <algorithm>
#include <cmath>
#include <variant>

#include "cpu/delta_chunk.h"
#include "cpu/tasks.h"

namespace sluice::cpu {

using model::LayerKind;
using program::Op;
using program::Task;

namespace {

// Rows of the projection lie far apart, so the hardware doesn't foresee the next ones' parts of a head.
void fetch(const float* at, std::size_t n) {
  constexpr std::size_t kLine = 64 / sizeof(float);
  for (std::size_t i = 0; i < n; i += kLine) __builtin_prefetch(at + i, 0, 2);
}
constexpr std::size_t kRowsAhead = 4;

float softplus(float x) {
  return x > 20.0F ? x : std::log1p(std::exp(x));
}

}  // namespace

// K head `task.part` and its V heads, over a span: all rows of a short one at once, a long one chunk by chunk.
void Tasks::delta_net(const Op& op, const Task& task) {
  const program::Span& span = step_.spans[task.rows];
  const bool is_long = span.n_rows > program::kMaxShortSpan;
  const std::size_t most = is_long ? DeltaChunk::max_rows(k_) : span.n_rows;
  for (std::size_t first = 0; first < span.n_rows; first += most) {
    const std::size_t rows = std::min(most, span.n_rows - first);
    if (first + rows < span.n_rows) fetch_heads(span.first_row + first + rows, task.part);
    delta_rows(op, task, {span.slot, span.position + first, span.first_row + first, rows}, is_long);
  }
}

// The first of the rows from `row` on, of a K head and its V heads.
void Tasks::fetch_heads(std::size_t row, std::size_t part) {
  const program::ProjectionLayout layout = program::projection_layout(config_, LayerKind::kDeltaNet);
  for (const std::size_t end = std::min(row + kRowsAhead, step_.tokens.size()); row < end; ++row) {
    const float* in = projection(row);
    fetch(in + layout.q.begin + part * config_.key_head_dim, config_.key_head_dim);
    fetch(in + layout.k.begin + part * config_.key_head_dim, config_.key_head_dim);
    for (std::size_t head = part; head < config_.n_value_heads; head += config_.n_key_heads)
      fetch(in + layout.v.begin + head * config_.value_head_dim, config_.value_head_dim);
  }
}

// Of `rows` of a span.
void Tasks::delta_rows(const Op& op, const Task& task, const program::Span& rows, bool is_chunk) {
  const auto& weights = std::get<model::DeltaNetWeights>(layer(op).mixer);
  const program::ProjectionLayout layout = program::projection_layout(config_, LayerKind::kDeltaNet);
  const std::size_t key_size = config_.key_head_dim;
  const std::size_t value_size = config_.value_head_dim;
  const std::size_t key_channel = task.part * key_size;
  const std::size_t n = rows.n_rows;
  at_least(s_.head, n * (2 * key_size + 2 * value_size + 3) + value_size);
  float* queries = s_.head.data();
  float* keys = queries + n * key_size;
  float* values = keys + n * key_size;
  float* out = values + n * value_size;
  float* decay = out + n * value_size;
  float* beta = decay + n;
  float* products = beta + n;
  float* normed = products + n;

  convolve(op, rows, layout.q.begin + key_channel, key_size, queries);
  convolve(op, rows, layout.k.begin + key_channel, key_size, keys);
  for (std::size_t i = 0; i < n; ++i) {
    l2_normalize(queries + i * key_size, key_size, 1.0F / std::sqrt(static_cast<float>(key_size)));
    l2_normalize(keys + i * key_size, key_size, 1.0F);
  }
  DeltaChunk chunk(k_, key_size, value_size, s_.delta);
  if (is_chunk) chunk.set_keys(queries, keys, n);
  for (std::size_t head = task.part; head < config_.n_value_heads; head += config_.n_key_heads) {
    convolve(op, rows, layout.v.begin + head * value_size, value_size, values);
    for (std::size_t i = 0; i < n; ++i) {
      const float* in = projection(rows.first_row + i);
      beta[i] = 1.0F / (1.0F + std::exp(-in[layout.b.begin + head]));
      decay[i] = std::exp(weights.decay[head] * softplus(in[layout.a.begin + head] + weights.dt_bias[head]));
    }
    float* state = d_.sequences->delta_state(op.layer, rows.slot, head);
    if (is_chunk) {
      chunk.run(values, decay, beta, state, out);
    } else {
      k_.delta_rule(state, queries, keys, values, decay, beta, n, key_size, value_size, products, out);
    }
    for (std::size_t i = 0; i < n; ++i) {
      const float* o = out + i * value_size;
      if (i + kRowsAhead < n)
        fetch(projection(rows.first_row + i + kRowsAhead) + layout.z.begin + head * value_size, value_size);
      k_.scale_by(o, weights.norm.data(), inverse_rms(o, value_size), value_size, normed);
      k_.silu_mul(projection(rows.first_row + i) + layout.z.begin + head * value_size, normed, value_size,
                  mixed(rows.first_row + i) + head * value_size);
    }
  }
}

Fetchable Tasks::fetchable_state(const Op& op, const Task& task) const {
  const float* state = d_.sequences->delta_state(op.layer, step_.spans[task.rows].slot, task.part);
  const std::size_t bytes = config_.key_head_dim * config_.value_head_dim * sizeof *state;
  return {{reinterpret_cast<const std::byte*>(state), bytes}, std::nullopt};
}

// Channels from `channel` on, a head's, of all rows of the span: out [rows, size].
void Tasks::convolve(const Op& op, const program::Span& span, std::size_t channel, std::size_t size,
                     float* out) {
  k_.conv_silu(projection(span.first_row) + channel, a_.projection_width, span.n_rows,
               d_.conv_taps[op.layer].data() + channel * config_.conv_kernel, config_.conv_kernel, size,
               d_.sequences->conv_state(op.layer, span.slot, channel), out);
}

void Tasks::l2_normalize(float* x, std::size_t n, float scale) const {
  const float inverse = scale / std::sqrt(k_.sum_of_squares(x, n) + 1e-6F);
  for (std::size_t i = 0; i < n; ++i) x[i] *= inverse;
}

}  // namespace sluice::cpu
