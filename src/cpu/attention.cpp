// The attention mixer's tasks.
#include <algorithm>
#include <cmath>
#include <limits>
#include <variant>

#include "cpu/tasks.h"

namespace sluice::cpu {

using model::LayerKind;
using program::Op;
using program::Task;

namespace {

// Query vectors of a long span that go together: their scores of a block (32 kB) and all else of them stay in the second-level
// cache beside the block's packed keys and values (64 kB each at head_dim = 256).
constexpr std::size_t kQueriesAtOnce = 64;
constexpr std::size_t kBlockPositions = 128;

constexpr std::size_t padded(std::size_t n, std::size_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

}  // namespace

void Tasks::rotate(float* head, std::uint32_t row) const {
  const std::size_t half = config_.rotary_dim / 2;
  const float* cosines = a_.rotary.data() + row * config_.rotary_dim;
  const float* sines = cosines + half;
  for (std::size_t j = 0; j < half; ++j) {
    const float x = head[j];
    const float y = head[half + j];
    head[j] = x * cosines[j] - y * sines[j];
    head[half + j] = y * cosines[j] + x * sines[j];
  }
}

void Tasks::kv_append(const Op& op, const Task& task) {
  const auto& weights = std::get<model::AttentionWeights>(layer(op).mixer);
  const program::ProjectionLayout layout = program::projection_layout(config_, LayerKind::kAttention);
  const std::size_t size = config_.head_dim;
  at_least(s_.head, size);
  for (std::uint32_t i = group(task).begin; i < group(task).end; ++i) {
    const std::uint32_t row = program_.rows[i];
    const program::Span& span = step_.spans[program_.span_of_row(row)];
    const std::size_t position = span.position + (row - span.first_row);
    const float* in = projection(row);
    const float* key = in + layout.k.begin + task.part * size;
    k_.scale_by(key, weights.k_norm.data(), inverse_rms(key, size), size, s_.head.data());
    rotate(s_.head.data(), row);
    k_.to_bf16(s_.head.data(), size, d_.sequences->keys(op.layer, span.slot, task.part) + position * size);
    k_.to_bf16(in + layout.v.begin + task.part * size, size,
               d_.sequences->values(op.layer, span.slot, task.part) + position * size);
  }
}

// Query heads of KV head `task.part`, rows of one span, positions of one split. Rows of a long span meet a block of
// positions together, those of a short one go one by one.
void Tasks::attention(const Op& op, const Task& task) {
  const std::uint32_t at_once = group(task).is_short ? 1 : group(task).size();
  for (std::uint32_t i = group(task).begin; i < group(task).end; i += at_once) {
    const std::uint32_t end = std::min(i + at_once, group(task).end);
    Queries queries = make_queries(op, task, i, end);
    group(task).is_short ? attend_short(op, task, queries) : attend_long(op, task, queries);
    finish(task, i, queries);
  }
}

// The query vectors of rows [begin, end), row by row, of the KV head's query heads, and the start of their softmax.
Tasks::Queries Tasks::make_queries(const Op& op, const Task& task, std::uint32_t begin, std::uint32_t end) {
  const std::size_t size = config_.head_dim;
  const std::size_t share = queries_per_kv_head();
  Queries queries;
  queries.n = (end - begin) * share;
  queries.span = program_.span_of_row(program_.rows[begin]);
  at_least(s_.head, queries.n * (2 * size + 3));
  queries.query = s_.head.data();
  queries.out = queries.query + queries.n * size;
  queries.maximum = queries.out + queries.n * size;
  queries.sum = queries.maximum + queries.n;
  queries.factor = queries.sum + queries.n;
  const program::Span& span = step_.spans[queries.span];
  s_.limits.resize(queries.n);
  for (std::size_t i = 0; i < queries.n; ++i) {
    const std::uint32_t row = program_.rows[begin + i / share];
    make_query(op, row, task.part * share + i % share, queries.query + i * size);
    s_.limits[i] = static_cast<std::uint32_t>(span.position + (row - span.first_row) + 1);
  }
  std::fill(queries.maximum, queries.maximum + queries.n, -std::numeric_limits<float>::infinity());
  std::fill(queries.sum, queries.sum + queries.n, 0.0F);
  std::fill(queries.out, queries.out + queries.n * size, 0.0F);
  return queries;
}

// Of one row.
void Tasks::attend_short(const Op& op, const Task& task, const Queries& queries) {
  const std::size_t size = config_.head_dim;
  const std::size_t slot = step_.spans[queries.span].slot;
  const std::size_t length = s_.limits.back();
  std::size_t first = 0;
  std::size_t end = length;
  if (program_.shape.spans[queries.span].kv_splits != 1) {
    first = std::min(length, std::size_t{task.split} * program::kKvSplit);
    end = std::min(length, first + program::kKvSplit);
  }
  if (first == end) return;
  k_.attend(queries.query, queries.n, d_.sequences->keys(op.layer, slot, task.part) + first * size,
            d_.sequences->values(op.layer, slot, task.part) + first * size, size, end - first, size,
            queries.maximum, queries.sum, queries.out);
}

// Blocks of positions from 0 on, whatever span and group the rows stand in: for each the scores are one matrix product and
// the weighted values another, keys and values in the place of weights. A score lives as long as its block.
void Tasks::attend_long(const Op& op, const Task& task, const Queries& queries) {
  const std::size_t size = config_.head_dim;
  const std::size_t slot = step_.spans[queries.span].slot;
  const std::uint16_t* keys = d_.sequences->keys(op.layer, slot, task.part);
  const std::uint16_t* values = d_.sequences->values(op.layer, slot, task.part);
  const std::size_t depth = padded(size, 2);
  const std::size_t width = padded(size, kLanes);
  at_least(s_.packed_keys, kBlockPositions * depth);
  at_least(s_.packed_values, kBlockPositions * width);
  at_least(s_.scores, kQueriesAtOnce * kBlockPositions);
  at_least(s_.products, kQueriesAtOnce * width);
  const void* rows = as_operand(queries.query, queries.n, size, depth, s_.queries_operand);

  for (std::size_t first = 0; first < s_.limits.back(); first += kBlockPositions) {
    const std::size_t n = std::min<std::size_t>(s_.limits.back() - first, kBlockPositions);
    k_.pack_keys(keys + first * size, n, size, s_.packed_keys.data());
    k_.pack_values(values + first * size, n, size, s_.packed_values.data());
    auto begin = static_cast<std::size_t>(std::upper_bound(s_.limits.begin(), s_.limits.end(), first) -
                                          s_.limits.begin());
    for (; begin < queries.n; begin += kQueriesAtOnce)
      attend_block(queries, rows, begin, std::min(begin + kQueriesAtOnce, queries.n), first, n);
  }
}

// Queries [begin, end), all of which see the first of the n positions from `first` on, which are packed.
void Tasks::attend_block(const Queries& queries, const void* rows, std::size_t begin, std::size_t end,
                         std::size_t first, std::size_t n) {
  const std::size_t size = config_.head_dim;
  const std::size_t depth = padded(size, 2);
  const std::size_t width = padded(size, kLanes);
  const std::size_t n_padded = padded(n, kLanes);
  k_.matmul_bf16_long(s_.packed_keys.data(), depth, n_padded / kLanes, operand_row(rows, begin * depth),
                      depth, end - begin, s_.scores.data(), kBlockPositions, {});
  for (std::size_t i = begin; i < end; ++i)
    k_.soften(s_.scores.data() + (i - begin) * kBlockPositions,
              std::min<std::size_t>(s_.limits[i] - first, n), n_padded, queries.maximum + i, queries.sum + i,
              queries.factor + i);
  const void* weights =
      as_operand(s_.scores.data(), end - begin, kBlockPositions, kBlockPositions, s_.scores_operand);
  k_.matmul_bf16_long(s_.packed_values.data(), n_padded, width / kLanes, weights, kBlockPositions,
                      end - begin, s_.products.data(), width, {});
  for (std::size_t i = begin; i < end; ++i)
    k_.scale_and_add(s_.products.data() + (i - begin) * width, queries.factor[i], size,
                     queries.out + i * size);
}

// x [rows, n] as the left side of a product with bf16: fp32, or rounded in `bf16`; [rows, depth], zeros behind n.
const void* Tasks::as_operand(const float* x, std::size_t rows, std::size_t n, std::size_t depth,
                              Operand& to) const {
  if (n != depth) {
    at_least(to.floats, rows * depth);
    for (std::size_t i = 0; i < rows; ++i) {
      std::copy_n(x + i * n, n, to.floats.data() + i * depth);
      std::fill_n(to.floats.data() + i * depth + n, depth - n, 0.0F);
    }
    x = to.floats.data();
  }
  if (k_.activations == ActivationType::kF32) return x;
  at_least(to.bf16, rows * depth);
  k_.to_bf16(x, rows * depth, to.bf16.data());
  return to.bf16.data();
}

const void* Tasks::operand_row(const void* operand, std::size_t element) const {
  if (k_.activations == ActivationType::kF32) return static_cast<const float*>(operand) + element;
  return static_cast<const std::uint16_t*>(operand) + element;
}

// What rows from `begin` on have seen: gated, or, if there are other splits, kept for the merge.
void Tasks::finish(const Task& task, std::uint32_t begin, const Queries& queries) {
  const std::size_t size = config_.head_dim;
  const std::size_t share = queries_per_kv_head();
  const bool is_split = program_.shape.spans[queries.span].kv_splits != 1;
  for (std::size_t i = 0; i < queries.n; ++i) {
    const std::uint32_t row = program_.rows[begin + i / share];
    const std::size_t head = task.part * share + i % share;
    float* out = queries.out + i * size;
    if (!is_split) {
      finish_head(row, head, out, queries.sum[i]);
      continue;
    }
    float* partial = partial_of(row, task.split, head);
    std::copy_n(out, size, partial);
    partial[size] = queries.maximum[i];
    partial[size + 1] = queries.sum[i];
  }
}

// Normalised, turned and scaled.
void Tasks::make_query(const Op& op, std::uint32_t row, std::size_t head, float* to) {
  const auto& weights = std::get<model::AttentionWeights>(layer(op).mixer);
  const program::ProjectionLayout layout = program::projection_layout(config_, LayerKind::kAttention);
  const std::size_t size = config_.head_dim;
  const float* query = projection(row) + layout.q.begin + head * size;
  k_.scale_by(query, weights.q_norm.data(), inverse_rms(query, size), size, to);
  rotate(to, row);
  const float scale = 1.0F / std::sqrt(static_cast<float>(size));
  for (std::size_t d = 0; d < size; ++d) to[d] *= scale;
}

float* Tasks::partial_of(std::uint32_t row, std::size_t split, std::size_t head) {
  const std::uint32_t span = program_.span_of_row(row);
  const std::size_t n_splits = program_.shape.spans[span].kv_splits;
  const std::size_t at = d_.partial_at[span] + (row - program_.first_row[span]) * n_splits + split;
  return a_.partial.data() + (at * config_.n_heads + head) * (config_.head_dim + 2);
}

void Tasks::finish_head(std::uint32_t row, std::size_t head, float* out, float sum) {
  const program::ProjectionLayout layout = program::projection_layout(config_, LayerKind::kAttention);
  const std::size_t size = config_.head_dim;
  const float inverse = 1.0F / sum;
  for (std::size_t d = 0; d < size; ++d) out[d] *= inverse;
  k_.sigmoid_mul(out, projection(row) + layout.gate.begin + head * size, size, mixed(row) + head * size);
}

// Splits in order of position, those without a position left out.
void Tasks::merge(const Task& task) {
  const std::size_t size = config_.head_dim;
  const std::size_t share = queries_per_kv_head();
  at_least(s_.head, size);
  for (std::uint32_t i = group(task).begin; i < group(task).end; ++i) {
    const std::uint32_t row = program_.rows[i];
    const std::uint32_t span = program_.span_of_row(row);
    const std::size_t n_splits = program_.shape.spans[span].kv_splits;
    for (std::size_t head = task.part * share; head < (task.part + 1) * share; ++head) {
      float maximum = -std::numeric_limits<float>::infinity();
      for (std::size_t split = 0; split < n_splits; ++split)
        maximum = std::max(maximum, partial_of(row, split, head)[size]);
      float sum = 0;
      float* out = s_.head.data();
      std::fill(out, out + size, 0.0F);
      for (std::size_t split = 0; split < n_splits; ++split) {
        const float* partial = partial_of(row, split, head);
        if (partial[size + 1] == 0.0F) continue;
        const float weight = std::exp(partial[size] - maximum);
        sum += weight * partial[size + 1];
        for (std::size_t d = 0; d < size; ++d) out[d] += weight * partial[d];
      }
      finish_head(row, head, out, sum);
    }
  }
}

}  // namespace sluice::cpu
