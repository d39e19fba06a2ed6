// Tasks first, op by op in topological order; their waits follow from what they touch (dependencies.h).
#include "program/builder.h"

#include <algorithm>
#include <functional>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "program/dependencies.h"

namespace sluice::program {
namespace {

using model::LayerKind;
using model::ModelConfig;

// Rows of short spans share their weights' way through the caches: so many of them are one group. 16 is what one AMX tile
// holds, and what a decode kernel keeps in registers beside two columns of weights.
constexpr std::uint32_t kShortGroup = 16;
// Rows of a long span whose activations (bf16, 256 kB at K = 1024) stay in the second-level cache while weights pass.
constexpr std::uint32_t kLongGroup = 128;
// Query rows of a task of attention over a long span.
constexpr std::uint32_t kQueryGroup = 64;
// Long groups are multiples of this where they can be: the rows of a matrix tile.
constexpr std::uint32_t kRowTile = 16;

std::uint32_t narrow(std::size_t value) {
  return static_cast<std::uint32_t>(value);
}

constexpr std::uint32_t round_up(std::uint32_t value, std::uint32_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Cuts `columns`, which are heads of `head_size`, into tiles of whole heads with about `wanted` columns.
void cut_heads(Columns columns, std::size_t head_size, std::uint32_t wanted, std::vector<Columns>& tiles) {
  const std::uint32_t size = narrow(head_size);
  const std::uint32_t step = std::max(wanted / size, 1U) * size;
  for (std::uint32_t begin = columns.begin; begin < columns.end; begin += step)
    tiles.push_back({begin, std::min(begin + step, columns.end)});
}

void check(const StepShape& shape) {
  if (shape.spans.empty()) throw Error("a step without spans", "shape.spans", "want at least one");
  for (std::size_t i = 0; i < shape.spans.size(); ++i) {
    const StepShape::SpanShape& span = shape.spans[i];
    if (span.n_rows == 0 || span.kv_splits == 0 || (span.n_rows > kMaxShortSpan && span.kv_splits != 1))
      throw Error(fmt::format("{} rows and {} KV splits", span.n_rows, span.kv_splits),
                  fmt::format("shape.spans[{}]", i), "want rows, and one split for long spans");
  }
  const std::uint32_t n_rows = shape.n_rows();
  for (std::size_t i = 0; i < shape.output_rows.size(); ++i) {
    const std::uint32_t row = shape.output_rows[i];
    if (row >= n_rows || (i > 0 && row <= shape.output_rows[i - 1]))
      throw Error(fmt::format("output row {}", row), fmt::format("shape.output_rows[{}]", i),
                  fmt::format("want ascending rows below {}", n_rows));
  }
}

// Indices [begin, end) of Program::groups.
struct Groups {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
};

class Builder {
 public:
  Builder(const ModelConfig& config, const StepShape& shape, const Tiling& tiling) : tiling_(tiling) {
    check(shape);
    program_.config = config;
    program_.shape = shape;
  }

  // Rows and groups alone.
  Program lay_out() {
    lay_out_rows();
    return std::move(program_);
  }

  Program build() {
    lay_out_rows();
    embed();
    for (std::uint32_t layer = 0; layer < program_.config.n_layers(); ++layer) add_layer(layer);
    if (!program_.shape.output_rows.empty()) add_head();
    derive_waits(program_);
    return std::move(program_);
  }

 private:
  void lay_out_rows() {
    std::uint32_t row = 0;
    for (const StepShape::SpanShape& span : program_.shape.spans) {
      program_.first_row.push_back(row);
      row += span.n_rows;
    }
    program_.first_row.push_back(row);
    for (std::uint32_t i = 0; i < row; ++i) program_.rows.push_back(i);
    const std::vector<std::uint32_t>& outputs = program_.shape.output_rows;
    program_.rows.insert(program_.rows.end(), outputs.begin(), outputs.end());

    const std::uint32_t end = narrow(program_.rows.size());
    all_blocks_ = blocks(0, row);
    output_blocks_ = blocks(row, end);
    all_queries_ = queries(0, row);
    output_queries_ = queries(row, end);
  }

  std::uint32_t span_at(std::uint32_t index) const { return program_.span_of_row(program_.rows[index]); }
  bool is_short(std::uint32_t index) const {
    return program_.shape.spans[span_at(index)].n_rows <= kMaxShortSpan;
  }

  // Groups for weight ops: of several short spans, or of one long one, cut evenly.
  Groups blocks(std::uint32_t begin, std::uint32_t end) {
    const std::uint32_t first = narrow(program_.groups.size());
    while (begin < end) {
      const bool is_short_run = is_short(begin);
      const std::uint32_t span = span_at(begin);
      std::uint32_t run = begin;
      while (run < end && (is_short_run ? is_short(run) : span_at(run) == span)) ++run;
      add_groups(begin, run, is_short_run ? kShortGroup : kLongGroup, is_short_run);
      begin = run;
    }
    return {first, narrow(program_.groups.size())};
  }

  // Groups for attention: of one span.
  Groups queries(std::uint32_t begin, std::uint32_t end) {
    const std::uint32_t first = narrow(program_.groups.size());
    while (begin < end) {
      std::uint32_t run = begin;
      while (run < end && span_at(run) == span_at(begin)) ++run;
      add_groups(begin, run, kQueryGroup, is_short(begin));
      begin = run;
    }
    return {first, narrow(program_.groups.size())};
  }

  void add_groups(std::uint32_t begin, std::uint32_t end, std::uint32_t most, bool is_short_run) {
    SLUICE_CHECK(begin < end);
    const std::uint32_t parts = (end - begin + most - 1) / most;
    const std::uint32_t even = round_up((end - begin + parts - 1) / parts, kRowTile);
    for (; begin < end; begin += even)
      program_.groups.push_back({begin, std::min(begin + even, end), is_short_run});
  }

  Op& start(OpKind kind, std::uint32_t layer) {
    Op op;
    op.kind = kind;
    op.layer = layer;
    op.layer_kind = is_of_layer(kind) ? program_.config.layers[layer] : LayerKind::kDeltaNet;
    op.first_task = narrow(program_.tasks.size());
    program_.ops.push_back(op);
    return program_.ops.back();
  }

  void add_task(std::uint32_t rows, std::uint32_t part, std::uint32_t split = 0) {
    Task& task = program_.tasks.emplace_back();
    task.op = narrow(program_.ops.size()) - 1;
    task.rows = rows;
    task.part = part;
    task.split = split;
    ++program_.ops.back().n_tasks;
  }

  // Group by group, so that a worker finds the activations of its last task still staged.
  template <typename Wanted>
  void weight_op(OpKind kind, std::uint32_t layer, Groups groups, const Wanted& wanted) {
    Op& op = start(kind, layer);
    op.tiling = tiling_of(kind, op.layer_kind);
    const std::vector<Columns>& tiles = program_.tilings[op.tiling];
    for (std::uint32_t group = groups.begin; group < groups.end; ++group)
      for (std::uint32_t tile = 0; tile < tiles.size(); ++tile)
        if (wanted(group, tiles[tile])) add_task(group, tile);
  }

  void weight_op(OpKind kind, std::uint32_t layer, Groups groups) {
    weight_op(kind, layer, groups, [](std::uint32_t, Columns) { return true; });
  }

  std::uint32_t tiling_of(OpKind kind, LayerKind layer) {
    const std::pair key{kind, layer};
    const auto known = std::find(tiling_keys_.begin(), tiling_keys_.end(), key);
    const auto index = narrow(static_cast<std::size_t>(known - tiling_keys_.begin()));
    if (known == tiling_keys_.end()) {
      tiling_keys_.push_back(key);
      program_.tilings.push_back(tile_columns(program_.config, kind, layer, tiling_));
    }
    return index;
  }

  void embed() {
    start(OpKind::kEmbed, 0);
    for (std::uint32_t group = all_blocks_.begin; group < all_blocks_.end; ++group) add_task(group, 0);
  }

  void add_layer(std::uint32_t layer) {
    const bool is_last = layer + 1 == program_.config.n_layers();
    const Groups rest = is_last ? output_blocks_ : all_blocks_;
    if (program_.config.layers[layer] == LayerKind::kDeltaNet) {
      weight_op(OpKind::kMixIn, layer, all_blocks_);
      delta_net(layer);
    } else {
      attention(layer, is_last);
    }
    if (rest.begin == rest.end) return;
    weight_op(OpKind::kMixOut, layer, rest);
    weight_op(OpKind::kMlpIn, layer, rest);
    weight_op(OpKind::kMlpOut, layer, rest);
  }

  void delta_net(std::uint32_t layer) {
    start(OpKind::kMix, layer);
    for (std::uint32_t span = 0; span < program_.shape.spans.size(); ++span)
      for (std::uint32_t head = 0; head < program_.config.n_key_heads; ++head) add_task(span, head);
  }

  void attention(std::uint32_t layer, bool is_last) {
    const ProjectionLayout layout = projection_layout(program_.config, LayerKind::kAttention);
    if (!is_last) {
      weight_op(OpKind::kMixIn, layer, all_blocks_);
    } else {
      // Queries of the output rows alone, keys and values of all.
      weight_op(OpKind::kMixIn, layer, {all_blocks_.begin, output_blocks_.end},
                [&](std::uint32_t group, Columns tile) {
                  return (group >= output_blocks_.begin) == (tile.begin < layout.k.begin);
                });
    }
    const std::uint32_t n_kv_heads = narrow(program_.config.n_kv_heads);
    start(OpKind::kKvAppend, layer);
    for (std::uint32_t group = all_blocks_.begin; group < all_blocks_.end; ++group)
      for (std::uint32_t head = 0; head < n_kv_heads; ++head) add_task(group, head);

    const Groups groups = is_last ? output_queries_ : all_queries_;
    if (groups.begin == groups.end) return;
    start(OpKind::kMix, layer);
    bool has_splits = false;
    for (std::uint32_t group = groups.begin; group < groups.end; ++group) {
      const std::uint32_t n_splits = splits_of(group);
      has_splits = has_splits || n_splits > 1;
      for (std::uint32_t head = 0; head < n_kv_heads; ++head)
        for (std::uint32_t split = 0; split < n_splits; ++split) add_task(group, head, split);
    }
    if (!has_splits) return;
    start(OpKind::kMixMerge, layer);
    for (std::uint32_t group = groups.begin; group < groups.end; ++group)
      for (std::uint32_t head = 0; head < n_kv_heads && splits_of(group) > 1; ++head) add_task(group, head);
  }

  std::uint32_t splits_of(std::uint32_t group) const {
    return program_.shape.spans[span_at(program_.groups[group].begin)].kv_splits;
  }

  void add_head() {
    if (program_.shape.is_screened) {
      screen();
      output_op(OpKind::kSelect);
      weight_op(OpKind::kRecompute, 0, output_blocks_);
    } else {
      weight_op(OpKind::kHead, 0, output_blocks_);
    }
    output_op(OpKind::kSample);
  }

  void screen() {
    const std::uint32_t n_skimmed = skimmed_columns(program_.config.vocab_size);
    const auto is_skimmed = [=](std::uint32_t, Columns tile) { return tile.begin < n_skimmed; };
    if (n_skimmed > 0) weight_op(OpKind::kSkim, 0, output_blocks_, is_skimmed);
    weight_op(OpKind::kScreen, 0, output_blocks_, std::not_fn(is_skimmed));
  }

  void output_op(OpKind kind) {
    start(kind, 0);
    for (std::uint32_t output = 0; output < program_.shape.output_rows.size(); ++output) add_task(output, 0);
  }

  const Tiling& tiling_;
  Program program_;
  std::vector<std::pair<OpKind, LayerKind>> tiling_keys_;
  Groups all_blocks_;     // for weight ops
  Groups output_blocks_;  // these follow all_blocks_
  Groups all_queries_;    // for attention
  Groups output_queries_;
};

}  // namespace

std::vector<Columns> tile_columns(const ModelConfig& config, OpKind kind, LayerKind layer,
                                  const Tiling& tiling) {
  std::size_t depth = config.hidden_size;  // K: weights per column
  std::size_t width = config.hidden_size;  // N
  std::size_t matrices = 1;                // columns come from so many matrices at once
  std::size_t bytes_per_weight = tiling.bytes_per_weight;
  std::size_t bytes_per_tile = tiling.bytes_per_tile;
  switch (kind) {
    case OpKind::kMixIn:
      width = projection_layout(config, layer).width;
      break;
    case OpKind::kMixOut:
      depth = layer == LayerKind::kDeltaNet ? config.value_dim() : config.query_dim();
      break;
    case OpKind::kMlpIn:
      width = config.intermediate_size;
      matrices = 2;
      break;
    case OpKind::kMlpOut:
      depth = config.intermediate_size;
      break;
    case OpKind::kHead:
      width = config.vocab_size;
      break;
    case OpKind::kSkim:  // some of the same tiles
    case OpKind::kScreen:
      width = config.vocab_size;
      bytes_per_weight = 1;
      break;
    case OpKind::kRecompute:  // most of these tasks find nothing to do: few and large
      width = config.vocab_size;
      bytes_per_tile *= 8;
      break;
    default:
      SLUICE_CHECK(kind == OpKind::kMixIn);  // the others have no weights
  }
  // By bytes, but at least four tiles for each worker where there are columns enough: the last one to finish is late by
  // at most a tile.
  const std::size_t by_bytes = bytes_per_tile / (depth * matrices * bytes_per_weight);
  const std::size_t by_workers = width / (4 * tiling.n_workers);
  const std::size_t unit = tiling.tile_columns;
  const std::size_t wanted = std::max(std::min(by_bytes, by_workers) / unit * unit, unit);

  std::vector<Columns> tiles;
  if (kind == OpKind::kSkim || kind == OpKind::kScreen) {
    for (const OpKind part : {OpKind::kSkim, OpKind::kScreen})
      cut_heads(screened_columns(part, width), 1, narrow(wanted), tiles);
    return tiles;
  }
  if (kind != OpKind::kMixIn) {
    cut_heads({0, narrow(width)}, 1, narrow(wanted), tiles);
    return tiles;
  }
  const ProjectionLayout layout = projection_layout(config, layer);
  if (layer == LayerKind::kAttention) {
    for (const Columns part : {layout.q, layout.gate, layout.k, layout.v})
      cut_heads(part, config.head_dim, narrow(wanted), tiles);
  } else {
    for (const Columns part : {layout.q, layout.k})
      cut_heads(part, config.key_head_dim, narrow(wanted), tiles);
    for (const Columns part : {layout.v, layout.z})
      cut_heads(part, config.value_head_dim, narrow(wanted), tiles);
    tiles.push_back({layout.b.begin, layout.a.end});  // a few columns that all heads need
  }
  return tiles;
}

Program lay_out(const ModelConfig& config, const StepShape& shape) {
  return Builder(config, shape, Tiling{}).lay_out();
}

Program build(const ModelConfig& config, const StepShape& shape, const Tiling& tiling) {
  return Builder(config, shape, tiling).build();
}

}  // namespace sluice::program
