#include "program/report.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "base/error.h"
#include "program/screening.h"
#include "program/verify.h"

namespace sluice::program {
namespace {

using model::LayerKind;
using model::Matrix;

constexpr std::size_t kFp32 = 4;
constexpr std::size_t kBf16 = 2;

// Rows that an op with row groups computes.
std::size_t rows_of(const Program& program, const Op& op) {
  std::set<std::uint32_t> groups;
  for (std::uint32_t task = op.first_task; task < op.first_task + op.n_tasks; ++task)
    groups.insert(program.tasks[task].rows);
  std::size_t rows = 0;
  for (const std::uint32_t group : groups) rows += program.groups[group].size();
  return rows;
}

OpCost matrix_cost(const Matrix& matrix, std::size_t rows) {
  return {.weight_bytes = matrix.data.size(),
          .state_bytes = 0,
          .kv_bytes = 0,
          .flops = 2 * rows * matrix.rows * matrix.cols};
}

class Costs {
 public:
  Costs(const Program& program, const Op& op, const model::Weights& weights,
        std::span<const std::size_t> lengths)
      : program_(program), op_(op), weights_(weights), lengths_(lengths) {}

  OpCost cost() const {
    switch (op_.kind) {
      case OpKind::kEmbed:
        return {.weight_bytes = rows() * model::bytes_of(weights_.embedding.dtype, weights_.embedding.cols),
                .state_bytes = 0,
                .kv_bytes = 0,
                .flops = 0};
      case OpKind::kMixIn:
        return mix_in();
      case OpKind::kKvAppend:
      case OpKind::kMixMerge:
      case OpKind::kSelect:
      case OpKind::kRecompute:  // only the step's bounds tell
      case OpKind::kSample:
        return {};
      case OpKind::kMix:
        return op_.layer_kind == LayerKind::kDeltaNet ? delta_net() : attention();
      case OpKind::kMixOut:
        return std::visit([this](const auto& mixer) { return matrix_cost(mixer.out, rows()); },
                          layer().mixer);
      case OpKind::kMlpIn: {
        OpCost cost = matrix_cost(layer().mlp.gate, rows());
        return cost += matrix_cost(layer().mlp.up, rows());
      }
      case OpKind::kMlpOut:
        return matrix_cost(layer().mlp.down, rows());
      case OpKind::kHead:
        return matrix_cost(weights_.head, rows());
      case OpKind::kSkim:
      case OpKind::kScreen: {
        const std::size_t columns = screened_columns(op_.kind, weights_.head.rows).size();
        return {.weight_bytes = screen_panels(columns) * screen_panel_bytes(weights_.head.cols),
                .state_bytes = 0,
                .kv_bytes = 0,
                .flops = 2 * rows() * columns * weights_.head.cols};
      }
    }
    return {};
  }

 private:
  const model::LayerWeights& layer() const { return weights_.layers[op_.layer]; }
  std::size_t rows() const { return rows_of(program_, op_); }
  std::size_t all_rows() const { return program_.shape.n_rows(); }

  OpCost mix_in() const {
    OpCost cost;
    if (const auto* net = std::get_if<model::DeltaNetWeights>(&layer().mixer)) {
      for (const Matrix* matrix : {&net->qkv, &net->z, &net->b, &net->a})
        cost += matrix_cost(*matrix, all_rows());
      return cost;
    }
    const auto& attention = std::get<model::AttentionWeights>(layer().mixer);
    const bool is_last = op_.layer + 1 == program_.config.n_layers();
    const std::size_t queries = is_last ? program_.shape.output_rows.size() : all_rows();
    if (queries > 0) cost += matrix_cost(attention.q_gate, queries);
    cost += matrix_cost(attention.k, all_rows());
    return cost += matrix_cost(attention.v, all_rows());
  }

  OpCost delta_net() const {
    const model::ModelConfig& config = program_.config;
    const std::size_t state = config.n_value_heads * config.key_head_dim * config.value_head_dim;
    const std::size_t conv_state = config.conv_dim() * (config.conv_kernel - 1);
    OpCost cost;
    cost.state_bytes = 2 * kFp32 * (state + conv_state) * program_.shape.spans.size();
    cost.flops = 2 * all_rows() * (config.conv_dim() * config.conv_kernel + 3 * state);
    return cost;
  }

  // A row attends to its own position and all before it; the cache is read once a span.
  OpCost attention() const {
    const model::ModelConfig& config = program_.config;
    std::set<std::uint32_t> groups;
    for (std::uint32_t task = op_.first_task; task < op_.first_task + op_.n_tasks; ++task)
      groups.insert(program_.tasks[task].rows);
    std::set<std::uint32_t> spans;
    OpCost cost;
    for (const std::uint32_t group : groups) {
      for (std::uint32_t i = program_.groups[group].begin; i < program_.groups[group].end; ++i) {
        const std::uint32_t row = program_.rows[i];
        const std::uint32_t span = program_.span_of_row(row);
        const std::size_t attended = lengths_[span] - (program_.first_row[span + 1] - 1 - row);
        cost.flops += 4 * config.query_dim() * attended;
        if (spans.insert(span).second) cost.kv_bytes += 2 * kBf16 * config.kv_dim() * lengths_[span];
      }
    }
    return cost;
  }

  const Program& program_;
  const Op& op_;
  const model::Weights& weights_;
  std::span<const std::size_t> lengths_;
};

std::size_t counters_waited_for(const Program& program, const Op& op) {
  std::set<std::uint32_t> counters;
  for (std::uint32_t task = op.first_task; task < op.first_task + op.n_tasks; ++task) {
    const Task& it = program.tasks[task];
    for (std::uint32_t i = it.first_wait; i < it.first_wait + it.n_waits; ++i)
      if (!program.waits[i].previous_step) counters.insert(program.waits[i].counter);
  }
  return counters.size();
}

std::size_t waits_of(const Program& program, const Op& op) {
  std::size_t waits = 0;
  for (std::uint32_t task = op.first_task; task < op.first_task + op.n_tasks; ++task) {
    const Task& it = program.tasks[task];
    for (std::uint32_t i = it.first_wait; i < it.first_wait + it.n_waits; ++i)
      waits += program.waits[i].previous_step ? 0 : 1;
  }
  return waits;
}

}  // namespace

OpCost& OpCost::operator+=(const OpCost& other) {
  weight_bytes += other.weight_bytes;
  state_bytes += other.state_bytes;
  kv_bytes += other.kv_bytes;
  flops += other.flops;
  return *this;
}

OpCost cost_of(const Program& program, const Op& op, const model::Weights& weights,
               std::span<const std::size_t> lengths) {
  SLUICE_CHECK(lengths.size() == program.shape.spans.size());
  return Costs(program, op, weights, lengths).cost();
}

OpCost cost_of(const Program& program, const model::Weights& weights, std::span<const std::size_t> lengths) {
  OpCost total;
  for (const Op& op : program.ops) total += cost_of(program, op, weights, lengths);
  return total;
}

std::size_t longest_chain(const Program& program) {
  std::vector<std::size_t> depth(program.counters.size());  // of the deepest task that bumps it
  std::size_t longest = 0;
  for (const Task& task : program.tasks) {
    std::size_t before = 0;
    for (std::uint32_t i = task.first_wait; i < task.first_wait + task.n_waits; ++i)
      if (!program.waits[i].previous_step) before = std::max(before, depth[program.waits[i].counter]);
    depth[task.signal] = std::max(depth[task.signal], before + 1);
    longest = std::max(longest, before + 1);
  }
  return longest;
}

Report report_of(const Program& program, const model::Weights& weights,
                 std::span<const std::size_t> lengths) {
  Report report;
  for (const Op& op : program.ops) {
    report.ops.push_back({.op = op,
                          .n_counters = counters_waited_for(program, op),
                          .n_waits = waits_of(program, op),
                          .cost = cost_of(program, op, weights, lengths)});
    report.n_waits += report.ops.back().n_waits;
    report.cost += report.ops.back().cost;
  }
  report.n_tasks = program.tasks.size();
  report.n_counters = program.counters.size();
  report.longest_chain = longest_chain(program);
  report.unsafe = verify(program);
  if (!report.unsafe.empty()) return report;  // its waits may lead anywhere
  const std::vector<std::uint32_t> coarse = coarse_waits(program);
  const std::set<std::uint32_t> is_coarse(coarse.begin(), coarse.end());
  for (const Task& task : program.tasks)
    for (std::uint32_t i = task.first_wait; i < task.first_wait + task.n_waits; ++i)
      if (is_coarse.contains(i))
        report.coarse.push_back(
            fmt::format("{} waits for counter {}", describe(program, task), program.waits[i].counter));
  return report;
}

}  // namespace sluice::program
