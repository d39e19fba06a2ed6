#include "cuda/gpu_model.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "cuda/launch.h"
#include "cuda/plan.h"
#include "program/builder.h"
#include "program/report.h"

namespace sluice::cuda {
namespace {

using model::LayerKind;
using program::OpKind;

constexpr std::size_t kRingPieces = 16;

// Warp instructions of a decode step at position 0 of four layers (three DeltaNet, one attention) of Qwen3.5-0.8B's sizes with a
// head of 1,024 rows, without a finding, as the PTX machine counted them, but for looks at counters; and with a head of 8,192 rows.
constexpr double kCounted = 14571968;
constexpr double kCountedBytes = 167968768;  // of the smaller one's weights
constexpr double kCountedPerByte = (15350773 - kCounted) / (7168 * 1024 * 2);
// Attention is a unit for each KV head and page. Its layer of the same sizes alone took so many at positions 0 and 127: two pages.
constexpr double kCountedAttention = 278568;
constexpr double kCountedTwoPages = 367582;
constexpr double kCountedUnits = 2 * 2;

// What the kernel does for an op of the Program.
struct Stage {
  std::string name;
  double weight_bytes = 0;  // fetched ahead
  double own_bytes = 0;     // asked for when the op may begin
  double instructions = 0;  // of the block that has the most, beside what any op takes
  std::size_t needs = 1;    // how many stages back the one stands that it waits for
};

void require_bf16(const model::Model& model) {
  for (const model::ModelTensor& tensor : model.tensors)
    if (tensor.shape.size() == 2 && tensor.dtype != model::DType::kBF16)
      throw Error(fmt::format("tensor {} isn't BF16", tensor.name), "--model-gpu",
                  "take a BF16 checkpoint: the CUDA kernels have no other weights yet");
}

program::Report costs_of(const model::Model& model, const program::StepShape& shape, std::size_t length) {
  const program::Program program = program::build(model.config, shape, {});
  const std::size_t lengths[] = {length};
  program::Report report;
  for (const program::Op& op : program.ops)
    report.ops.push_back({op, 0, 0, program::cost_of(program, op, model.weights, lengths)});
  return report;
}

std::string name_of(const program::Op& op) {
  std::string name(program::name_of(op.kind));
  if (op.kind == OpKind::kMix)
    return name + (op.layer_kind == LayerKind::kDeltaNet ? " (DeltaNet)" : " (attention)");
  return name;
}

// mix_in stands in two parts, since the mixer waits for the first one only; pages of attention are merged by an op of their own,
// however many there are; keys and values are appended by attention itself.
std::vector<Stage> decode_stages(const program::Report& report, const model::Model& model,
                                 std::size_t context, double n_blocks) {
  const model::ModelConfig& config = model.config;
  std::vector<Stage> stages;
  for (const program::OpReport& it : report.ops) {
    const auto weights = static_cast<double>(it.cost.weight_bytes);
    const auto own = static_cast<double>(it.cost.state_bytes + it.cost.kv_bytes);
    switch (it.op.kind) {
      case OpKind::kMixIn: {
        const bool is_delta = it.op.layer_kind == LayerKind::kDeltaNet;
        const std::size_t last = is_delta ? config.value_dim() : config.query_dim();
        const std::size_t all = is_delta ? config.conv_dim() + config.value_dim() + 2 * config.n_value_heads
                                         : 2 * (config.query_dim() + config.kv_dim());
        const double late = weights * static_cast<double>(last) / static_cast<double>(all);
        stages.push_back({.name = "mix_in", .weight_bytes = weights - late});
        stages.push_back({.name = "mix_in", .weight_bytes = late, .needs = 2});
        break;
      }
      case OpKind::kMix:
        stages.push_back({.name = name_of(it.op), .own_bytes = own, .needs = 2});
        if (it.op.layer_kind == LayerKind::kAttention) {
          const double pages = std::ceil(static_cast<double>(context) / kKvPage);
          const double units = static_cast<double>(config.n_kv_heads) * pages;
          stages.back().instructions = std::ceil(units / n_blocks) * kInstructionsPerUnit.value;
          stages.push_back({.name = "mix_merge"});
        }
        break;
      case OpKind::kKvAppend:
      case OpKind::kMixMerge:
        break;
      case OpKind::kEmbed:
        stages.push_back({.name = "embed", .own_bytes = weights});
        break;
      case OpKind::kRecompute: {
        const double panels = constants::kRecomputedRows.value * kPanel;  // a row costs its panel
        stages.push_back(
            {.name = "recompute", .own_bytes = panels * static_cast<double>(2 * config.hidden_size)});
        break;
      }
      default:
        stages.push_back({.name = name_of(it.op), .weight_bytes = weights, .own_bytes = own});
    }
  }
  return stages;
}

double ring_bytes_per_sm(const GpuConstants& gpu, const model::Model& model) {
  const SharedLayout layout =
      shared_layout(model_shape(model.config), 1, static_cast<std::uint32_t>(gpu.shared_bytes.value));
  if (layout.ring_slots == 0)
    throw Error(fmt::format("the model needs more than the {} KB of shared memory that a block may have",
                            gpu.shared_bytes.value / 1024),
                "--model-gpu", "choose a GPU with more");
  return layout.ring_slots * kComputeWarps * kRingStages * kChunkBytes;
}

// Warp instructions of an SM.
double issue_per_us(const GpuConstants& gpu) {
  return 4 * gpu.clock_mhz.value * constants::kIssueShare.value;
}

// One memory, the rings of all SMs as one, and all blocks in step.
class Simulation {
 public:
  Simulation(const GpuConstants& gpu, double ring_bytes, std::vector<Stage> stages)
      : rate_(gpu.bytes_per_us()),
        dependency_(dependency_us(gpu)),
        issue_us_per_byte_(kInstructionsPerByte.value / (gpu.sms.value * issue_per_us(gpu))),
        issue_us_per_op_(kInstructionsPerOp.value / issue_per_us(gpu)),
        stages_(std::move(stages)),
        stream_(stages_.size() * kSteps),
        idle_(stages_.size() * kSteps) {
    const double piece = ring_bytes / kRingPieces;
    for (std::size_t i = 0; i < kSteps * stages_.size(); ++i) {
      const double bytes = stage(i).weight_bytes;
      const auto n = static_cast<std::size_t>(std::ceil(bytes / piece));
      for (std::size_t j = 0; j < n; ++j) pieces_.push_back({i, bytes / static_cast<double>(n)});
    }
    std::vector<double> ends;
    std::size_t piece_at = 0;
    for (std::size_t i = 0; i < kSteps * stages_.size(); ++i) {
      const std::size_t needs = stage(i).needs;
      double now = i < needs ? 0 : std::max(ends.back(), ends[i - needs] + dependency_);
      if (stage(i).own_bytes > 0) now = load(i, now);
      now += issue_us_per_op_ + stage(i).instructions / issue_per_us(gpu);
      for (; piece_at < pieces_.size() && pieces_[piece_at].stage == i; ++piece_at) {
        while (arrived_.size() <= piece_at) fetch();
        now = std::max(now, arrived_[piece_at]) + pieces_[piece_at].bytes * issue_us_per_byte_;
        consumed_.push_back(now);
      }
      ends.push_back(now);
    }
  }

  // Of the last step but one, which has neither a beginning nor an end.
  double stream_us(std::size_t i) const { return stream_[stages_.size() * (kSteps - 2) + i]; }
  double idle_us(std::size_t i) const { return idle_[stages_.size() * (kSteps - 2) + i]; }

 private:
  static constexpr std::size_t kSteps = 4;
  struct Piece {
    std::size_t stage;
    double bytes;
  };

  const Stage& stage(std::size_t i) const { return stages_[i % stages_.size()]; }

  // When there is room for the next piece; never, while that depends on what hasn't been used yet.
  double room_at() const {
    const std::size_t next = arrived_.size();
    if (next < kRingPieces) return 0;
    const std::size_t freed = next - kRingPieces;
    return freed < consumed_.size() ? consumed_[freed] : std::numeric_limits<double>::infinity();
  }

  void fetch() {
    const std::size_t next = arrived_.size();
    const double room = room_at();
    SLUICE_CHECK(std::isfinite(room));
    const std::size_t held_by = next < kRingPieces ? 0 : pieces_[next - kRingPieces].stage;
    occupy(room, held_by, pieces_[next].stage, pieces_[next].bytes);
    arrived_.push_back(memory_free_ + constants::kMemoryLatency.value);
  }

  double load(std::size_t i, double now) {
    while (arrived_.size() < pieces_.size() && std::max(memory_free_, room_at()) < now) fetch();
    occupy(now, i, i, stage(i).own_bytes);
    return memory_free_ + constants::kMemoryLatency.value;
  }

  void occupy(double from, std::size_t idle_for, std::size_t user, double bytes) {
    idle_[idle_for] += std::max(0.0, from - memory_free_);
    memory_free_ = std::max(memory_free_, from) + bytes / rate_;
    stream_[user] += bytes / rate_;
  }

  double rate_, dependency_, issue_us_per_byte_, issue_us_per_op_;
  std::vector<Stage> stages_;
  std::vector<double> stream_, idle_;  // [steps, stages]
  std::vector<Piece> pieces_;          // of weights
  std::vector<double> arrived_, consumed_;
  double memory_free_ = 0;
};

void add(StepTime& step, const std::string& name, double bytes, double stream_us, double exposed_us) {
  auto found = std::ranges::find(step.ops, name, &OpTime::op);
  if (found == step.ops.end()) found = step.ops.insert(found, OpTime{.op = name});
  ++found->n;
  found->bytes += bytes;
  found->stream_us += stream_us;
  found->exposed_us += exposed_us;
}

double sum(const std::vector<OpTime>& ops, double OpTime::* what) {
  double total = 0;
  for (const OpTime& op : ops) total += op.*what;
  return total;
}

// Prefill's sizes, as the kernels have them.
constexpr double kTileRows = 64;
constexpr double kTileColumns = 128;
constexpr double kDeltaChunk = 32;
constexpr double kDeltaColumns = 16;
constexpr double kFlashQueries = 32;

// `n` equal tiles on all SMs.
double waves(const GpuConstants& gpu, double n) {
  return std::ceil(n / gpu.sms.value);
}

double mma_flops_per_us(const GpuConstants& gpu) {  // of an SM
  return gpu.matrix_tflops.value * 1e6 * gpu.mma_share.value / gpu.sms.value;
}

double gemm_us(const GpuConstants& gpu, double rows, double columns, double depth) {
  const double flops = 2 * kTileRows * kTileColumns * depth;
  const double from_l2 = (kTileRows + kTileColumns) * depth * 2;
  const double tile = std::max(flops / (mma_flops_per_us(gpu) * constants::kMmaEfficiency.value),
                               from_l2 / (constants::kL2BytesPerClock.value * gpu.clock_mhz.value));
  return waves(gpu, std::ceil(rows / kTileRows) * std::ceil(columns / kTileColumns)) * tile;
}

// Chunks follow each other; each block has 16 columns of a head's values, and makes KKᵀ and QKᵀ of its chunk for itself.
double delta_us(const GpuConstants& gpu, const model::ModelConfig& config, double rows) {
  const auto key = static_cast<double>(config.key_head_dim);
  const double flops =
      2 * kDeltaChunk * (2 * kDeltaChunk * key + 2 * kDeltaChunk * kDeltaColumns + 3 * key * kDeltaColumns);
  const double lanes = gpu.compute_capability == 80 ? 64 : 128;
  const double fp32 = lanes * 2 * gpu.clock_mhz.value * constants::kFp32Efficiency.value;
  const double tasks = static_cast<double>(config.n_value_heads) *
                       std::ceil(static_cast<double>(config.value_head_dim) / kDeltaColumns);
  return waves(gpu, tasks) * std::ceil(rows / kDeltaChunk) * flops / fp32;
}

double attention_us(const GpuConstants& gpu, const model::ModelConfig& config, double rows) {
  const auto head_dim = static_cast<double>(config.head_dim);
  const double flops = 4 * kFlashQueries * head_dim * rows / 2;  // causal: half of it, on average
  const double tasks = static_cast<double>(config.n_heads) * std::ceil(rows / kFlashQueries);
  return waves(gpu, tasks) * flops / (mma_flops_per_us(gpu) * constants::kAttentionEfficiency.value);
}

double arithmetic_us(const GpuConstants& gpu, const model::ModelConfig& config, const program::OpReport& it,
                     double rows) {
  const auto hidden = static_cast<double>(config.hidden_size);
  const auto inner = static_cast<double>(config.intermediate_size);
  const bool is_delta = it.op.layer_kind == LayerKind::kDeltaNet;
  switch (it.op.kind) {
    case OpKind::kMixIn:
    case OpKind::kMlpIn:
      return gemm_us(gpu, rows, static_cast<double>(it.cost.weight_bytes) / 2 / hidden, hidden);
    case OpKind::kMixOut:
      return gemm_us(gpu, rows, hidden,
                     static_cast<double>(is_delta ? config.value_dim() : config.query_dim()));
    case OpKind::kMlpOut:
      return gemm_us(gpu, rows, hidden, inner);
    case OpKind::kMix:
      return is_delta ? delta_us(gpu, config, rows) : attention_us(gpu, config, rows);
    default:
      return 0;
  }
}

}  // namespace

const Constant kInstructionsPerByte = {kCountedPerByte,
                                       "counted by the PTX machine: what 7,168 more rows of the head add to "
                                       "a decode step, compute_80, 82 blocks"};
const Constant kInstructionsPerOp = {
    (kCounted - kCountedPerByte * kCountedBytes) / (28 * 82),
    "counted by the PTX machine: the other instructions of the step, 28 ops in 82 blocks, without polls"};
const Constant kInstructionsPerUnit = {
    (kCountedTwoPages - kCountedAttention) / kCountedUnits,
    "counted by the PTX machine: what two pages of 2 KV heads add to an attention layer"};

double StepTime::bytes() const {
  return sum(ops, &OpTime::bytes);
}
double StepTime::stream_us() const {
  return sum(ops, &OpTime::stream_us);
}
double StepTime::exposed_us() const {
  return sum(ops, &OpTime::exposed_us);
}

StepTime decode_time(const GpuConstants& gpu, const model::Model& model, std::size_t context,
                     bool is_screened) {
  require_bf16(model);
  program::StepShape shape;
  shape.spans.push_back({1, program::kv_splits_of(1, context)});
  shape.output_rows = {0};
  shape.is_screened = is_screened;
  const std::vector<Stage> stages =
      decode_stages(costs_of(model, shape, context), model, context, gpu.sms.value);
  StepTime step;
  step.ring_bytes = ring_bytes_per_sm(gpu, model);
  const Simulation simulation(gpu, step.ring_bytes * gpu.sms.value, stages);
  for (std::size_t i = 0; i < stages.size(); ++i) {
    add(step, stages[i].name, stages[i].weight_bytes + stages[i].own_bytes, simulation.stream_us(i),
        simulation.idle_us(i));
    step.dependencies += i == 0 || stages[i].name != stages[i - 1].name ? 1 : 0;  // mix_in's parts wait once
  }
  step.raw_us = static_cast<double>(step.dependencies) * dependency_us(gpu);
  return step;
}

StepTime prefill_time(const GpuConstants& gpu, const model::Model& model, std::size_t rows) {
  require_bf16(model);
  model_shape(model.config);
  program::StepShape shape;
  const auto n = static_cast<std::uint32_t>(rows);
  shape.spans.push_back({n, program::kv_splits_of(n, rows)});
  shape.output_rows = {n - 1};
  const program::Report report = costs_of(model, shape, rows);
  StepTime step;
  step.tokens = static_cast<double>(rows);
  for (const program::OpReport& it : report.ops) {
    if (it.op.kind == OpKind::kMixMerge) continue;
    const auto bytes = static_cast<double>(it.cost.bytes());
    const double stream = bytes / gpu.bytes_per_us();
    const double arithmetic = arithmetic_us(gpu, model.config, it, step.tokens);
    add(step, name_of(it.op), bytes, std::max(stream, arithmetic),
        dependency_us(gpu) + constants::kMemoryLatency.value);
    ++step.dependencies;
  }
  step.raw_us = step.exposed_us();
  return step;
}

double time_above_stream(const GpuConstants& gpu, const PublishedKernel& kernel) {
  const double barrier = dependency_us(gpu) + constants::kMemoryLatency.value;
  const double slower = kernel.partial.bytes / gpu.bytes_per_us() * (1 / kernel.partial.busy_share - 1);
  return static_cast<double>(kernel.barriers) * barrier +
         static_cast<double>(kernel.launches) * constants::kLaunch.value +
         static_cast<double>(kernel.partial.n) * slower;
}

}  // namespace sluice::cuda
