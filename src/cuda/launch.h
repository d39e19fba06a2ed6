// One launch as host and device both see it: plain structs, pointers into device memory unless a comment says 'mapped'
// (pinned memory of the host that the kernel reads and writes). Nothing here is made by one side alone: plan.h fills the ops
// and the weights, the backend the rest, the kernels (device/*.cu) read it.
//
// Shapes stand in brackets, row-major. Widths are padded so that 16-byte accesses are aligned:
//
//   depth        of a product: to a multiple of kChunk = 32 weights; weights and activations are zero there
//   key_stride   key_head_dim to a multiple of 4   (fp32 state)
//   kv_stride    head_dim to a multiple of 8       (16-bit KV cache)
//   depth of hidden, intermediate and query_dim: of residuals and of operands that ops pass on; zeros behind the width
//
// Weights. A matrix [rows, depth] of bf16 lies in panels of 8 rows and, inside a panel, in chunks of 32 columns:
//
//   element (r, k) at  ((r / 8 · depth / 32 + k / 32) · 8 + r % 8) · 32 + k % 32
//
// so a warp's 32 lanes copy a chunk of a panel, 512 consecutive bytes, 16 bytes each, and lane 4 g + t holds what it needs
// as B operand of two mma.m16n8k16 (columns g, eight consecutive k). Activations stand in shared memory in the same order with
// the step's rows in the place of the matrix's. A block takes its rows eight at a time, from its own first one on: a row's next panel is
// as far away for each lane, whichever row of the first one it began with. So every byte of the weights is read once in a decode step.
//
// Projections. Rows of mix_in's matrix, which are columns of the projection buffer:
//   DeltaNet   Q | K | V | b | a | z          Attention   Q | K | V | gate
// (program::projection_layout has another order.) What the mixer needs last stands last: mix_in is two ops, and the mixer waits
// for the first one only.
//
// Ops. A block owns an equal range of every op's units, begin = ⌊units · block ÷ blocks⌋. It runs all ops in order, and arrives
// once at each op's counter. So an op that waits for `arrivals from all blocks at counter c` has waited for all ops before c
// too.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#define SLUICE_DEVICE __host__ __device__
#else
#define SLUICE_DEVICE
#endif

namespace sluice::cuda {

inline constexpr std::uint32_t kMostDecodeRows = 8;     // rows of a decode launch
inline constexpr std::uint32_t kMostLaunchTokens = 32;  // steps of a launch
inline constexpr std::uint32_t kMostTopK = 64;
inline constexpr std::uint32_t kMostStopTokens = 16;

inline constexpr std::uint32_t kComputeWarps = 8;
inline constexpr std::uint32_t kComputeThreads = 32 * kComputeWarps;
inline constexpr std::uint32_t kDecodeThreads = kComputeThreads + 32;  // and the control warp, the last one

inline constexpr std::uint32_t kPanel = 8;   // rows of a weight panel
inline constexpr std::uint32_t kChunk = 32;  // columns of it that lie together
inline constexpr std::uint32_t kChunkBytes = kPanel * kChunk * 2;

// Positions of a KV page, which are also those of a split of decode's attention: a constant, so that the order of sums depends
// on nothing else.
inline constexpr std::uint32_t kKvPage = 64;
inline constexpr std::uint32_t kMostHeadDim = 256;
inline constexpr std::uint32_t kHeadStride =
    kMostHeadDim + 16;  // of a query in shared memory: two halves, in different banks
inline constexpr std::uint32_t kMostKeyHeadDim = 128;
inline constexpr std::uint32_t kMostValueHeadDim = 128;
inline constexpr std::uint32_t kMostConvKernel = 4;

inline constexpr std::uint32_t kNone = 0xFFFFFFFFU;

SLUICE_DEVICE constexpr std::uint32_t round_up(std::uint32_t value, std::uint32_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Where element (row, k) of a packed matrix stands; `chunks` = depth / 32.
SLUICE_DEVICE constexpr std::size_t packed_index(std::uint32_t row, std::uint32_t k, std::uint32_t chunks) {
  return ((std::size_t{row / kPanel} * chunks + k / kChunk) * kPanel + row % kPanel) * kChunk + k % kChunk;
}

SLUICE_DEVICE constexpr std::uint32_t larger(std::uint32_t a, std::uint32_t b) {
  return a < b ? b : a;
}

struct ModelShape {
  std::uint32_t vocab, hidden, intermediate;
  std::uint32_t n_heads, n_kv_heads, head_dim, rotary_dim;
  std::uint32_t n_key_heads, n_value_heads, key_head_dim, value_head_dim, conv_kernel;
  std::uint32_t n_delta_layers, n_attention_layers;
  float eps;

  SLUICE_DEVICE constexpr std::uint32_t key_dim() const { return n_key_heads * key_head_dim; }
  SLUICE_DEVICE constexpr std::uint32_t value_dim() const { return n_value_heads * value_head_dim; }
  SLUICE_DEVICE constexpr std::uint32_t conv_dim() const { return 2 * key_dim() + value_dim(); }
  SLUICE_DEVICE constexpr std::uint32_t query_dim() const { return n_heads * head_dim; }
  SLUICE_DEVICE constexpr std::uint32_t kv_dim() const { return n_kv_heads * head_dim; }
  SLUICE_DEVICE constexpr std::uint32_t residual_stride() const { return round_up(hidden, kChunk); }
  SLUICE_DEVICE constexpr std::uint32_t gated_stride() const { return round_up(intermediate, kChunk); }
  SLUICE_DEVICE constexpr std::uint32_t attended_stride() const { return round_up(query_dim(), kChunk); }
  SLUICE_DEVICE constexpr std::uint32_t key_stride() const { return round_up(key_head_dim, 4); }
  SLUICE_DEVICE constexpr std::uint32_t kv_stride() const { return round_up(head_dim, 8); }
  // First columns of a DeltaNet layer's projection: Q at 0, then
  SLUICE_DEVICE constexpr std::uint32_t k_begin() const { return key_dim(); }
  SLUICE_DEVICE constexpr std::uint32_t v_begin() const { return 2 * key_dim(); }
  SLUICE_DEVICE constexpr std::uint32_t b_begin() const { return conv_dim(); }
  SLUICE_DEVICE constexpr std::uint32_t a_begin() const { return conv_dim() + n_value_heads; }
  SLUICE_DEVICE constexpr std::uint32_t z_begin() const { return conv_dim() + 2 * n_value_heads; }
  SLUICE_DEVICE constexpr std::uint32_t delta_width() const { return z_begin() + value_dim(); }
  // Of an attention layer's: Q at 0, then
  SLUICE_DEVICE constexpr std::uint32_t key_begin() const { return query_dim(); }
  SLUICE_DEVICE constexpr std::uint32_t value_begin() const { return query_dim() + kv_dim(); }
  SLUICE_DEVICE constexpr std::uint32_t gate_begin() const { return query_dim() + 2 * kv_dim(); }
  SLUICE_DEVICE constexpr std::uint32_t attention_width() const { return gate_begin() + query_dim(); }
  // Of Buffers::projection and Buffers::mixed, where layers of either kind leave theirs.
  SLUICE_DEVICE constexpr std::uint32_t projection_stride() const {
    return larger(delta_width(), attention_width());
  }
  SLUICE_DEVICE constexpr std::uint32_t mixed_stride() const { return larger(value_dim(), query_dim()); }
};

// Vectors of a layer, fp32; those of the other kind of layer are null.
struct LayerVectors {
  const float* mix_norm;  // [residual_stride]  zeros behind hidden
  const float* mlp_norm;  // the same
  const float*
      conv;  // [conv_dim, kMostConvKernel]  the last of conv_kernel taps meets the current token; then zeros
  const float* decay;             // [n_value_heads]  -exp(A_log)
  const float* dt_bias;           // [n_value_heads]
  const float* delta_norm;        // [value_head_dim]
  const std::uint32_t* key_head;  // [n_value_heads]  the K head of a V head
  const float* q_norm;            // [head_dim]
  const float* k_norm;            // [head_dim]
};

enum class OpCode : std::uint32_t {
  kEmbed,      // residual = embedding[token]                                           units: hidden
  kMixIn,      // projection columns = inv_rms · (W · (x mix_norm)); SiLU of DeltaNet's z   units: rows of W
  kDeltaRule,  // conv, L2 norm, gates, delta rule → mixed, not yet normed              units: span × V head × four value columns
  kAttention,  // q and k norm, RoPE, KV append, softmax(QK)V of a page → partial       units: row × KV head × KV page
  kMerge,   // pages added up in order, output gate → attended                       units: row × head
  kMixOut,  // residual += W · (gated norm of mixed and SiLU(z), or attended)         units: rows of W
  kMlpIn,   // gated = SiLU(inv_rms gate) · inv_rms up                               units: pairs of rows of W
  kMlpOut,  // residual += W · gated                                                 units: rows of W
  kHead,    // logits of the rows with an output; edits; candidates                  units: rows of W
  kSample,  // the same candidates merged by every block                             no units
};

// Of a decode launch. Counter i belongs to op i: every block arrives there once a step.
struct alignas(16) Op {  // in whole vectors
  OpCode code;
  std::uint32_t layer;       // among all layers
  std::uint32_t kind_layer;  // among the layers of its kind: of state, conv state or KV
  std::uint32_t is_delta;    // layer kind: DeltaNet, else attention
  std::uint32_t wait;        // op whose counter must have n_blocks arrivals of this step; kNone: none
  std::uint32_t first_row;   // ops with weights: rows [first_row, first_row + n_rows) of the packed matrix
  std::uint32_t n_rows;
  std::uint32_t
      row_unit;  // rows that one block must have: 2 for kMlpIn (gate and up of an output alternate), else 1
  std::uint32_t chunks;         // depth / 32
  std::uint32_t width;          // depth before padding
  const std::uint16_t* weight;  // packed bf16
  const float*
      norm;  // multiplies the residual: [depth], zeros behind the width; the gated norm's: [value_head_dim]; or null

  // Has the input of the op before.
  SLUICE_DEVICE constexpr bool is_second_part() const { return code == OpCode::kMixIn && first_row != 0; }
};

// A span's rows are consecutive positions of one slot.
struct Span {
  std::uint32_t slot;
  std::uint32_t position;  // of its first row, in the launch's first step
  std::uint32_t first_row;
  std::uint32_t n_rows;
  std::uint32_t
      conv_parity;  // the half of conv_state that holds the slot's state now; the step writes the other half
};

// What happens to a row's logits.
enum class ChoiceKind : std::uint32_t {
  kNothing,  // the row has no output, or its logits alone are wanted
  kGreedy,
  kGumbel,  // all tokens; no top_p, no min_p
  kTopK,    // 1 to kMostTopK, then top_p and min_p among them
  kHost,    // by the host, from the logits: ends the launch with this step
};

// program::LogitEdit
struct Edit {
  std::int32_t token;
  float repeat;
  float add;
};

struct Row {
  std::int32_t token;  // of the first step; later ones are what was chosen
  std::uint32_t span;  // index
  ChoiceKind choice;
  std::uint32_t
      logits_at;  // row of Buffers::logits to write its (unedited) logits to; kNone: not wanted. Each step overwrites
  float temperature;
  float top_p;
  float min_p;
  std::uint32_t top_k;
  std::uint64_t seed;
  std::uint64_t draw;        // of the first step; goes up by one a step
  std::uint32_t n_tokens;    // ids from here on can't be chosen
  std::uint32_t first_edit;  // in Launch::edits, sorted by token; the same in each step
  std::uint32_t n_edits;
};

// Buffers that ops pass on. Rows stand at the same place in every layer. Sized for the largest launch.
struct Buffers {
  float* residual;    // [rows, residual_stride]
  float* projection;  // [rows, projection_stride]
  float*
      mixed;  // [rows, mixed_stride]  of DeltaNet, before the gated norm; prefill's of attention too, after the gate
  // bf16, as mix_out and mlp_out want it; prefill has its own.
  std::uint16_t* attended;  // [rows, attended_stride]
  std::uint16_t* gated;     // [rows, gated_stride]
  float* partial;           // [rows, n_heads, max_pages, head_dim]  weighted V of a KV page
  float* partial_sums;      // [rows, n_heads, max_pages, 2]  maximum of its scores, sum of their exponentials
  float* logits;            // [outputs, vocab]
  std::uint32_t residual_stride;
  std::uint32_t projection_stride;
  std::uint32_t mixed_stride;
  std::uint32_t attended_stride;
  std::uint32_t gated_stride;
  std::uint32_t max_pages;  // of a slot
};

struct States {
  float* delta;  // [n_delta_layers, slots, n_value_heads, value_head_dim, key_stride]  S transposed
  float* conv;   // [2, n_delta_layers, slots, conv_kernel - 1, conv_dim]  inputs, oldest first; Q | K | V
  std::uint16_t*
      kv;  // [pages, n_attention_layers, K then V, n_kv_heads, kKvPage, kv_stride]  bf16; fp16 on sm_75
  const std::uint32_t*
      pages;  // [slots, max_pages]  page of each kKvPage positions; reserved before the launch
  std::uint32_t n_slots;
};

// A block's best of a row: ranks by key, then by the lower token.
struct Candidate {
  float key;
  std::uint32_t token;  // kNone: no candidate
};

// Mapped. The host clears `task` before a launch; the kernel writes it once, when a wait takes too long.
struct AbortRecord {
  std::uint32_t is_set;  // released last
  std::uint32_t block;
  std::uint32_t step;
  std::uint32_t task;  // index of the op that waited
  std::uint32_t counter;
  std::uint32_t seen;
  std::uint32_t target;
};

// Why a launch made no more steps.
enum class Ending : std::uint32_t {
  kRunning,
  kAllSteps,
  kStopWord,
  kStopToken,
  kNoToken,
  kHostChoice,
  kTime
};

// Mapped. Cleared by the host before a launch.
struct TokenRing {
  std::uint32_t
      n_steps;  // released (system scope) after the step's tokens and `ending`: so many steps are complete
  Ending ending;
  std::int32_t tokens[kMostLaunchTokens][kMostDecodeRows];  // [step][row]; -1: nothing chosen
};

// What only the last step leaves out of the ring stands in Buffers::logits.
struct Control {
  std::uint32_t* counters;       // [ops] lines of 128 bytes; zero when the launch begins
  std::uint32_t* next_counters;  // the same of the next launch, which this one clears: two sets take turns
  std::uint32_t n_counters;      // lines to clear
  std::uint32_t* abort;          // a word; not zero: give up. Zero when the launch begins
  Candidate* candidates;         // [rows, kMostTopK, blocks]
  std::uint32_t* decision;       // a word: block 0's for all blocks: go on after this step (0) or an Ending
  const std::uint32_t* stop;     // mapped word; not zero: end with this step. Null: never
  TokenRing* ring;               // mapped
  AbortRecord* record;           // mapped
  std::uint64_t wait_ns;         // that a wait may take
  std::uint64_t launch_ns;       // after so long, no further step
};

// Sums of squares of a row of the residual, 16 a warp.
inline constexpr std::uint32_t kSquareSums = kComputeWarps * 16;

// Dynamic shared memory of a decode block: byte offsets. `shared_layout` makes it.
struct SharedLayout {
  std::uint32_t shares;       // Range [ops]: the block's units of each, or rows of its matrix
  std::uint32_t activations;  // bf16 [chunks of the deepest op, rows, 32]; mixers use the place for theirs
  std::uint32_t partials;     // fp32 [2, kBatchPanels, kComputeWarps, 8 rows, 8 columns]
  std::uint32_t lists;        // Candidate [rows, kMostTopK]; before that fp32 [rows, kSquareSums]
  std::uint32_t ring;         // [kComputeWarps, kRingStages, ring_slots, kChunkBytes]
  std::uint32_t ring_slots;   // chunks of a stage
  std::uint32_t bytes;        // of all
};

struct Launch {
  ModelShape model;
  Buffers buffers;
  States states;
  Control control;
  SharedLayout shared;
  const Op* ops;                   // [n_ops]
  const LayerVectors* layers;      // [layers]
  const std::uint16_t* embedding;  // packed [vocab, hidden]; the head's if tied
  const float* rotary;             // [context, rotary_dim]  cosines of a position's angles, then sines
  const Row* rows;                 // [n_rows]
  const Span* spans;               // [n_spans]
  const Edit* edits;
  std::uint32_t n_ops;
  std::uint32_t n_rows;
  std::uint32_t n_spans;
  std::uint32_t
      n_steps;  // at most kMostLaunchTokens; more than 1: every span has one row, and every row a choice
  std::uint32_t n_stop_tokens;
  std::int32_t stop_tokens[kMostStopTokens];  // one of them chosen in any row: end with this step
};

inline constexpr std::uint32_t kCounterWords = 32;  // of a line
inline constexpr std::uint32_t kBatchPanels = 4;    // panels whose partial sums change hands at once
inline constexpr std::uint32_t kRingStages = 4;

// Ops of a decode launch: mix_in's two, at most two of the mixer, mix_out, mlp_in and mlp_out; embed, head, sample.
SLUICE_DEVICE constexpr std::uint32_t most_decode_ops(const ModelShape& model) {
  return 7 * (model.n_delta_layers + model.n_attention_layers) + 3;
}

// What a decode block of `n_rows` rows keeps in shared memory beside its ring.
SLUICE_DEVICE constexpr SharedLayout shared_layout(const ModelShape& model, std::uint32_t n_rows,
                                                   std::uint32_t available) {
  const std::uint32_t depth = round_up(
      larger(larger(model.hidden, model.intermediate), larger(model.value_dim(), model.query_dim())), kChunk);
  const std::uint32_t group = model.n_kv_heads == 0 ? 0 : model.n_heads / model.n_kv_heads;
  // Queries, weighted values, scores, maximum and sum; new keys and values. And queries, keys and gates of a span.
  const std::uint32_t attention = group * (2 * kHeadStride + kKvPage) * 4 + n_rows * 2 * kMostHeadDim * 2;
  const std::uint32_t delta = n_rows * (2 * kMostKeyHeadDim + 4) * 4;
  SharedLayout layout{};
  layout.shares = 1024;  // what is of a fixed size stands before (device/block.h)
  layout.activations = round_up(layout.shares + most_decode_ops(model) * 8, 128);
  const std::uint32_t area = larger(depth * 2 * n_rows, larger(attention, delta));
  layout.partials = round_up(layout.activations + area, 128);
  layout.lists = layout.partials + 2 * kBatchPanels * kComputeWarps * 64 * 4;
  layout.ring =
      round_up(layout.lists + n_rows * kMostTopK * static_cast<std::uint32_t>(sizeof(Candidate)), 128);
  const std::uint32_t of_slot = kComputeWarps * kRingStages * kChunkBytes;
  layout.ring_slots =
      layout.ring + of_slot > available ? 0 : (available - layout.ring) / of_slot;  // 0: it doesn't fit
  layout.bytes = layout.ring + layout.ring_slots * of_slot;
  return layout;
}

// Mixed steps (device/prefill.h). A long span's rows are cut into blocks of kRowBlock from its first row on.

inline constexpr std::uint32_t kRowBlock = 64;
inline constexpr std::uint32_t kRowGroup =
    8;  // rows that one thread block takes at once, a warp each, where there is no product
// Counters of an op, for each row block: its operand is there; it is done.
inline constexpr std::uint32_t kOpStages = 2;
// Dynamic shared memory of a mixed launch: this, or what its decode launches need, if that is more. All that sm_75 has.
inline constexpr std::uint32_t kMixedShared = 64 << 10;

struct RowBlock {
  std::uint32_t span;
  std::uint32_t index;      // among the span's blocks
  std::uint32_t first_row;  // of the step
  std::uint32_t n_rows;
};

// A step with long spans. Its short ones are decode launches of one step each, of up to kMostDecodeRows rows in whole spans; what
// they make is what the decode entry point makes. Rows with an output in long spans become decode launches that have only a
// head and the sampling, whose residual is `output_residual`.
struct MixedLaunch {
  Launch prefill;                // the long spans' rows; ops as for decode, those of the head are passed over
  const Launch* groups;          // [n_groups]  short spans
  const Launch* heads;           // [n_heads]  the head waits for nothing
  const RowBlock* blocks;        // [n_blocks]  in row order
  const std::uint32_t* outputs;  // [n_outputs]  rows
  float* output_residual;        // [n_outputs, residual_stride]
  // Operands of products, packed as weights are: kRowBlock rows for each block. Zero when allocated.
  std::uint16_t* operand;       // [n_blocks, kRowBlock, operand_depth]
  std::uint16_t* gated;         // [n_blocks, kRowBlock, round_up(intermediate, kChunk)]
  std::uint32_t operand_depth;  // the largest of hidden, value_dim and query_dim, to a multiple of kChunk
  std::uint32_t n_groups;
  std::uint32_t n_heads;
  std::uint32_t n_blocks;
  std::uint32_t n_outputs;
};

// MixedLaunch::operand_depth
SLUICE_DEVICE constexpr std::uint32_t operand_depth(const ModelShape& model) {
  return round_up(larger(model.hidden, model.mixed_stride()), kChunk);
}

// Counters of prefill.control: kOpStages for each op and row block, and one for the outputs.
SLUICE_DEVICE constexpr std::uint32_t mixed_counters(std::uint32_t n_ops, std::uint32_t n_blocks) {
  return n_ops * kOpStages * n_blocks + 1;
}

}  // namespace sluice::cuda
