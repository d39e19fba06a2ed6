// What one step of the model does, as data: the list of tasks that workers execute in one dispatch.
//
// An op is one part of a layer for all rows of the step; it is cut into tasks, each of which writes a rectangle of the
// op's output. Tasks stand in one list in topological order. A task waits until counters reach their targets, and bumps
// one counter when it is done. There are no other synchronisations, so what a Program allows is what its waits say:
// `verify` (verify.h) accepts a Program only if they order every pair of tasks that touch the same data.
//
// The ops of a layer, and what a task of each is:
//
//   mix_in     inv_rms → [q|k|v|z|b|a] (DeltaNet) or [q,gate|k|v] (attention)     rows × columns
//   kv_append  attention: k norm, RoPE, k and v join the cache                    rows × KV heads
//   mix        DeltaNet: conv, L2 norm, gates, delta rule, gated norm             span × K head (and its V heads)
//              attention: q norm, RoPE, softmax(QK)V, output gate                 query rows × KV head × KV split
//   mix_merge  attention with several KV splits: adds them up in order, gate      query rows × KV head
//   mix_out    out projection + residual                                          rows × columns
//   mlp_in     inv_rms → gate, up → SiLU(gate)·up                                 rows × columns
//   mlp_out    down projection + residual                                         rows × columns
//
// Before the first layer `embed`, after the last `head` (final norm, logits, logit edits) and `sample`, both only for the
// rows that asked for logits. A screened head (screening.h) has four ops in the place of `head`:
//
//   skim       bounds of the first logits, from a narrower copy of the weights      rows × columns
//   screen     bounds of the others; where the first say that it doesn't pay, none  rows × columns
//   select     which panels of 16 columns may still hold the answer                 output
//   recompute  these panels' logits, as `head` computes them                        rows × columns
//
// In the last layer, what only other rows would need is left out.
//
// A Program holds no positions, slots or tokens: it serves every step of its shape.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "model/config.h"

namespace sluice::program {

// What of a step decides its Program.
struct StepShape {
  struct SpanShape {
    std::uint32_t n_rows = 0;  // at least 1
    std::uint32_t kv_splits =
        1;  // pieces of the KV cache that attention reads as tasks of their own (kv_splits_of)
    bool operator==(const SpanShape&) const = default;
  };
  std::vector<SpanShape> spans;            // in row order
  std::vector<std::uint32_t> output_rows;  // rows whose logits are needed, ascending
  bool is_screened = false;                // the head is

  std::uint32_t n_rows() const;
  bool operator==(const StepShape&) const = default;
};

// Spans of up to this many rows run as decode (KV splits, the delta rule row by row), longer ones as prefill (flash-style
// attention in blocks of rows, the delta rule in chunks that begin at the span's first row). Both agree within the error of the
// kernels' arithmetic. A row's arithmetic follows from its own span alone.
inline constexpr std::uint32_t kMaxShortSpan = 8;

// Positions of the KV cache that one split of a short span's attention covers. A constant, so that the order of sums does
// not depend on workers or neighbours.
inline constexpr std::uint32_t kKvSplit = 512;

// The number of splits in the Program of a span whose last position is below `length`: that of the next power of two, so
// that the Programs of a growing context are few. Splits beyond the actual length do nothing. 1 for long spans.
std::uint32_t kv_splits_of(std::uint32_t n_rows, std::size_t length);

enum class OpKind : std::uint8_t {
  kEmbed,
  kMixIn,
  kKvAppend,
  kMix,
  kMixMerge,
  kMixOut,
  kMlpIn,
  kMlpOut,
  kHead,
  kSkim,
  kScreen,
  kSelect,
  kRecompute,
  kSample,
};

std::string_view name_of(OpKind kind);  // "mix_in"

// All others are of no layer.
constexpr bool is_of_layer(OpKind kind) {
  return kind != OpKind::kEmbed && kind < OpKind::kHead;
}

// Weight ops: each task reads all weights of a tile, which are known before the step.
constexpr bool has_weights(OpKind kind) {
  switch (kind) {
    case OpKind::kMixIn:
    case OpKind::kMixOut:
    case OpKind::kMlpIn:
    case OpKind::kMlpOut:
    case OpKind::kHead:
    case OpKind::kSkim:
    case OpKind::kScreen:
      return true;
    default:
      return false;
  }
}

// Columns [begin, end) of a weight op's output.
struct Columns {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
  std::uint32_t size() const { return end - begin; }
  bool operator==(const Columns&) const = default;
};

// Rows that are computed together: indices [begin, end) into Program::rows, all of spans of one length class.
struct RowGroup {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
  bool is_short = true;
  std::uint32_t size() const { return end - begin; }
  bool operator==(const RowGroup&) const = default;
};

// The widths of a layer's projections, as columns of one row of the projection buffer: Q | K | V | z | b | a for DeltaNet;
// Q | gate | K | V for attention (head by head inside each).
struct ProjectionLayout {
  Columns q, k, v;
  Columns z, b, a;  // DeltaNet
  Columns gate;     // attention
  std::uint32_t width = 0;
};
ProjectionLayout projection_layout(const model::ModelConfig& config, model::LayerKind kind);

struct Op {
  OpKind kind = OpKind::kEmbed;
  std::uint32_t layer = 0;  // 0 for what is of no layer
  model::LayerKind layer_kind = model::LayerKind::kDeltaNet;
  std::uint32_t first_task = 0;  // tasks of an op stand together
  std::uint32_t n_tasks = 0;
  std::uint32_t tiling = 0;  // weight ops: index into Program::tilings
  bool operator==(const Op&) const = default;
};

// What tells whether the head's other columns are worth screening: [0, n). 0 of a vocabulary that is too small for a sample.
std::uint32_t skimmed_columns(std::size_t vocab_size);

// The columns of `skim`, or those of `screen`.
Columns screened_columns(OpKind kind, std::size_t vocab_size);

struct Task {
  std::uint32_t op = 0;
  std::uint32_t rows =
      0;  // index into Program::groups; mix of DeltaNet: the span; select, sample: the output
  std::uint32_t part = 0;   // weight ops: tile of the op's tiling; mix: K head or KV head; else 0
  std::uint32_t split = 0;  // mix of attention: the KV split
  std::uint32_t first_wait = 0;
  std::uint32_t n_waits = 0;
  std::uint32_t signal = 0;  // the counter that it bumps by one
  bool operator==(const Task&) const = default;
};

// The task may start when `counter` has been bumped `target` times in this step (in the step before, if `previous_step`:
// for launches that make several steps in a row; the first step of a launch takes such a wait as satisfied).
struct Wait {
  std::uint32_t counter = 0;
  std::uint32_t target = 0;
  bool previous_step = false;
  bool operator==(const Wait&) const = default;
};

struct Program {
  model::ModelConfig config;
  StepShape shape;

  std::vector<std::uint32_t> first_row;  // [spans + 1]  of each span
  std::vector<std::uint32_t> rows;       // what groups point into: all rows, then the output rows
  std::vector<RowGroup> groups;
  std::vector<std::vector<Columns>> tilings;  // tiles of a weight op, covering its columns in order
  std::vector<Op> ops;
  std::vector<Task> tasks;
  std::vector<Wait> waits;
  std::vector<std::uint32_t> counters;  // [counters]  bumps in one step

  std::uint32_t span_of_row(std::uint32_t row) const;
};

}  // namespace sluice::program
