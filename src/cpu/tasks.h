// What a task computes: the ops of program.h on this device's buffers, by way of the kernels. Reads and writes nothing but
// what program::regions_of says.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>
#include <optional>
#include <span>
#include <vector>

#include "base/aligned_allocator.h"
#include "cpu/delta_chunk.h"
#include "cpu/kernels.h"
#include "cpu/packed.h"
#include "cpu/screen.h"
#include "cpu/sequences.h"
#include "model/weights.h"
#include "program/backend.h"
#include "program/program.h"

namespace sluice::cpu {

using Floats = std::vector<float, AlignedAllocator<float>>;

// What tasks write and read between ops: sized for the largest step so far. A row stands at the same place in every layer,
// however wide the layer's own part of it is: one group of rows may be in another layer than the next group.
struct Activations {
  std::size_t projection_width = 0;  // the widest ProjectionLayout
  std::size_t mixed_width = 0;       // the wider of value_dim and query_dim

  Floats residual;    // [rows, hidden]
  Floats projection;  // [rows, projection_width]
  Floats mixed;       // [rows, mixed_width]
  Floats gated;       // [rows, intermediate]
  Floats partial;     // [rows and KV splits of split spans, n_heads, head_dim + 2]  weighted V, maximum, sum
  Floats rotary;      // [rows, rotary_dim]  cosines, then sines
  Floats logits;      // [outputs, vocab]  edited
  Floats tile_best;   // [outputs, tiles of the head]
  // Of a screened head.
  Floats floors;                       // [outputs, panels]
  Floats ceilings;                     // [outputs, panels]
  std::vector<std::uint8_t> selected;  // [outputs, panels]  to be recomputed
};

// The left side of a product, where it isn't already there in the right type and depth.
struct Operand {
  std::vector<float> floats;
  std::vector<std::uint16_t> bf16;
};

using PackedBlock = std::vector<std::uint16_t, AlignedAllocator<std::uint16_t>>;

// A worker's own memory.
struct Scratch {
  std::vector<float> staged;               // [rows of a group, depth]
  std::vector<std::uint16_t> staged_bf16;  // the same, rounded
  std::uint64_t staged_step = 0;           // whose activations these are
  std::uint32_t staged_op = 0;
  std::uint32_t staged_rows = 0;
  std::vector<float> tile;  // [rows of a group, columns of a tile]
  std::vector<float> head;  // what the mixers need for a head
  // A screened head.
  std::vector<ScreenOperand> operands;  // [rows of a group]
  std::vector<ScreenRow> screen_rows;   // the same
  std::uint64_t operands_step = 0;
  std::uint32_t operands_rows = 0;
  std::vector<float> lower, upper;    // [rows of a group, columns of a tile]
  std::vector<bool> wanted;           // [panels that were skimmed]
  std::uint64_t judged_step = 0;      // for which it was decided
  std::uint32_t judged_rows = 0;      // whether
  bool pays_to_screen = true;         // the columns that weren't skimmed
  std::size_t panels_recomputed = 0;  // of the head, in this step so far
  std::size_t panels_left = 0;        // of its copy, since screening didn't pay, in this step so far
  // Attention over a long span.
  std::vector<std::uint32_t> limits;  // [queries]  positions that each sees, ascending
  PackedBlock packed_keys;            // of a block of positions, as weights (kernels.h)
  PackedBlock packed_values;          // the same
  std::vector<float> scores;          // [queries, positions of a block]
  std::vector<float> products;        // [queries, head_dim up to a panel]
  Operand queries_operand;
  Operand scores_operand;
  DeltaScratch delta;
};

// What all tasks of a step share.
struct StepData {
  static constexpr std::size_t kNowhere = std::numeric_limits<std::size_t>::max();

  const model::Model* model = nullptr;
  const PackedWeights* weights = nullptr;
  const Kernels* kernels = nullptr;
  Sequences* sequences = nullptr;
  std::vector<std::vector<float>>
      conv_taps;  // [layers]  head by head [kernel, channels], as conv_silu takes them
  std::vector<float> rotary_frequencies;  // [rotary_dim / 2]
  Activations activations;

  // Of the step that runs.
  std::uint64_t number = 0;  // from 1
  const program::Program* program = nullptr;
  const program::Step* step = nullptr;
  program::StepResult* result = nullptr;
  std::vector<std::size_t> logits_at;   // [outputs]  where in result->logits, or kNowhere
  std::vector<std::size_t> partial_at;  // [spans]  where in activations.partial, in [n_heads, head_dim + 2]
  std::vector<std::uint32_t> head_tile_ends;  // [tiles of the head]
};

// What a task will read that no earlier task of the step writes, so that it may be fetched before its inputs are there:
// weights; the state of a V head.
struct Fetchable {
  std::span<const std::byte> bytes;
  std::optional<NextWeights> weights;  // what the kernel of the task before fetches of them
};

// One worker's way through the tasks of a step.
class Tasks {
 public:
  Tasks(StepData& data, Scratch& scratch)
      : d_(data),
        config_(data.model->config),
        program_(*data.program),
        step_(*data.step),
        k_(*data.kernels),
        a_(data.activations),
        s_(scratch) {}

  // If it computes a product, the weights of the worker's next task are fetched meanwhile.
  void run(const program::Task& task, NextWeights next);

  // Whether it has weights, and so fetches the next ones.
  bool has_weights(const program::Task& task) const;
  Fetchable fetchable(const program::Task& task) const;

 private:
  const program::RowGroup& group(const program::Task& task) const { return program_.groups[task.rows]; }
  const model::LayerWeights& layer(const program::Op& op) const { return d_.model->weights.layers[op.layer]; }
  const PackedOp& packed(const program::Op& op) const { return d_.weights->of(op.kind, op.layer); }
  program::Columns columns(const program::Op& op, const program::Task& task) const {
    return program_.tilings[op.tiling][task.part];
  }
  float* residual(std::uint32_t row) { return a_.residual.data() + row * config_.hidden_size; }
  float* projection(std::size_t row) { return a_.projection.data() + row * a_.projection_width; }
  float* mixed(std::size_t row) { return a_.mixed.data() + row * a_.mixed_width; }
  float inverse_rms(const float* x, std::size_t n) const;

  // Ops with weights, and the ends of a step (tasks.cpp).
  void read_embedding(std::size_t token, std::span<float> out) const;
  void embed(const program::Task& task);
  template <typename Row>
  void stage(const program::Task& task, std::size_t width, const PackedOp& weights, const Row& row_of);
  void stage_normed(const program::Task& task, const std::vector<float>& weight, const PackedOp& weights);
  void multiply(const PackedOp& weights, const program::Task& task, float* y, std::size_t ldy);
  void multiply(const PackedOp& weights, const PackedTile& tile, const program::RowGroup& group, float* y,
                std::size_t ldy);
  std::size_t multiply(const PackedOp& weights, const program::Task& task);
  void mix_in(const program::Op& op, const program::Task& task);
  void add_product(const program::Op& op, const program::Task& task, const Floats& input, std::size_t stride,
                   std::size_t width);
  void mlp_in(const program::Op& op, const program::Task& task);
  void head(const program::Op& op, const program::Task& task);
  void sample(const program::Task& task);

  // A screened head (screened_head.cpp).
  void stage_operands(const program::Task& task);
  void screen(const program::Op& op, const program::Task& task);
  bool pays_to_screen(const program::Op& op, const program::Task& task);
  void leave_unscreened(const program::Op& op, const program::Task& task);
  void select(const program::Task& task);
  void recompute(const program::Op& op, const program::Task& task);
  std::size_t head_panels() const { return program::screen_panels(config_.vocab_size); }

  // Mixers (delta_net.cpp, attention.cpp).
  void delta_net(const program::Op& op, const program::Task& task);
  void delta_rows(const program::Op& op, const program::Task& task, const program::Span& rows, bool is_chunk);
  void fetch_heads(std::size_t row, std::size_t part);
  Fetchable fetchable_state(const program::Op& op, const program::Task& task) const;
  void convolve(const program::Op& op, const program::Span& span, std::size_t channel, std::size_t size,
                float* out);
  void l2_normalize(float* x, std::size_t n, float scale) const;
  void rotate(float* head, std::uint32_t row) const;
  void kv_append(const program::Op& op, const program::Task& task);
  void attention(const program::Op& op, const program::Task& task);
  struct Queries;
  std::size_t queries_per_kv_head() const { return config_.n_heads / config_.n_kv_heads; }
  Queries make_queries(const program::Op& op, const program::Task& task, std::uint32_t begin,
                       std::uint32_t end);
  void attend_short(const program::Op& op, const program::Task& task, const Queries& queries);
  void attend_long(const program::Op& op, const program::Task& task, const Queries& queries);
  void attend_block(const Queries& queries, const void* rows, std::size_t begin, std::size_t end,
                    std::size_t first, std::size_t n);
  const void* as_operand(const float* x, std::size_t rows, std::size_t n, std::size_t depth,
                         Operand& to) const;
  const void* operand_row(const void* operand, std::size_t element) const;
  void finish(const program::Task& task, std::uint32_t begin, const Queries& queries);
  void make_query(const program::Op& op, std::uint32_t row, std::size_t head, float* to);
  float* partial_of(std::uint32_t row, std::size_t split, std::size_t head);
  void finish_head(std::uint32_t row, std::size_t head, float* out, float sum);
  void merge(const program::Task& task);

  // Query vectors of one KV head, of rows of one span, and their running softmax.
  struct Queries {
    std::size_t n = 0;
    std::uint32_t span = 0;
    float* query = nullptr;    // [n, head_dim]  scaled
    float* out = nullptr;      // [n, head_dim]  weighted values, not yet divided by the sum
    float* maximum = nullptr;  // [n]
    float* sum = nullptr;      // [n]
    float* factor = nullptr;   // [n]  what the last block's maximum made of the earlier ones' weights
  };

  StepData& d_;
  const model::ModelConfig& config_;
  const program::Program& program_;
  const program::Step& step_;
  const Kernels& k_;
  Activations& a_;
  Scratch& s_;
  NextWeights next_;
};

// What `choice` does to the logits of a tile before it chooses: edits, and a mask over what is padding.
void edit(const program::Choice& choice, program::Columns tile, float* logits);

// Grows `values` to at least n.
template <typename Values>
void at_least(Values& values, std::size_t n) {
  if (values.size() < n) values.resize(n);
}

}  // namespace sluice::cpu
