// The ops of a decode launch, op by op from the Program's.
//
// mix_in becomes two, what the mixer needs first and what it needs last. kv_append and attention are one: whoever computes a KV
// page of a row appends what belongs there. The merge is always there, since the number of pages changes within a launch.
#include <algorithm>
#include <optional>
#include <vector>

#include "base/error.h"
#include "cuda/plan.h"

namespace sluice::cuda {
namespace {

using model::LayerKind;
using program::OpKind;
using program::Program;

// The last op of which a task of `op` needs something in the same step.
std::optional<std::uint32_t> last_needed(const Program& program, std::uint32_t op,
                                         const std::vector<std::uint32_t>& op_of_counter) {
  std::optional<std::uint32_t> last;
  const program::Op& it = program.ops[op];
  for (std::uint32_t i = it.first_task; i < it.first_task + it.n_tasks; ++i) {
    const program::Task& task = program.tasks[i];
    for (std::uint32_t w = task.first_wait; w < task.first_wait + task.n_waits; ++w) {
      const program::Wait& wait = program.waits[w];
      if (wait.previous_step) continue;
      const std::uint32_t needed = op_of_counter[wait.counter];
      if (needed < op) last = std::max(last.value_or(0), needed);
    }
  }
  return last;
}

std::vector<std::uint32_t> ops_of_counters(const Program& program) {
  std::vector<std::uint32_t> ops(program.counters.size());
  for (const program::Task& task : program.tasks) ops[task.signal] = std::max(ops[task.signal], task.op);
  return ops;
}

class Builder {
 public:
  Builder(const Program& program, const DeviceWeights& weights, std::uint64_t base)
      : program_(program), weights_(weights), base_(base), layers_(weights.layers(base)) {}

  std::vector<Op> build() {
    check();
    const std::vector<std::uint32_t> op_of_counter = ops_of_counters(program_);
    for (std::uint32_t i = 0; i < program_.ops.size(); ++i) {
      const std::optional<std::uint32_t> needed = last_needed(program_, i, op_of_counter);
      wait_ = needed ? device_op_[*needed] : kNone;
      add(program_.ops[i]);
    }
    return std::move(ops_);
  }

 private:
  void check() const {
    SLUICE_CHECK(!program_.shape.is_screened && program_.shape.n_rows() <= kMostDecodeRows);
    for (const program::StepShape::SpanShape& span : program_.shape.spans)
      SLUICE_CHECK(span.n_rows <= program::kMaxShortSpan);
  }

  bool is_followed_by_mix(const program::Op& op) const {
    return std::ranges::any_of(program_.ops, [&](const program::Op& other) {
      return other.kind == OpKind::kMix && other.layer == op.layer;
    });
  }

  void add(const program::Op& op) {
    const ModelShape& shape = weights_.shape();
    const bool is_delta = op.layer_kind == LayerKind::kDeltaNet;
    const auto* matrices = is_of_layer(op.kind) ? &weights_.matrices(op.layer) : nullptr;
    const LayerVectors* vectors = matrices == nullptr ? nullptr : &layers_[op.layer];
    switch (op.kind) {
      case OpKind::kEmbed:
        push(op, OpCode::kEmbed);
        break;
      case OpKind::kMixIn: {
        const std::uint32_t first = is_delta ? shape.z_begin() : shape.gate_begin();
        Op& early = push(op, OpCode::kMixIn, matrices->mix_in, vectors->mix_norm);
        early.n_rows = first;
        Op& late = push(op, OpCode::kMixIn, matrices->mix_in, vectors->mix_norm);
        late.first_row = first;
        late.n_rows -= first;
        device_op_.push_back(static_cast<std::uint32_t>(ops_.size()) - 2);
        return;
      }
      case OpKind::kKvAppend:
        // Who needs it needs mix_in, and does the rest itself. In a last layer that no row needs more of, attention alone does.
        if (is_followed_by_mix(op)) {
          device_op_.push_back(device_op_.back());
          return;
        }
        push(op, OpCode::kAttention);
        break;
      case OpKind::kMix:
        if (is_delta) {
          push(op, OpCode::kDeltaRule);
        } else {
          push(op, OpCode::kAttention);
          wait_ = static_cast<std::uint32_t>(ops_.size()) - 1;
          push(op, OpCode::kMerge);
        }
        break;
      case OpKind::kMixMerge:
        break;
      case OpKind::kMixOut:
        push(op, OpCode::kMixOut, matrices->mix_out, is_delta ? vectors->delta_norm : nullptr);
        break;
      case OpKind::kMlpIn:
        push(op, OpCode::kMlpIn, matrices->mlp_in, vectors->mlp_norm).row_unit = 2;
        break;
      case OpKind::kMlpOut:
        push(op, OpCode::kMlpOut, matrices->mlp_out, nullptr);
        break;
      case OpKind::kHead:
        push(op, OpCode::kHead, weights_.head(), weights_.final_norm(base_));
        break;
      case OpKind::kSample:
        push(op, OpCode::kSample);
        break;
      case OpKind::kSkim:
      case OpKind::kScreen:
      case OpKind::kSelect:
      case OpKind::kRecompute:
        SLUICE_CHECK(false);  // as check() says
    }
    device_op_.push_back(static_cast<std::uint32_t>(ops_.size()) - 1);
  }

  Op& push(const program::Op& from, OpCode code) {
    Op op{};
    op.code = code;
    op.layer = from.layer;
    op.is_delta = is_of_layer(from.kind) && from.layer_kind == LayerKind::kDeltaNet ? 1 : 0;
    const auto layers = program_.config.layers.begin();
    op.kind_layer = is_of_layer(from.kind)
                        ? static_cast<std::uint32_t>(std::count(layers, layers + from.layer, from.layer_kind))
                        : 0;
    op.wait = wait_;
    op.row_unit = 1;
    ops_.push_back(op);
    return ops_.back();
  }

  Op& push(const program::Op& from, OpCode code, const DeviceWeights::PackedMatrix& matrix,
           const float* norm) {
    Op& op = push(from, code);
    op.weight = weights_.address(base_, matrix);
    op.n_rows = matrix.n_rows;
    op.chunks = matrix.chunks;
    op.width = matrix.width;
    op.norm = norm;
    return op;
  }

  const Program& program_;
  const DeviceWeights& weights_;
  std::uint64_t base_;
  std::vector<LayerVectors> layers_;
  std::vector<Op> ops_;
  std::vector<std::uint32_t> device_op_;  // [ops of the Program]  whose counter says that it is complete
  std::uint32_t wait_ = kNone;
};

}  // namespace

std::vector<Op> decode_ops(const Program& program, const DeviceWeights& weights, std::uint64_t base) {
  return Builder(program, weights, base).build();
}

std::vector<Op> head_ops(std::vector<Op> ops) {
  ops.erase(ops.begin(), ops.end() - 2);
  SLUICE_CHECK(ops[0].code == OpCode::kHead && ops[1].code == OpCode::kSample);
  ops[0].wait = kNone;
  ops[1].wait = 0;
  return ops;
}

}  // namespace sluice::cuda
