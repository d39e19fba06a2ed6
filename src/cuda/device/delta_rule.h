// The DeltaNet mixer of decode (docs/models.md §2), up to the gated norm.
//
//   y = SiLU(conv(x));  q, k = l2(y_q) / sqrt(key_dim), l2(y_k);  beta = σ(b);  e = exp(decay softplus(a + dt_bias))
//   per column of the value, with its row s of the state (S transposed):
//   r = s·k;  delta = beta (v - e r);  o = e s·q + (q·k) delta;  s ← e s + delta k
//
// Columns don't meet, so four of them are a unit that any block can have; eight lanes hold a row of the state. Each block makes
// the queries and keys of its heads for itself. Rows of a span follow each other with the state in registers.
#pragma once

#include <cstdint>

#include "cuda/device/block.h"
#include "cuda/device/numbers.h"

namespace sluice::cuda::device {

inline constexpr std::uint32_t kQuad = 4;  // value columns of a unit
inline constexpr std::uint32_t kStateParts = kMostKeyHeadDim / 32;

struct DeltaRule {
  const Block& block;
  const Op& op;
  const ModelShape& model;
  const LayerVectors& vectors;
  std::uint32_t quads;     // of a head
  std::uint32_t conv_dim;  // model.conv_dim()

  __device__ static std::uint32_t quads_of(const ModelShape& model) {
    return (model.value_head_dim + kQuad - 1) / kQuad;
  }

  __device__ DeltaRule(const Block& of, const Op& op_)
      : block(of),
        op(op_),
        model(of.launch.model),
        vectors(of.launch.layers[op_.layer]),
        quads(quads_of(of.launch.model)),
        conv_dim(of.launch.model.conv_dim()) {}

  // Shared: [rows of the span, key_head_dim up to 128] queries, then keys, then [rows, 2] gates.
  __device__ float* query(std::uint32_t row) const { return block.scratch() + row * kMostKeyHeadDim; }
  __device__ float* key(std::uint32_t row) const { return query(block.launch.n_rows + row); }
  __device__ float* gates(std::uint32_t row) const { return query(2 * block.launch.n_rows) + row * 2; }

  // The convolution's inputs of a span: conv_kernel - 1 rows that are in the state, then the span's. The state's other half takes the
  // last ones.
  struct Inputs {
    const float* state;  // [conv_kernel - 1, conv_dim]
    float* next;         // the same
    const float* rows;   // [n_rows, projection_stride]
    std::uint32_t n_rows;
  };
  __device__ Inputs inputs_of(const Span& span) const {
    const States& states = block.launch.states;
    const std::uint32_t kept = (model.conv_kernel - 1) * conv_dim;
    const std::size_t half = std::size_t{model.n_delta_layers * states.n_slots} * kept;
    float* first = states.conv + std::size_t{op.kind_layer * states.n_slots + span.slot} * kept;
    const bool is_first = ((span.conv_parity ^ block.step) & 1U) == 0;
    const std::uint32_t stride = block.launch.buffers.projection_stride;
    return {is_first ? first : first + half, is_first ? first + half : first,
            block.launch.buffers.projection + std::size_t{span.first_row} * stride, span.n_rows};
  }
  // A channel's input: `state` and `rows` are those of Inputs, at the channel.
  __device__ const float* input(const float* state, const float* rows, std::uint32_t index) const {
    const std::uint32_t kept = model.conv_kernel - 1;
    const bool is_state = index < kept;
    const std::uint32_t apart = is_state ? conv_dim : block.launch.buffers.projection_stride;
    return (is_state ? state : rows) + (is_state ? index : index - kept) * apart;
  }

  // A row's taps, from a channel on. Those that the model doesn't have are the last input again, with weight 0.
  static_assert(kMostConvKernel == 4);
  struct Taps {
    const float4* weights;
    const float* inputs[kMostConvKernel];
  };
  __device__ Taps taps_of(const Inputs& inputs, std::uint32_t row, std::uint32_t channel) const {
    Taps taps;
    taps.weights = reinterpret_cast<const float4*>(vectors.conv) + channel;
    const float* const state = inputs.state + channel;
    const float* const rows = inputs.rows + channel;
#pragma unroll
    for (std::uint32_t i = 0; i < kMostConvKernel; ++i)
      taps.inputs[i] = input(state, rows, row + min(i, model.conv_kernel - 1));
    return taps;
  }

  // Loaded before anything is added, so that the loads of several channels are under way at once.
  struct Channel {
    float4 weights;
    float inputs[kMostConvKernel];
  };
  __device__ Channel load(const Taps& taps, std::uint32_t offset, bool is_there) const {
    Channel values{};
    if (!is_there) return values;
    values.weights = taps.weights[offset];
#pragma unroll
    for (std::uint32_t tap = 0; tap < kMostConvKernel; ++tap)
      values.inputs[tap] = load_shared_result(taps.inputs[tap] + offset);
    return values;
  }
  __device__ static float convolve(const Channel& values) {
    float sum = values.weights.x * values.inputs[0];
    sum = fmaf(values.weights.y, values.inputs[1], sum);
    sum = fmaf(values.weights.z, values.inputs[2], sum);
    return fmaf(values.weights.w, values.inputs[3], sum);
  }

  // A warp: a query or key of a row to shared memory.
  __device__ void make_vector(const Inputs& inputs, std::uint32_t row, std::uint32_t first_channel,
                              float scale, float* to) const {
    const Taps taps = taps_of(inputs, row, first_channel + block.lane);
    static_assert(kStateParts % kLoadsAtOnce == 0);
#pragma unroll 1
    for (std::uint32_t first = 0; first < kStateParts * 32; first += kLoadsAtOnce * 32) {
      Channel channels[kLoadsAtOnce];
#pragma unroll
      for (std::uint32_t i = 0; i < kLoadsAtOnce; ++i)
        channels[i] = load(taps, first + i * 32, first + i * 32 + block.lane < model.key_head_dim);
#pragma unroll
      for (std::uint32_t i = 0; i < kLoadsAtOnce; ++i)
        to[first + i * 32 + block.lane] = convolve(channels[i]);
    }
    float squares = 0;
#pragma unroll 1
    for (std::uint32_t k = block.lane; k < kMostKeyHeadDim; k += 32) {
      to[k] = silu(to[k]);  // zero behind the head
      squares = fmaf(to[k], to[k], squares);
    }
    const float inverse = scale * reciprocal_root(warp_sum(squares) + 1e-6F);
#pragma unroll 1
    for (std::uint32_t k = block.lane; k < kMostKeyHeadDim; k += 32) to[k] *= inverse;
  }

  // All compute warps: queries, keys and gates of V head `head`.
  __device__ void make_head(const Span& span, const Inputs& inputs, std::uint32_t head) const {
    const std::uint32_t key_channel = vectors.key_head[head] * model.key_head_dim;
    const float scale = reciprocal_root(static_cast<float>(model.key_head_dim));
#pragma unroll 1
    for (std::uint32_t unit = block.warp; unit < 3 * span.n_rows; unit += kComputeWarps) {
      const std::uint32_t row = unit / 3;
      const std::uint32_t part = unit % 3;
      if (part < 2) {
        make_vector(inputs, row, key_channel + (part == 0 ? 0 : model.k_begin()), part == 0 ? scale : 1.0F,
                    part == 0 ? query(row) : key(row));
      } else if (block.lane == 0) {
        const Buffers& buffers = block.launch.buffers;
        const float* in = buffers.projection + std::size_t{span.first_row + row} * buffers.projection_stride;
        gates(row)[0] = sigmoid(load_shared_result(in + model.b_begin() + head));
        gates(row)[1] =
            exponential(vectors.decay[head] *
                        softplus(load_shared_result(in + model.a_begin() + head) + vectors.dt_bias[head]));
      }
    }
  }

  // Q and K channels belong to the first V head that uses them.
  __device__ bool owns_key_head(std::uint32_t head) const {
#pragma unroll 1
    for (std::uint32_t earlier = 0; earlier < head; ++earlier)
      if (vectors.key_head[earlier] == vectors.key_head[head]) return false;
    return true;
  }

  // All compute warps: the last inputs of value columns [begin, end) of a head join the state's other half, and those of its query and
  // key if they are its own.
  __device__ void keep_inputs(const Inputs& inputs, std::uint32_t head, std::uint32_t begin,
                              std::uint32_t end) const {
    const std::uint32_t size = model.key_head_dim;
    const std::uint32_t n_values = end - begin;
    const std::uint32_t n = n_values + (begin == 0 && owns_key_head(head) ? 2 * size : 0);
#pragma unroll 1
    for (std::uint32_t i = threadIdx.x; i < n; i += kComputeThreads) {
      std::uint32_t channel = model.v_begin() + head * model.value_head_dim + begin + i;
      if (i >= n_values)
        channel = vectors.key_head[head] * size + (i - n_values) +
                  (i - n_values < size ? 0 : model.k_begin() - size);
#pragma unroll 1
      for (std::uint32_t row = 0; row + 1 < model.conv_kernel; ++row)
        inputs.next[row * conv_dim + channel] =
            load_shared_result(input(inputs.state + channel, inputs.rows + channel, inputs.n_rows + row));
    }
  }

  // This lane's part of the state's row: columns 4 (lane % 8) + 32 i.
  __device__ float4* state_row(const Span& span, std::uint32_t head, std::uint32_t column) const {
    const std::uint32_t index =
        ((op.kind_layer * block.launch.states.n_slots + span.slot) * model.n_value_heads + head) *
            model.value_head_dim +
        column;
    return reinterpret_cast<float4*>(block.launch.states.delta + std::size_t{index} * model.key_stride()) +
           block.lane % 8;
  }
  __device__ bool has_part(std::uint32_t part) const {
    return 32 * part + 4 * (block.lane % 8) < model.key_stride();
  }

  // A warp: four columns of the value through all rows of the span.
  __device__ void run_quad(const Span& span, const Inputs& inputs, std::uint32_t head,
                           std::uint32_t quad) const {
    const std::uint32_t column = quad * kQuad + block.lane / 8;
    const bool is_column = column < model.value_head_dim;
    const std::uint32_t channel = model.v_begin() + head * model.value_head_dim + column;
    float4* at = state_row(span, head, column);
    float4 state[kStateParts];
#pragma unroll
    for (std::uint32_t i = 0; i < kStateParts; ++i) {
      state[i] = make_float4(0, 0, 0, 0);
      if (is_column && has_part(i)) state[i] = at[8 * i];
    }
#pragma unroll 1
    for (std::uint32_t row = 0; row < span.n_rows; ++row) {
      const float value = silu(convolve(load(taps_of(inputs, row, channel), 0, is_column)));
      const float beta = gates(row)[0];
      const float decay = gates(row)[1];
      const auto* keys = reinterpret_cast<const float4*>(key(row)) + block.lane % 8;
      const auto* queries = reinterpret_cast<const float4*>(query(row)) + block.lane % 8;
      float with_key = 0;
      float with_query = 0;
      float query_key = 0;
      float4 of_key[kStateParts];
#pragma unroll
      for (std::uint32_t i = 0; i < kStateParts; ++i) {
        const float4 k = of_key[i] = keys[8 * i];
        const float4 q = queries[8 * i];
        with_key = fmaf(state[i].w, k.w,
                        fmaf(state[i].z, k.z, fmaf(state[i].y, k.y, fmaf(state[i].x, k.x, with_key))));
        with_query = fmaf(state[i].w, q.w,
                          fmaf(state[i].z, q.z, fmaf(state[i].y, q.y, fmaf(state[i].x, q.x, with_query))));
        query_key = fmaf(q.w, k.w, fmaf(q.z, k.z, fmaf(q.y, k.y, fmaf(q.x, k.x, query_key))));
      }
#pragma unroll 1
      for (int distance = 4; distance > 0; distance /= 2) {
        with_key += __shfl_xor_sync(0xFFFFFFFFU, with_key, distance);
        with_query += __shfl_xor_sync(0xFFFFFFFFU, with_query, distance);
        query_key += __shfl_xor_sync(0xFFFFFFFFU, query_key, distance);
      }
      const float delta = beta * (value - decay * with_key);
      if (is_column && block.lane % 8 == 0)
        block.launch.buffers.mixed[std::size_t{span.first_row + row} * block.launch.buffers.mixed_stride +
                                   head * model.value_head_dim + column] =
            fmaf(query_key, delta, decay * with_query);
#pragma unroll
      for (std::uint32_t i = 0; i < kStateParts; ++i) {
        const float4 k = of_key[i];
        state[i] = make_float4(fmaf(delta, k.x, decay * state[i].x), fmaf(delta, k.y, decay * state[i].y),
                               fmaf(delta, k.z, decay * state[i].z), fmaf(delta, k.w, decay * state[i].w));
      }
    }
#pragma unroll
    for (std::uint32_t i = 0; i < kStateParts; ++i)
      if (is_column && has_part(i)) at[8 * i] = state[i];
  }

  __device__ void run(Range units) const {
    const std::uint32_t of_spans = quotient(units.begin, quads);  // head, among those of all spans
    std::uint32_t span_index = quotient(of_spans, model.n_value_heads);
    std::uint32_t head = of_spans - span_index * model.n_value_heads;
    std::uint32_t quad = units.begin - of_spans * quads;
#pragma unroll 1
    for (std::uint32_t left = units.end - units.begin; left != 0;) {
      const Span& span = block.launch.spans[span_index];
      const Inputs inputs = inputs_of(span);
      const std::uint32_t end = min(quad + left, quads);
      make_head(span, inputs, head);
      keep_inputs(inputs, head, quad * kQuad, min(end * kQuad, model.value_head_dim));
      block.computing_warps();
#pragma unroll 1
      for (std::uint32_t own = quad + block.warp; own < end; own += kComputeWarps)
        run_quad(span, inputs, head, own);
      block.computing_warps();
      left -= end - quad;
      quad = 0;
      if (++head == model.n_value_heads) {
        head = 0;
        ++span_index;
      }
    }
  }
};

}  // namespace sluice::cuda::device
