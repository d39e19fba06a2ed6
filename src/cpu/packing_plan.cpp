#include "cpu/packing_plan.h"

#include <utility>
#include <variant>

#include "base/error.h"
#include "cpu/screen.h"

namespace sluice::cpu {
namespace {

using model::LayerKind;
using model::Matrix;
using program::Columns;
using program::OpKind;

// Changes whenever the same rows are packed to other bytes.
constexpr std::uint32_t kLayoutVersion = 2;

// Which row of which matrix makes column `column` of mix_in's output (ProjectionLayout).
SourceRow mix_in_row(const model::ModelConfig& config, const model::LayerWeights& layer, std::size_t column) {
  if (const auto* net = std::get_if<model::DeltaNetWeights>(&layer.mixer)) {
    for (const Matrix* matrix : {&net->qkv, &net->z, &net->b, &net->a}) {
      if (column < matrix->rows) return {matrix, column};
      column -= matrix->rows;
    }
  }
  const auto& attention = std::get<model::AttentionWeights>(layer.mixer);
  const std::size_t queries = config.query_dim();
  if (column < 2 * queries) {  // stored head by head: query, then gate
    const std::size_t within = column % queries;
    const std::size_t head = within / config.head_dim;
    const std::size_t is_gate = column / queries;
    return {&attention.q_gate, (2 * head + is_gate) * config.head_dim + within % config.head_dim};
  }
  column -= 2 * queries;
  if (column < attention.k.rows) return {&attention.k, column};
  return {&attention.v, column - attention.k.rows};
}

bool all_bf16(const OpPlan& op, Columns columns) {
  for (const auto& row_of : op.sources)
    for (std::uint32_t column = columns.begin; column < columns.end; ++column)
      if (row_of(column).matrix->dtype != model::DType::kBF16) return false;
  return true;
}

}  // namespace

PackingPlan::PackingPlan(const model::Model& model, const program::Tiling& tiling, bool screened) {
  const model::ModelConfig& config = model.config;
  const auto rows_of = [](const Matrix& matrix) {
    return [&matrix](std::size_t column) { return SourceRow{&matrix, column}; };
  };
  for (std::size_t i = 0; i < config.n_layers(); ++i) {
    const model::LayerWeights& layer = model.weights.layers[i];
    const auto add = [&](OpKind kind, std::size_t depth, auto... sources) {
      add_op(config, config.layers[i], tiling,
             {.kind = kind, .layer = i, .depth = depth, .sources = {sources...}, .tiles = {}});
    };
    add(OpKind::kMixIn, config.hidden_size,
        [&config, &layer](std::size_t column) { return mix_in_row(config, layer, column); });
    const Matrix& out = std::visit([](const auto& mixer) -> const Matrix& { return mixer.out; }, layer.mixer);
    add(OpKind::kMixOut, out.cols, rows_of(out));
    add(OpKind::kMlpIn, config.hidden_size, rows_of(layer.mlp.gate), rows_of(layer.mlp.up));
    add(OpKind::kMlpOut, config.intermediate_size, rows_of(layer.mlp.down));
  }
  const auto add_head = [&](OpKind kind) {
    add_op(config, LayerKind::kDeltaNet, tiling,
           {.kind = kind,
            .layer = 0,
            .depth = config.hidden_size,
            .sources = {rows_of(model.weights.head)},
            .tiles = {}});
  };
  add_head(OpKind::kHead);
  if (screened) add_head(OpKind::kScreen);
}

void PackingPlan::add_op(const model::ModelConfig& config, LayerKind layer, const program::Tiling& tiling,
                         OpPlan op) {
  const bool is_screen = op.kind == OpKind::kScreen;
  op.depth = is_screen ? screen_depth(op.depth) : (op.depth + 1) / 2 * 2;
  const std::vector<Columns> tiles = program::tile_columns(config, op.kind, layer, tiling);
  const std::size_t first_part = parts_.size();
  const std::size_t n_sources = op.sources.size();
  std::size_t file = bytes_;
  for (std::uint32_t tile = 0; tile < tiles.size(); ++tile) {
    OpPlan::Tile plan{.is_bf16 = !is_screen && all_bf16(op, tiles[tile]), .n_panels = 0, .memory = bytes_};
    for (std::uint32_t source = 0; source < n_sources; ++source) {
      PackedPart part{.op = static_cast<std::uint32_t>(ops_.size()),
                      .tile = tile,
                      .source = source,
                      .columns = tiles[tile],
                      .memory = bytes_,
                      .file = 0,
                      .bytes = 0};
      part.bytes = part.n_panels() * panel_bytes(op.kind, op.depth, plan.is_bf16);
      plan.n_panels += part.n_panels();
      bytes_ += part.bytes;
      parts_.push_back(part);
    }
    op.tiles.push_back(plan);
  }
  for (std::size_t source = 0; source < n_sources; ++source) {
    for (std::size_t i = first_part + source; i < parts_.size(); i += n_sources) {
      parts_[i].file = file;
      file += parts_[i].bytes;
    }
  }
  SLUICE_CHECK(file == bytes_);
  ops_.push_back(std::move(op));
}

std::size_t panel_bytes(OpKind kind, std::size_t depth, bool is_bf16) {
  if (kind == OpKind::kSkim || kind == OpKind::kScreen) return program::screen_panel_bytes(depth);
  return kLanes * depth * (is_bf16 ? sizeof(std::uint16_t) : sizeof(float));
}

std::array<SourceRow, kLanes> PackingPlan::rows_of(const PackedPart& part, std::size_t panel) const {
  std::array<SourceRow, kLanes> rows{};
  const auto& row_of = ops_[part.op].sources[part.source];
  std::size_t column = part.columns.begin + panel * kLanes;
  for (std::size_t lane = 0; lane < kLanes && column < part.columns.end; ++lane)
    rows[lane] = row_of(column++);
  return rows;
}

Hash128 PackingPlan::fingerprint() const {
  Hasher hasher;
  hasher.add(kLayoutVersion);
  const Matrix* last = nullptr;
  std::array<std::uint64_t, kLanes> stored{};
  const auto add_panel = [&](const PackedPart& part, std::size_t panel) {
    stored.fill(0);
    const std::array<SourceRow, kLanes> rows = rows_of(part, panel);
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const Matrix* const matrix = rows[lane].matrix;
      if (matrix == nullptr) continue;
      stored[lane] = 1 + matrix->row_order.stored_index(rows[lane].row);
      if (matrix == last) continue;
      last = matrix;
      hasher.add(std::string_view(matrix->name));
      hasher.add(lane);
      for (const std::size_t size : {matrix->rows, matrix->cols, matrix->col_order.begin,
                                     matrix->col_order.head_size, matrix->col_order.stored.size()})
        hasher.add(size);
      hasher.add(std::as_bytes(std::span(matrix->col_order.stored)));
    }
    hasher.add(std::as_bytes(std::span(stored)));
  };
  for (std::size_t first = 0; first < parts_.size();) {
    const OpPlan& op = ops_[parts_[first].op];
    const std::size_t n = op.tiles.size() * op.sources.size();
    hasher.add(op.kind);
    hasher.add(op.layer);
    hasher.add(op.depth);
    for (std::size_t source = 0; source < op.sources.size(); ++source) {
      for (std::size_t i = first + source; i < first + n; i += op.sources.size()) {
        for (std::size_t panel = 0; panel < parts_[i].n_panels(); ++panel) {
          hasher.add(op.tiles[parts_[i].tile].is_bf16);
          add_panel(parts_[i], panel);
        }
      }
    }
    first += n;
  }
  return hasher.digest();
}

}  // namespace sluice::cpu
