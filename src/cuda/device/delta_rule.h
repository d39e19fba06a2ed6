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
  std::uint32_t quads;  // of a head

  __device__ DeltaRule(const Block& of, const Op& op_)
      : block(of),
        op(op_),
        model(of.launch.model),
        vectors(of.launch.layers[op_.layer]),
        quads((of.launch.model.value_head_dim + kQuad - 1) / kQuad) {}

  __device__ Range share() const { return block.share(block.launch.n_spans * model.n_value_heads * quads); }

  // Shared: [rows of the span, key_head_dim up to 128] queries, then keys, then [rows, 2] gates.
  __device__ float* query(std::uint32_t row) const { return block.scratch() + row * kMostKeyHeadDim; }
  __device__ float* key(std::uint32_t row) const { return query(block.launch.n_rows + row); }
  __device__ float* gates(std::uint32_t row) const { return query(2 * block.launch.n_rows) + row * 2; }

  __device__ float* conv_state(const Span& span, std::uint32_t half) const {
    const std::size_t rows = model.conv_kernel - 1;
    const std::size_t index =
        (std::size_t{half} * model.n_delta_layers + op.kind_layer) * block.launch.states.n_slots + span.slot;
    return block.launch.states.conv + index * rows * model.conv_dim();
  }
  __device__ std::uint32_t half_now(const Span& span) const { return (span.conv_parity ^ block.step) & 1U; }

  // The convolution's input of a row: rows before the span's first are in the state.
  __device__ const float* input(const Span& span, std::uint32_t channel, std::int32_t row) const {
    const Buffers& buffers = block.launch.buffers;
    if (row >= 0)
      return buffers.projection +
             std::size_t{span.first_row + static_cast<std::uint32_t>(row)} * buffers.projection_stride +
             channel;
    const auto at = static_cast<std::uint32_t>(static_cast<std::int32_t>(model.conv_kernel) - 1 + row);
    return conv_state(span, half_now(span)) + std::size_t{at} * model.conv_dim() + channel;
  }

  // Taps and their inputs, loaded before anything is added, so that the loads of several channels are under way at once.
  struct Taps {
    float weights[kMostConvKernel];
    float inputs[kMostConvKernel];
  };
  __device__ void load(const Span& span, std::uint32_t channel, std::uint32_t row, bool is_there,
                       Taps& taps) const {
    const auto n = static_cast<std::int32_t>(model.conv_kernel);
#pragma unroll
    for (std::int32_t tap = 0; tap < static_cast<std::int32_t>(kMostConvKernel); ++tap) {
      taps.weights[tap] = taps.inputs[tap] = 0;
      if (!is_there || tap >= n) continue;
      taps.weights[tap] = vectors.conv[static_cast<std::uint32_t>(tap) * model.conv_dim() + channel];
      taps.inputs[tap] =
          load_shared_result(input(span, channel, static_cast<std::int32_t>(row) - n + 1 + tap));
    }
  }
  __device__ static float convolve(const Taps& taps) {
    float sum = 0;
#pragma unroll
    for (std::uint32_t tap = 0; tap < kMostConvKernel; ++tap)
      sum = fmaf(taps.weights[tap], taps.inputs[tap], sum);
    return silu(sum);
  }

  // The channel's last inputs join the other half.
  __device__ void keep_inputs(const Span& span, std::uint32_t channel) const {
    float* to = conv_state(span, half_now(span) ^ 1U) + channel;
    const auto kept = static_cast<std::int32_t>(model.conv_kernel) - 1;
#pragma unroll 1
    for (std::int32_t i = 0; i < kept; ++i)
      to[static_cast<std::size_t>(i) * model.conv_dim()] =
          load_shared_result(input(span, channel, static_cast<std::int32_t>(span.n_rows) - kept + i));
  }

  // A warp: a query or key of a row to shared memory.
  __device__ void make_vector(const Span& span, std::uint32_t row, std::uint32_t first_channel, float scale,
                              float* to) const {
    float squares = 0;
    Taps taps[kStateParts];
#pragma unroll
    for (std::uint32_t i = 0; i < kStateParts; ++i) {
      const std::uint32_t k = i * 32 + block.lane;
      load(span, first_channel + k, row, k < model.key_head_dim, taps[i]);
    }
    float values[kStateParts];
#pragma unroll
    for (std::uint32_t i = 0; i < kStateParts; ++i) {
      values[i] = convolve(taps[i]);  // zero behind the head
      squares = fmaf(values[i], values[i], squares);
    }
    const float inverse = scale / sqrtf(warp_sum(squares) + 1e-6F);
#pragma unroll
    for (std::uint32_t i = 0; i < kStateParts; ++i) to[i * 32 + block.lane] = values[i] * inverse;
  }

  // All compute warps: queries, keys and gates of V head `head`.
  __device__ void make_head(const Span& span, std::uint32_t head) const {
    const std::uint32_t key_channel = vectors.key_head[head] * model.key_head_dim;
    const float scale = 1.0F / sqrtf(static_cast<float>(model.key_head_dim));
#pragma unroll 1
    for (std::uint32_t unit = block.warp; unit < 3 * span.n_rows; unit += kComputeWarps) {
      const std::uint32_t row = unit / 3;
      const std::uint32_t part = unit % 3;
      if (part < 2) {
        make_vector(span, row, key_channel + (part == 0 ? 0 : model.k_begin()), part == 0 ? scale : 1.0F,
                    part == 0 ? query(row) : key(row));
      } else if (block.lane == 0) {
        const Buffers& buffers = block.launch.buffers;
        const float* in = buffers.projection + std::size_t{span.first_row + row} * buffers.projection_stride;
        gates(row)[0] = sigmoid(load_shared_result(in + model.b_begin() + head));
        gates(row)[1] = expf(vectors.decay[head] * softplus(load_shared_result(in + model.a_begin() + head) +
                                                            vectors.dt_bias[head]));
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

  __device__ void keep_key_inputs(const Span& span, std::uint32_t head) const {
    const std::uint32_t key_channel = vectors.key_head[head] * model.key_head_dim;
#pragma unroll 1
    for (std::uint32_t i = threadIdx.x; i < 2 * model.key_head_dim; i += kComputeThreads)
      keep_inputs(span, i < model.key_head_dim ? key_channel + i
                                               : model.k_begin() + key_channel + (i - model.key_head_dim));
  }

  // This lane's part of the state's row: columns 4 (lane % 8) + 32 i.
  __device__ float4* state_row(const Span& span, std::uint32_t head, std::uint32_t column) const {
    const std::size_t index =
        ((std::size_t{op.kind_layer} * block.launch.states.n_slots + span.slot) * model.n_value_heads +
         head) *
            model.value_head_dim +
        column;
    return reinterpret_cast<float4*>(block.launch.states.delta + index * model.key_stride()) + block.lane % 8;
  }
  __device__ bool has_part(std::uint32_t part) const {
    return 32 * part + 4 * (block.lane % 8) < model.key_stride();
  }

  // A warp: four columns of the value through all rows of the span.
  __device__ void run_quad(const Span& span, std::uint32_t head, std::uint32_t quad) const {
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
      Taps taps;
      load(span, channel, row, is_column, taps);
      const float value = convolve(taps);
      const float beta = gates(row)[0];
      const float decay = gates(row)[1];
      const auto* keys = reinterpret_cast<const float4*>(key(row)) + block.lane % 8;
      const auto* queries = reinterpret_cast<const float4*>(query(row)) + block.lane % 8;
      float with_key = 0;
      float with_query = 0;
      float query_key = 0;
#pragma unroll
      for (std::uint32_t i = 0; i < kStateParts; ++i) {
        const float4 k = keys[8 * i];
        const float4 q = queries[8 * i];
        with_key = fmaf(state[i].w, k.w,
                        fmaf(state[i].z, k.z, fmaf(state[i].y, k.y, fmaf(state[i].x, k.x, with_key))));
        with_query = fmaf(state[i].w, q.w,
                          fmaf(state[i].z, q.z, fmaf(state[i].y, q.y, fmaf(state[i].x, q.x, with_query))));
        query_key = fmaf(q.w, k.w, fmaf(q.z, k.z, fmaf(q.y, k.y, fmaf(q.x, k.x, query_key))));
      }
#pragma unroll
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
        const float4 k = keys[8 * i];
        state[i] = make_float4(fmaf(delta, k.x, decay * state[i].x), fmaf(delta, k.y, decay * state[i].y),
                               fmaf(delta, k.z, decay * state[i].z), fmaf(delta, k.w, decay * state[i].w));
      }
    }
#pragma unroll
    for (std::uint32_t i = 0; i < kStateParts; ++i)
      if (is_column && has_part(i)) at[8 * i] = state[i];
    if (is_column && block.lane % 8 == 0) keep_inputs(span, channel);
  }

  __device__ void run() const {
    const Range units = share();
#pragma unroll 1
    for (std::uint32_t unit = units.begin; unit < units.end;) {
      const std::uint32_t head = unit / quads % model.n_value_heads;
      const Span& span = block.launch.spans[unit / quads / model.n_value_heads];
      const std::uint32_t end = min(units.end, (unit / quads + 1) * quads);
      make_head(span, head);
      if (unit % quads == 0 && owns_key_head(head)) keep_key_inputs(span, head);
      block.computing_warps();
#pragma unroll 1
      for (std::uint32_t own = unit + block.warp; own < end; own += kComputeWarps)
        run_quad(span, head, own % quads);
      block.computing_warps();
      unit = end;
    }
  }
};

}  // namespace sluice::cuda::device
