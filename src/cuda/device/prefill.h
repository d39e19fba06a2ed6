// Rows of long spans through all layers, in one launch beside what else the step has.
//
// Ops follow each other as in the Program; an op's tasks stand in order of row blocks, and task i of all is thread block
// i mod gridDim's. A task waits for row blocks, not for ops: counters are kept for each (op, row block). Everything that
// a task waits for stands before it in the list and every block goes through its tasks in order, so any grid gets to the end. No
// task's arithmetic depends on the grid.
//
// An op is up to two stages. The first makes a product's operand in bf16: normed rows (mix_in, mlp_in), rows after the gated norm
// or the gate (mix_out); for attention it appends keys and values to the cache. The second is the op itself.
#pragma once

#include "cuda/device/block.h"
#include "cuda/device/delta_chunk.h"
#include "cuda/device/flash_attention.h"
#include "cuda/device/gemm_tile.h"

namespace sluice::cuda::device {

union TileShared {
  GemmShared gemm;
  DeltaShared delta;
  FlashShared flash;
};
inline constexpr std::uint32_t kTileSharedBegin = 1024;  // behind BlockState
static_assert(kTileSharedBegin + sizeof(TileShared) <= kMixedShared);

enum Stage : std::uint32_t { kPrepared, kDone };
static_assert(kDone + 1 == kOpStages);

class Prefill {
 public:
  __device__ Prefill(const MixedLaunch& mixed, const Block& block)
      : mixed_(mixed),
        launch_(mixed.prefill),
        model_(mixed.prefill.model),
        buffers_(mixed.prefill.buffers),
        block_(block),
        shared_(*reinterpret_cast<TileShared*>(shared_memory + kTileSharedBegin)) {}

  // All compute threads. False: a wait took too long.
  __device__ bool run() {
    for (op_ = 0; op_ < launch_.n_ops; ++op_) {
      if (!run_op(launch_.ops[op_])) return false;
    }
    return gather_outputs();
  }

  // The same, of any thread block: all outputs' residuals are there.
  __device__ bool wait_for_outputs() { return wait(outputs_counter(), mixed_.n_outputs); }

 private:
  // Tasks.

  // The first of `n` tasks that is this block's; the next ones are gridDim further on.
  __device__ std::uint32_t first_task(std::uint32_t n) {
    const std::uint32_t first = (blockIdx.x + gridDim.x - n_before_ % gridDim.x) % gridDim.x;
    n_before_ += n;
    return first;
  }

  __device__ std::uint32_t counter(std::uint32_t op, std::uint32_t stage, std::uint32_t row_block) const {
    return (op * kOpStages + stage) * mixed_.n_blocks + row_block;
  }

  // Until the counter has had `target` arrivals. All compute threads get the same answer, from the barrier itself: one that read it from
  // shared memory might see the next wait's, and leave the others waiting for it.
  __device__ __noinline__ bool wait(std::uint32_t index, std::uint32_t target) {
    bool gives_up = false;
    if (threadIdx.x == 0) {
      const Control& control = launch_.control;
      constexpr std::uint32_t kLooksBetween =
          64;  // looks at the counter between those at the abort word and the clock
      std::uint64_t begin = 0;
      for (std::uint32_t looks = 1;; ++looks) {
        const std::uint32_t seen = load_acquire(control.counters + std::size_t{index} * kCounterWords);
        if (seen >= target) break;
        if (looks % kLooksBetween != 0) continue;
        const std::uint64_t now = nanoseconds();
        if (begin == 0) begin = now;
        const bool is_late = now - begin > control.wait_ns;
        if (is_late) give_up(block_, op_, index, seen, target);
        if (is_late || load_relaxed(control.abort) != 0) {
          block_.state().gave_up = 1;
          gives_up = true;
          break;
        }
      }
    }
    return !barrier_or(kTileBarrier, kComputeThreads, gives_up);
  }

  // After a task's last output.
  __device__ void signal(std::uint32_t index) const {
    tile_sync();
    if (threadIdx.x == 0) arrive_release(launch_.control.counters + std::size_t{index} * kCounterWords);
  }

  __device__ static std::uint32_t groups_of(const RowBlock& rows) {
    return (rows.n_rows + kRowGroup - 1) / kRowGroup;
  }

  // Row groups: a row for each warp.

  // Calls make(row block, row in it) in every warp that has one.
  template <typename Ready, typename Make>
  __device__ bool for_each_row(std::uint32_t stage, const Ready& ready, const Make& make) {
    std::uint32_t n = 0;
    for (std::uint32_t b = 0; b < mixed_.n_blocks; ++b) n += groups_of(mixed_.blocks[b]);
    std::uint32_t b = 0;
    std::uint32_t before = 0;
    for (std::uint32_t task = first_task(n); task < n; task += gridDim.x) {
      while (task - before >= groups_of(mixed_.blocks[b])) before += groups_of(mixed_.blocks[b++]);
      if (!ready(b)) return false;
      const std::uint32_t row = (task - before) * kRowGroup + block_.warp;
      if (row < mixed_.blocks[b].n_rows) make(b, row);
      signal(counter(op_, stage, b));
    }
    return true;
  }

  __device__ bool embed() {
    residual_op_ = op_;
    const auto make = [&](std::uint32_t b, std::uint32_t i) {
      const std::uint32_t row = mixed_.blocks[b].first_row + i;
      const auto token = static_cast<std::uint32_t>(launch_.rows[row].token);
      const std::uint32_t chunks = round_up(model_.hidden, kChunk) / kChunk;
      float* const to = residual(row);
      for (std::uint32_t k = block_.lane; k < model_.residual_stride(); k += kWarp)
        to[k] = from_bf16(launch_.embedding[packed_index(token, k, chunks)]);
    };
    return for_each_row(kDone, [](std::uint32_t) { return true; }, make);
  }

  __device__ bool residual_is_there(std::uint32_t b) {
    const Op& op = launch_.ops[residual_op_];
    return wait(counter(residual_op_, kDone, b),
                op.code == OpCode::kEmbed ? groups_of(mixed_.blocks[b]) : tiles_of(op.n_rows));
  }

  // rms_norm(residual) · w.
  __device__ bool prepare_norm(const Op& op) {
    const auto make = [&](std::uint32_t b, std::uint32_t i) {
      const float* const x = residual(mixed_.blocks[b].first_row + i);
      const float inverse = inverse_rms(x, op.width);
      std::uint16_t* const to = operand(b);
      for (std::uint32_t k = block_.lane; k < op.chunks * kChunk; k += kWarp)
        to[packed_index(i, k, op.chunks)] =
            k < op.width ? to_bf16(load_shared_result(x + k) * inverse * op.norm[k]) : 0;
    };
    return for_each_row(kPrepared, [&](std::uint32_t b) { return residual_is_there(b); }, make);
  }

  // What mix_out multiplies: rms_norm(o) · w · SiLU(z) by V heads, or attention's output as it is.
  __device__ bool prepare_mixed(const Op& op) {
    const std::uint32_t mix = mix_;
    const auto ready = [&](std::uint32_t b) { return wait(counter(mix, kDone, b), mix_tasks(b)); };
    const auto make = [&](std::uint32_t b, std::uint32_t i) {
      const std::uint32_t row = mixed_.blocks[b].first_row + i;
      const float* const x = mixed_row(row);
      std::uint16_t* const to = operand(b);
      const std::uint32_t size = model_.value_head_dim;
      for (std::uint32_t head = 0; op.is_delta != 0 && head < model_.n_value_heads; ++head) {
        const float inverse = inverse_rms(x + head * size, size);
        const float* const z = projection(row) + model_.z_begin() + head * size;
        for (std::uint32_t k = block_.lane; k < size; k += kWarp)
          to[packed_index(i, head * size + k, op.chunks)] =
              to_bf16(load_shared_result(x + head * size + k) * inverse * op.norm[k] *
                      silu(load_shared_result(z + k)));
      }
      for (std::uint32_t k = block_.lane + (op.is_delta != 0 ? op.width : 0); k < op.chunks * kChunk;
           k += kWarp)
        to[packed_index(i, k, op.chunks)] = k < op.width ? to_bf16(load_shared_result(x + k)) : 0;
    };
    return for_each_row(kPrepared, ready, make);
  }

  // A warp.
  __device__ float inverse_rms(const float* x, std::uint32_t n) const {
    float squares = 0;
    for (std::uint32_t k = block_.lane; k < n; k += kWarp) {
      const float value = load_shared_result(x + k);
      squares = fmaf(value, value, squares);
    }
    return 1.0F / sqrtf(warp_sum(squares) / static_cast<float>(n) + model_.eps);
  }

  // Products.

  __device__ static std::uint32_t tiles_of(std::uint32_t columns) {
    return (columns + kTileColumns - 1) / kTileColumns;
  }

  // mix_in is all of the projection, though the op may have its first part only.
  __device__ std::uint32_t columns_of(const Op& op) const {
    if (op.code != OpCode::kMixIn) return op.n_rows;
    return op.is_delta != 0 ? model_.delta_width() : model_.attention_width();
  }

  __device__ bool product(const Op& op) {
    const std::uint32_t columns = columns_of(op);
    const std::uint32_t tiles = tiles_of(columns);
    const std::uint32_t n = mixed_.n_blocks * tiles;
    const bool is_of_gated = op.code == OpCode::kMlpOut;  // whose operand mlp_in has left
    for (std::uint32_t task = first_task(n); task < n; task += gridDim.x) {
      const std::uint32_t b = task / tiles;
      const RowBlock& rows = mixed_.blocks[b];
      const std::uint32_t first_column = task % tiles * kTileColumns;
      if (!(is_of_gated ? wait(counter(op_ - 1, kDone, b), tiles_of(launch_.ops[op_ - 1].n_rows))
                        : wait(counter(op_, kPrepared, b), groups_of(rows))))
        return false;
      const GemmOperands operands{is_of_gated ? gated(b) : operand(b), op.weight, columns, op.chunks};
      GemmSums sums;
      gemm_tile(shared_.gemm, operands, first_column, sums);
      for_each_pair(operands, rows.n_rows, first_column, sums,
                    [&](std::uint32_t row, std::uint32_t column, float first, float second) {
                      finish_pair(op, b, row, column, first, second, column + 1 < columns);
                    });
      signal(counter(op_, kDone, b));
    }
    if (op.code == OpCode::kMixOut || op.code == OpCode::kMlpOut) residual_op_ = op_;
    return true;
  }

  // Sums of a row at an even column and the next.
  __device__ void finish_pair(const Op& op, std::uint32_t b, std::uint32_t i, std::uint32_t column,
                              float first, float second, bool has_second) const {
    const std::uint32_t row = mixed_.blocks[b].first_row + i;
    if (op.code == OpCode::kMlpIn) {  // gate and up of an output alternate
      gated(b)[packed_index(i, column / 2, gated_chunks())] = to_bf16(silu(first) * second);
      return;
    }
    float* const to = (op.code == OpCode::kMixIn ? projection(row) : residual(row)) + column;
    if (op.code != OpCode::kMixIn) {
      first += load_shared_result(to);
      if (has_second) second += load_shared_result(to + 1);
    }
    to[0] = first;
    if (has_second) to[1] = second;
  }

  __device__ std::uint32_t gated_chunks() const { return round_up(model_.intermediate, kChunk) / kChunk; }
  __device__ std::uint16_t* gated(std::uint32_t b) const {
    return mixed_.gated + std::size_t{b} * kRowBlock * gated_chunks() * kChunk;
  }

  // DeltaNet. A task is a span and columns of a V head, chunk after chunk; or a span's inputs that the next step's convolution needs.

  __device__ std::uint32_t column_blocks() const {
    return (model_.value_head_dim + kDeltaColumns - 1) / kDeltaColumns;
  }

  // Arrivals at the mixer's counter of a row block.
  __device__ std::uint32_t mix_tasks(std::uint32_t b) const {
    const RowBlock& rows = mixed_.blocks[b];
    if (launch_.ops[mix_].code == OpCode::kAttention) return model_.n_kv_heads * query_tasks(rows);
    const bool is_last = rows.index * kRowBlock + rows.n_rows == launch_.spans[rows.span].n_rows;
    return model_.n_value_heads * column_blocks() * ((rows.n_rows + kDeltaChunk - 1) / kDeltaChunk) +
           (is_last ? 1 : 0);
  }

  __device__ std::uint32_t first_block(std::uint32_t span) const {
    std::uint32_t b = 0;
    while (mixed_.blocks[b].span != span) ++b;
    return b;
  }

  __device__ bool projection_is_there(std::uint32_t b) {
    return wait(counter(mix_in_, kDone, b), tiles_of(columns_of(launch_.ops[mix_in_])));
  }

  __device__ bool delta_rule(const Op& op) {
    mix_ = op_;
    const std::uint32_t of_span = model_.n_value_heads * column_blocks() + 1;
    const std::uint32_t n = launch_.n_spans * of_span;
    for (std::uint32_t task = first_task(n); task < n; task += gridDim.x) {
      const std::uint32_t span = task / of_span;
      const std::uint32_t part = task % of_span;
      if (part + 1 == of_span) {
        if (!keep_inputs(op, span)) return false;
      } else if (!delta_columns(op, span, part / column_blocks(), part % column_blocks() * kDeltaColumns)) {
        return false;
      }
    }
    return true;
  }

  __device__ float* conv_state(const Op& op, const Span& span, std::uint32_t half) const {
    const std::size_t index =
        (std::size_t{half & 1U} * model_.n_delta_layers + op.kind_layer) * launch_.states.n_slots + span.slot;
    return launch_.states.conv + index * (model_.conv_kernel - 1) * model_.conv_dim();
  }

  // The last inputs join the state's other half. A long span has more rows than that.
  __device__ bool keep_inputs(const Op& op, std::uint32_t index) {
    const Span& span = launch_.spans[index];
    const std::uint32_t last = first_block(index) + (span.n_rows - 1) / kRowBlock;
    if (!projection_is_there(last)) return false;
    const std::uint32_t kept = model_.conv_kernel - 1;
    const std::uint32_t last_rows = mixed_.blocks[last].n_rows;
    if (kept > last_rows && !projection_is_there(last - 1)) return false;
    float* const to = conv_state(op, span, span.conv_parity ^ 1U);
    for (std::uint32_t i = threadIdx.x; i < kept * model_.conv_dim(); i += kComputeThreads)
      to[i] = load_shared_result(projection(span.first_row + span.n_rows - kept + i / model_.conv_dim()) +
                                 i % model_.conv_dim());
    signal(counter(op_, kDone, last));
    return true;
  }

  __device__ bool delta_columns(const Op& op, std::uint32_t index, std::uint32_t head,
                                std::uint32_t first_column) {
    DeltaShared& s = shared_.delta;
    const Span& span = launch_.spans[index];
    const LayerVectors& vectors = launch_.layers[op.layer];
    const std::uint32_t size = model_.key_head_dim;
    const std::uint32_t stride = model_.key_stride();
    const std::uint32_t n_columns = min(kDeltaColumns, model_.value_head_dim - first_column);
    const std::uint32_t width = 2 * size + n_columns;  // channels: of the query, the key, the value columns
    const std::uint32_t key_head = vectors.key_head[head];
    const auto channel_of = [&](std::uint32_t i) {
      if (i < size) return key_head * size + i;
      if (i < 2 * size) return model_.k_begin() + key_head * size + (i - size);
      return model_.v_begin() + head * model_.value_head_dim + first_column + (i - 2 * size);
    };
    const std::uint32_t kept = model_.conv_kernel - 1;
    float* const state =
        launch_.states.delta +
        (((std::size_t{op.kind_layer} * launch_.states.n_slots + span.slot) * model_.n_value_heads + head) *
             model_.value_head_dim +
         first_column) *
            stride;
    const float* const old_inputs = conv_state(op, span, span.conv_parity);
    for (std::uint32_t i = threadIdx.x; i < kDeltaColumns * stride; i += kComputeThreads)
      s.state[i / stride][i % stride] = i / stride < n_columns ? state[i] : 0.0F;
    for (std::uint32_t i = threadIdx.x; i < kept * width; i += kComputeThreads)
      s.tail[i / width][i % width] = old_inputs[i / width * model_.conv_dim() + channel_of(i % width)];

    const std::uint32_t begin = first_block(index);
    for (std::uint32_t first = 0; first < span.n_rows; first += kDeltaChunk) {
      const std::uint32_t b = begin + first / kRowBlock;
      if (!projection_is_there(b)) return false;  // and a barrier behind the loads above
      const std::uint32_t n_rows = min(kDeltaChunk, span.n_rows - first);
      const std::uint32_t row = span.first_row + first;
      // Each thread has channels of its own, whose inputs pass through registers.
      for (std::uint32_t i = threadIdx.x; i < 2 * stride + kDeltaColumns; i += kComputeThreads) {
        // Places: stride of the query, stride of the key, the columns.
        const bool is_value = i >= 2 * stride;
        const std::uint32_t at = is_value ? i - 2 * stride : i % stride;
        const bool is_there = is_value ? at < n_columns : at < size;
        const std::uint32_t in_tail = is_value ? 2 * size + at : i / stride * size + at;
        convolve(vectors.conv, is_there, is_there ? channel_of(in_tail) : 0, in_tail, row, n_rows,
                 [&](std::uint32_t r, float value) {
                   if (is_value) {
                     s.sums[r][at] = value;
                   } else {
                     s.rows[i < stride ? kDeltaChunk + r : r][at] = value;
                   }
                 });
      }
      if (threadIdx.x < kDeltaChunk) {
        const bool is_row = threadIdx.x < n_rows;
        const float* const in = projection(row + (is_row ? threadIdx.x : 0));
        s.beta[threadIdx.x] = is_row ? sigmoid(load_shared_result(in + model_.b_begin() + head)) : 0.0F;
        s.decay[threadIdx.x] =
            is_row ? expf(vectors.decay[head] *
                          softplus(load_shared_result(in + model_.a_begin() + head) + vectors.dt_bias[head]))
                   : 1.0F;
      }
      tile_sync();
      if (threadIdx.x == 0) delta_gates(s);
      __syncwarp();
      for (std::uint32_t r = block_.warp; r < 2 * kDeltaChunk; r += kComputeWarps)
        normalize(s.rows[r], size, r < kDeltaChunk);
      tile_sync();
      delta_chunk(s, stride, [&](std::uint32_t r, std::uint32_t column, float value) {
        if (r < n_rows && column < n_columns)
          mixed_row(row + r)[head * model_.value_head_dim + first_column + column] = value;
      });
      signal(counter(op_, kDone, b));
    }
    for (std::uint32_t i = threadIdx.x; i < n_columns * stride; i += kComputeThreads)
      state[i] = s.state[i / stride][i % stride];
    tile_sync();
    return true;
  }

  // SiLU of a channel's convolution, for the rows of a chunk; 0 for those that aren't there. Its last inputs become its column of
  // the tail.
  template <typename Use>
  __device__ void convolve(const float* taps, bool is_there, std::uint32_t channel, std::uint32_t in_tail,
                           std::uint32_t row, std::uint32_t n_rows, const Use& use) {
    DeltaShared& s = shared_.delta;
    const std::uint32_t kept = model_.conv_kernel - 1;
    float inputs[kMostConvKernel - 1];  // before the row, the newest first
    float weights[kMostConvKernel];     // of the row, then of these
#pragma unroll
    for (std::uint32_t i = 0; i < kMostConvKernel; ++i) {
      weights[i] = is_there && i <= kept ? taps[channel * kMostConvKernel + kept - i] : 0.0F;
      if (i < kMostConvKernel - 1) inputs[i] = is_there && i < kept ? s.tail[kept - 1 - i][in_tail] : 0.0F;
    }
    for (std::uint32_t r = 0; r < kDeltaChunk; ++r) {
      if (!is_there || r >= n_rows) {
        use(r, 0.0F);
        continue;
      }
      const float input = load_shared_result(projection(row + r) + channel);
      float sum = 0;
#pragma unroll
      for (std::uint32_t i = kMostConvKernel - 1; i > 0; --i) sum = fmaf(weights[i], inputs[i - 1], sum);
      sum = fmaf(weights[0], input, sum);
      use(r, silu(sum));
#pragma unroll
      for (std::uint32_t i = kMostConvKernel - 2; i > 0; --i) inputs[i] = inputs[i - 1];
      inputs[0] = input;
    }
#pragma unroll
    for (std::uint32_t i = 0; i < kMostConvKernel - 1; ++i)
      if (is_there && i < kept) s.tail[kept - 1 - i][in_tail] = inputs[i];
  }

  // A warp: a key, or a query, which is scaled too.
  __device__ void normalize(float* x, std::uint32_t n, bool is_key) const {
    float squares = 0;
    for (std::uint32_t k = block_.lane; k < n; k += kWarp) squares = fmaf(x[k], x[k], squares);
    const float scale = is_key ? 1.0F : 1.0F / sqrtf(static_cast<float>(n));
    const float inverse = scale / sqrtf(warp_sum(squares) + 1e-6F);
    for (std::uint32_t k = block_.lane; k < n; k += kWarp) x[k] *= inverse;
  }

  // Attention.

  __device__ std::uint32_t query_tasks(const RowBlock& rows) const {
    return (rows.n_rows * (model_.n_heads / model_.n_kv_heads) + kFlashQueries - 1) / kFlashQueries;
  }

  // Calls use(d, value) for the dimensions of a head that this lane has: normed, turned to its position.
  template <typename Use>
  __device__ void normed_head(const float* x, const float* norm, std::uint32_t position,
                              const Use& use) const {
    const std::uint32_t half = model_.rotary_dim / 2;
    const float inverse = inverse_rms(x, model_.head_dim);
    const float* const cosines = launch_.rotary + std::size_t{position} * model_.rotary_dim;
    const auto normed = [&](std::uint32_t d) { return load_shared_result(x + d) * inverse * norm[d]; };
    for (std::uint32_t d = block_.lane; d < model_.head_dim; d += kWarp) {
      if (d >= model_.rotary_dim) {
        use(d, normed(d));
      } else if (d < half) {
        use(d, fmaf(normed(d), cosines[d], -(normed(d + half) * cosines[half + d])));
      } else {
        use(d, fmaf(normed(d), cosines[d - half], normed(d - half) * cosines[d]));
      }
    }
  }

  __device__ std::size_t head_elements() const { return std::size_t{kKvPage} * model_.kv_stride(); }

  __device__ FlashCache cache_of(const Op& op, const Span& span, std::uint32_t kv_head) const {
    const std::size_t layer = 2 * model_.n_kv_heads * head_elements();
    return {launch_.states.kv + op.kind_layer * layer + kv_head * head_elements(),
            launch_.states.pages + std::size_t{span.slot} * buffers_.max_pages,
            model_.n_attention_layers * layer, model_.n_kv_heads * head_elements(), model_.kv_stride()};
  }

  // Keys and values join the cache, zeros behind head_dim.
  __device__ bool append(const Op& op) {
    const LayerVectors& vectors = launch_.layers[op.layer];
    const auto make = [&](std::uint32_t b, std::uint32_t i) {
      const RowBlock& rows = mixed_.blocks[b];
      const Span& span = launch_.spans[rows.span];
      const std::uint32_t position = span.position + rows.index * kRowBlock + i;
      const float* const in = projection(rows.first_row + i);
      for (std::uint32_t head = 0; head < model_.n_kv_heads; ++head) {
        const FlashCache cache = cache_of(op, span, head);
        auto* const key = const_cast<std::uint16_t*>(cache.key(position));
        std::uint16_t* const value = key + cache.v_offset;
        normed_head(in + model_.key_begin() + head * model_.head_dim, vectors.k_norm, position,
                    [&](std::uint32_t d, float x) { key[d] = to_cached(x); });
        const float* const v = in + model_.value_begin() + head * model_.head_dim;
        for (std::uint32_t d = block_.lane; d < cache.kv_stride; d += kWarp) {
          value[d] = d < model_.head_dim ? to_cached(load_shared_result(v + d)) : 0;
          if (d >= model_.head_dim) key[d] = 0;
        }
      }
    };
    return for_each_row(kPrepared, [&](std::uint32_t b) { return projection_is_there(b); }, make);
  }

  __device__ bool attend(const Op& op) {
    mix_ = op_;
    std::uint32_t n = 0;
    for (std::uint32_t b = 0; b < mixed_.n_blocks; ++b) n += mix_tasks(b);
    std::uint32_t b = 0;
    std::uint32_t before = 0;
    for (std::uint32_t task = first_task(n); task < n; task += gridDim.x) {
      while (task - before >= mix_tasks(b)) before += mix_tasks(b++);
      const RowBlock& rows = mixed_.blocks[b];
      for (std::uint32_t earlier = b - rows.index; earlier <= b; ++earlier)
        if (!wait(counter(op_, kPrepared, earlier), groups_of(mixed_.blocks[earlier]))) return false;
      attend_queries(op, rows, (task - before) / query_tasks(rows),
                     (task - before) % query_tasks(rows) * kFlashQueries);
      signal(counter(op_, kDone, b));
    }
    return true;
  }

  // Queries from `first` on, of the row block's rows × heads that share the KV head.
  __device__ void attend_queries(const Op& op, const RowBlock& rows, std::uint32_t kv_head,
                                 std::uint32_t first) {
    FlashShared& s = shared_.flash;
    const LayerVectors& vectors = launch_.layers[op.layer];
    const Span& span = launch_.spans[rows.span];
    const std::uint32_t group = model_.n_heads / model_.n_kv_heads;
    const std::uint32_t n = min(kFlashQueries, rows.n_rows * group - first);
    const float scale = 1.0F / sqrtf(static_cast<float>(model_.head_dim));
    const std::uint32_t depth = round_up(model_.head_dim, 32);
    const auto position_of = [&](std::uint32_t query) {
      return span.position + rows.index * kRowBlock + (first + query) / group;
    };
    const auto head_of = [&](std::uint32_t query) { return kv_head * group + (first + query) % group; };
    for (std::uint32_t query = block_.warp; query < kFlashQueries; query += kComputeWarps) {
      const bool is_there = query < n;
      if (block_.lane == 0) s.limit[query] = position_of(is_there ? query : n - 1) + 1;
      if (is_there) {
        normed_head(projection(rows.first_row + (first + query) / group) + head_of(query) * model_.head_dim,
                    vectors.q_norm, position_of(query),
                    [&](std::uint32_t d, float x) { s.queries[query][d] = to_cached(x * scale); });
      }
      for (std::uint32_t d = block_.lane + (is_there ? model_.head_dim : 0); d < depth; d += kWarp)
        s.queries[query][d] = 0;
    }
    flash_attention(s, cache_of(op, span, kv_head), model_.head_dim, position_of(n - 1) + 1,
                    [&](std::uint32_t query, std::uint32_t d, float value) {
                      if (query >= n) return;
                      const std::uint32_t row = rows.first_row + (first + query) / group;
                      const std::uint32_t at = head_of(query) * model_.head_dim + d;
                      mixed_row(row)[at] =
                          value * sigmoid(load_shared_result(projection(row) + model_.gate_begin() + at));
                    });
  }

  // What the head needs.
  __device__ bool gather_outputs() {
    const std::uint32_t n = mixed_.n_outputs;
    for (std::uint32_t task = first_task(n); task < n; task += gridDim.x) {
      const std::uint32_t row = mixed_.outputs[task];
      std::uint32_t b = 0;
      while (row >= mixed_.blocks[b].first_row + mixed_.blocks[b].n_rows) ++b;
      if (!residual_is_there(b)) return false;
      float* const to = mixed_.output_residual + std::size_t{task} * model_.residual_stride();
      for (std::uint32_t k = threadIdx.x; k < model_.residual_stride(); k += kComputeThreads)
        to[k] = load_shared_result(residual(row) + k);
      signal(outputs_counter());
    }
    return true;
  }

  __device__ std::uint32_t outputs_counter() const { return launch_.n_ops * kOpStages * mixed_.n_blocks; }

  __device__ float* residual(std::uint32_t row) const {
    return buffers_.residual + std::size_t{row} * buffers_.residual_stride;
  }
  __device__ float* projection(std::uint32_t row) const {
    return buffers_.projection + std::size_t{row} * buffers_.projection_stride;
  }
  __device__ float* mixed_row(std::uint32_t row) const {
    return buffers_.mixed + std::size_t{row} * buffers_.mixed_stride;
  }
  __device__ std::uint16_t* operand(std::uint32_t b) const {
    return mixed_.operand + std::size_t{b} * kRowBlock * mixed_.operand_depth;
  }

  // One place for each kind of stage, so that the compiler makes it once.
  __device__ bool run_op(const Op& op) {
    // Decode's mix_in in two parts is one here.
    if (op.is_second_part() || op.code == OpCode::kMerge || op.code == OpCode::kHead ||
        op.code == OpCode::kSample)
      return true;
    if (op.code == OpCode::kMixIn) mix_in_ = op_;
    if (op.code == OpCode::kDeltaRule) return delta_rule(op);
    if (op.code == OpCode::kAttention) return append(op) && attend(op);
    if (op.code == OpCode::kEmbed) return embed();
    if ((op.code == OpCode::kMixIn || op.code == OpCode::kMlpIn) && !prepare_norm(op)) return false;
    if (op.code == OpCode::kMixOut && !prepare_mixed(op)) return false;
    return product(op);
  }

  const MixedLaunch& mixed_;
  const Launch& launch_;
  const ModelShape& model_;
  const Buffers& buffers_;
  const Block& block_;
  TileShared& shared_;
  std::uint32_t op_ = 0;
  std::uint32_t n_before_ = 0;     // tasks of all ops so far
  std::uint32_t residual_op_ = 0;  // the last that wrote the residual
  std::uint32_t mix_in_ = 0;       // the layer's
  std::uint32_t mix_ = 0;
};

}  // namespace sluice::cuda::device
