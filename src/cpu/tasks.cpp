#include "cpu/tasks.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "base/bf16.h"
#include "program/sampling.h"

namespace sluice::cpu {

using model::LayerKind;
using program::Columns;
using program::Op;
using program::OpKind;
using program::RowGroup;
using program::Task;

namespace {

std::size_t padded(std::size_t n) {
  return (n + kLanes - 1) / kLanes * kLanes;
}

}  // namespace

void edit(const program::Choice& choice, Columns tile, float* logits) {
  const auto first = std::lower_bound(choice.edits.begin(), choice.edits.end(), tile.begin,
                                      [](const program::LogitEdit& edit, std::uint32_t column) {
                                        return static_cast<std::uint32_t>(edit.token) < column;
                                      });
  for (auto it = first; it != choice.edits.end() && static_cast<std::uint32_t>(it->token) < tile.end; ++it) {
    program::LogitEdit local = *it;
    local.token -= static_cast<std::int32_t>(tile.begin);
    program::apply_edits({logits, tile.size()}, {&local, 1});
  }
  for (std::size_t column = std::max<std::size_t>(tile.begin, choice.n_tokens); column < tile.end; ++column)
    logits[column - tile.begin] = -std::numeric_limits<float>::infinity();
}

void Tasks::run(const Task& task, NextWeights next) {
  next_ = next;
  const Op& op = program_.ops[task.op];
  switch (op.kind) {
    case OpKind::kEmbed:
      embed(task);
      break;
    case OpKind::kMixIn:
      mix_in(op, task);
      break;
    case OpKind::kKvAppend:
      kv_append(op, task);
      break;
    case OpKind::kMix:
      op.layer_kind == LayerKind::kDeltaNet ? delta_net(op, task) : attention(op, task);
      break;
    case OpKind::kMixMerge:
      merge(task);
      break;
    case OpKind::kMixOut:
      add_product(op, task, a_.mixed, a_.mixed_width,
                  op.layer_kind == LayerKind::kDeltaNet ? config_.value_dim() : config_.query_dim());
      break;
    case OpKind::kMlpIn:
      mlp_in(op, task);
      break;
    case OpKind::kMlpOut:
      add_product(op, task, a_.gated, config_.intermediate_size, config_.intermediate_size);
      break;
    case OpKind::kHead:
      head(op, task);
      break;
    case OpKind::kSkim:
    case OpKind::kScreen:
      screen(op, task);
      break;
    case OpKind::kSelect:
      select(task);
      break;
    case OpKind::kRecompute:
      recompute(op, task);
      break;
    case OpKind::kSample:
      sample(task);
      break;
  }
}

bool Tasks::has_weights(const Task& task) const {
  return program::has_weights(program_.ops[task.op].kind);
}

Fetchable Tasks::fetchable(const Task& task) const {
  const Op& op = program_.ops[task.op];
  if (op.kind == OpKind::kMix && op.layer_kind == LayerKind::kDeltaNet) return fetchable_state(op, task);
  if (!has_weights(task)) return {};
  const PackedOp& weights = packed(op);
  const PackedTile& tile = weights.tiles[task.part];
  const std::size_t panel = panel_bytes(op.kind, weights.depth, tile.is_bf16);
  const bool is_one_stream = op.kind == OpKind::kSkim || op.kind == OpKind::kScreen;  // screen_dots.h
  const std::size_t stream =
      panel * std::max<std::size_t>(tile.n_panels / kFetchStreams, 1);  // matmul_dots.h
  return {{tile.data, tile.n_panels * panel}, NextWeights{tile.data, is_one_stream ? kFetchAhead : stream}};
}

float Tasks::inverse_rms(const float* x, std::size_t n) const {
  return 1.0F / std::sqrt(k_.sum_of_squares(x, n) / static_cast<float>(n) +
                          static_cast<float>(config_.rms_norm_eps));
}

// From the packed head where that is the embedding, too: the pages of the source were dropped when it was packed, and a
// token's first fault on them, or even a read from the disk, would hold up all workers.
void Tasks::read_embedding(std::size_t token, std::span<float> out) const {
  if (!config_.tie_word_embeddings) {
    d_.model->weights.embedding.read_row(token, out);
    return;
  }
  const PackedOp& head = d_.weights->of(OpKind::kHead, 0);
  const bool is_bf16 = head.tiles.front().is_bf16;
  // Tiles of the head follow each other in memory.
  const std::byte* const panel =
      head.tiles.front().data + token / kLanes * panel_bytes(OpKind::kHead, head.depth, is_bf16);
  const std::size_t lane = token % kLanes;
  if (is_bf16) {  // [depth / 2][16][2]
    const auto* const weights = reinterpret_cast<const std::uint16_t*>(panel);
    for (std::size_t k = 0; k < out.size(); ++k)
      out[k] = bf16_to_float(weights[(k / 2 * kLanes + lane) * 2 + k % 2]);
  } else {  // [depth][16]
    const auto* const weights = reinterpret_cast<const float*>(panel);
    for (std::size_t k = 0; k < out.size(); ++k) out[k] = weights[k * kLanes + lane];
  }
}

void Tasks::embed(const Task& task) {
  const std::size_t half = config_.rotary_dim / 2;
  for (std::uint32_t i = group(task).begin; i < group(task).end; ++i) {
    const std::uint32_t row = program_.rows[i];
    read_embedding(static_cast<std::size_t>(step_.tokens[row]), {residual(row), config_.hidden_size});
    const program::Span& span = step_.spans[program_.span_of_row(row)];
    const auto position = static_cast<float>(span.position + (row - span.first_row));
    float* cosines = a_.rotary.data() + row * config_.rotary_dim;
    for (std::size_t j = 0; j < half; ++j) {
      const float angle = position * d_.rotary_frequencies[j];
      cosines[j] = std::cos(angle);
      cosines[half + j] = std::sin(angle);
    }
  }
}

// The group's rows as `weights` want them, unless they are there from this worker's last task.
template <typename Row>
void Tasks::stage(const Task& task, std::size_t width, const PackedOp& weights, const Row& row_of) {
  if (s_.staged_step == d_.number && s_.staged_op == task.op && s_.staged_rows == task.rows) return;
  const RowGroup& rows = group(task);
  const std::size_t depth = weights.depth;
  const bool is_rounded = k_.activations == ActivationType::kBF16;
  const bool is_kept = !is_rounded || std::any_of(weights.tiles.begin(), weights.tiles.end(),
                                                  [](const PackedTile& tile) { return !tile.is_bf16; });
  at_least(s_.staged, (is_kept ? rows.size() : 1) * depth);
  if (is_rounded) at_least(s_.staged_bf16, rows.size() * depth);
  for (std::uint32_t i = 0; i < rows.size(); ++i) {
    float* to = s_.staged.data() + (is_kept ? i * depth : 0);
    const float* row = row_of(program_.rows[rows.begin + i], to);
    if (is_kept && row != to) std::copy_n(row, width, to);
    if (width != depth) {
      if (!is_kept && row != to) std::copy_n(row, width, to);
      std::fill(to + width, to + depth, 0.0F);
      row = to;
    }
    if (is_rounded) k_.to_bf16(row, depth, s_.staged_bf16.data() + i * depth);
  }
  s_.staged_step = d_.number;
  s_.staged_op = task.op;
  s_.staged_rows = task.rows;
}

void Tasks::stage_normed(const Task& task, const std::vector<float>& weight, const PackedOp& weights) {
  const std::size_t hidden = config_.hidden_size;
  stage(task, hidden, weights, [&](std::uint32_t row, float* to) {
    k_.scale_by(residual(row), weight.data(), inverse_rms(residual(row), hidden), hidden, to);
    return to;
  });
}

// The product of the staged rows and a tile: y [rows, ldy].
void Tasks::multiply(const PackedOp& weights, const Task& task, float* y, std::size_t ldy) {
  multiply(weights, weights.tiles[task.part], group(task), y, ldy);
}

void Tasks::multiply(const PackedOp& weights, const PackedTile& tile, const RowGroup& group, float* y,
                     std::size_t ldy) {
  const std::size_t rows = group.size();
  if (!tile.is_bf16) {
    k_.matmul_f32(reinterpret_cast<const float*>(tile.data), weights.depth, tile.n_panels, s_.staged.data(),
                  weights.depth, rows, y, ldy, next_);
    return;
  }
  const void* x = s_.staged.data();
  if (k_.activations == ActivationType::kBF16) x = s_.staged_bf16.data();
  const auto matmul = group.is_short ? k_.matmul_bf16 : k_.matmul_bf16_long;
  matmul(reinterpret_cast<const std::uint16_t*>(tile.data), weights.depth, tile.n_panels, x, weights.depth,
         rows, y, ldy, next_);
}

// The same into s_.tile: [rows, n_panels * 16], whose width it returns.
std::size_t Tasks::multiply(const PackedOp& weights, const Task& task) {
  const std::size_t width = weights.tiles[task.part].n_panels * kLanes;
  at_least(s_.tile, group(task).size() * width);
  multiply(weights, task, s_.tile.data(), width);
  return width;
}

void Tasks::mix_in(const Op& op, const Task& task) {
  const PackedOp& weights = packed(op);
  stage_normed(task, layer(op).mix_norm, weights);
  const Columns tile = columns(op, task);
  const RowGroup& rows = group(task);
  const std::uint32_t first = program_.rows[rows.begin];
  const bool is_contiguous = program_.rows[rows.end - 1] - first + 1 == rows.size();
  if (is_contiguous && tile.size() % kLanes == 0) {
    multiply(weights, task, projection(first) + tile.begin, a_.projection_width);
    return;
  }
  const std::size_t width = multiply(weights, task);
  for (std::uint32_t i = 0; i < rows.size(); ++i)
    std::copy_n(s_.tile.data() + i * width, tile.size(),
                projection(program_.rows[rows.begin + i]) + tile.begin);
}

void Tasks::add_product(const Op& op, const Task& task, const Floats& input, std::size_t stride,
                        std::size_t width) {
  const PackedOp& weights = packed(op);
  stage(task, width, weights, [&](std::uint32_t row, float*) { return input.data() + row * stride; });
  const std::size_t tile_width = multiply(weights, task);
  const Columns tile = columns(op, task);
  for (std::uint32_t i = 0; i < group(task).size(); ++i)
    k_.add(s_.tile.data() + i * tile_width, tile.size(),
           residual(program_.rows[group(task).begin + i]) + tile.begin);
}

void Tasks::mlp_in(const Op& op, const Task& task) {
  const PackedOp& weights = packed(op);
  stage_normed(task, layer(op).mlp_norm, weights);
  const std::size_t width = multiply(weights, task);
  const Columns tile = columns(op, task);
  for (std::uint32_t i = 0; i < group(task).size(); ++i) {
    const float* gate = s_.tile.data() + i * width;
    const std::uint32_t row = program_.rows[group(task).begin + i];
    k_.silu_mul(gate, gate + padded(tile.size()), tile.size(),
                a_.gated.data() + row * config_.intermediate_size + tile.begin);
  }
}

void Tasks::head(const Op& op, const Task& task) {
  const PackedOp& weights = packed(op);
  stage_normed(task, d_.model->weights.norm, weights);
  const std::size_t width = multiply(weights, task);
  const Columns tile = columns(op, task);
  const std::size_t n_tiles = program_.tilings[op.tiling].size();
  for (std::uint32_t i = 0; i < group(task).size(); ++i) {
    const std::size_t output = group(task).begin + i - program_.shape.n_rows();
    float* logits = s_.tile.data() + i * width;
    if (d_.logits_at[output] != StepData::kNowhere)
      std::copy_n(logits, tile.size(), d_.result->logits.data() + d_.logits_at[output] + tile.begin);
    if (!step_.outputs[output].choice) continue;
    edit(*step_.outputs[output].choice, tile, logits);
    std::copy_n(logits, tile.size(), a_.logits.data() + output * config_.vocab_size + tile.begin);
    a_.tile_best[output * n_tiles + task.part] = k_.largest(logits, tile.size());
  }
}

void Tasks::sample(const Task& task) {
  const auto& choice = step_.outputs[task.rows].choice;
  if (!choice) return;
  const std::span<const float> logits{a_.logits.data() + task.rows * config_.vocab_size, config_.vocab_size};
  const std::size_t n_tiles = d_.head_tile_ends.size();
  const std::span<const float> best{a_.tile_best.data() + task.rows * n_tiles, n_tiles};
  d_.result->tokens[task.rows] =
      program::try_sample(logits, choice->n_tokens, choice->sampling, choice->draw, d_.head_tile_ends, best)
          .value_or(-1);
}

}  // namespace sluice::cpu
