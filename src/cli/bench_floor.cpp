#include "cli/bench_floor.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "program/builder.h"
#include "program/report.h"

namespace sluice::cli {
namespace {

program::StepShape shape_of(const program::Step& step, bool screened) {
  program::StepShape shape;
  shape.is_screened = screened;
  for (const program::Span& span : step.spans) {
    const auto rows = static_cast<std::uint32_t>(span.n_rows);
    shape.spans.push_back({rows, program::kv_splits_of(rows, span.position + span.n_rows)});
  }
  for (const program::Output& output : step.outputs)
    shape.output_rows.push_back(static_cast<std::uint32_t>(output.row));
  return shape;
}

// Of the largest weights that an op reads; the others are a hundredth of them.
model::DType weights_of(const model::Weights& weights, const program::Op& op) {
  using program::OpKind;
  if (op.kind == OpKind::kHead) return weights.head.dtype;
  const model::LayerWeights& layer = weights.layers[op.layer];
  if (op.kind == OpKind::kMlpIn) return layer.mlp.gate.dtype;
  if (op.kind == OpKind::kMlpOut) return layer.mlp.down.dtype;
  if (const auto* net = std::get_if<model::DeltaNetWeights>(&layer.mixer))
    return op.kind == OpKind::kMixIn ? net->qkv.dtype : net->out.dtype;
  const auto& attention = std::get<model::AttentionWeights>(layer.mixer);
  return op.kind == OpKind::kMixIn ? attention.q_gate.dtype : attention.out.dtype;
}

}  // namespace

double StepCost::all_flops() const {
  return std::accumulate(flops.begin(), flops.end(), 0.0);
}

StepCost between(const StepCost& from, const StepCost& to, double share) {
  StepCost cost;
  cost.bytes = from.bytes + share * (to.bytes - from.bytes);
  for (std::size_t unit = 0; unit < cpu::kUnits; ++unit)
    cost.flops[unit] = from.flops[unit] + share * (to.flops[unit] - from.flops[unit]);
  return cost;
}

StepCost mean_cost(const model::Model& model, const std::vector<const program::Step*>& steps,
                   const std::function<bool(const program::Step&)>& is_screened) {
  SLUICE_CHECK(!steps.empty());
  StepCost mean;
  const auto n = static_cast<double>(steps.size());
  for (const program::Step* step : steps) {
    const program::Program program =
        program::build(model.config, shape_of(*step, is_screened && is_screened(*step)), program::Tiling());
    std::vector<std::size_t> lengths;
    for (const program::Span& span : step->spans) lengths.push_back(span.position + span.n_rows);
    for (const program::Op& op : program.ops) {
      const program::OpCost cost = program::cost_of(program, op, model.weights, lengths);
      const cpu::Unit unit = cpu::unit_of(op.kind, weights_of(model.weights, op));
      mean.bytes += static_cast<double>(cost.bytes()) / n;
      mean.flops[static_cast<std::size_t>(unit)] += static_cast<double>(cost.flops) / n;
    }
  }
  return mean;
}

double floor_seconds(const StepCost& cost, const MachinePeaks& peaks) {
  double computing = 0;
  for (std::size_t unit = 0; unit < cpu::kUnits; ++unit)
    computing += cost.flops[unit] / peaks.flops_per_second[unit];
  return std::max(cost.bytes / peaks.bytes_per_second, computing);
}

}  // namespace sluice::cli
