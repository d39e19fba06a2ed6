// Decode: one launch for up to kMostLaunchTokens steps of 1 to 8 rows, from embedding to sampled token.
//
// Every block runs all ops in order, its own equal share of each. Eight compute warps do the work; the control warp waits for
// other blocks (one lane), adds up and finishes the products' outputs, and signals once for the block and op. Between two ops of
// a block stand two barriers: inputs are there; they are staged in shared memory. All that crosses blocks is message passing:
// write, barrier, release by the control warp; acquire, barrier, read.
#pragma once  // the mixed entry point has decode launches in it

#include "cuda/device/attention.h"
#include "cuda/device/delta_rule.h"
#include "cuda/device/products.h"
#include "cuda/device/sampling.h"
#include "cuda/device/staging.h"

namespace sluice::cuda::device {
namespace {

__device__ void embed(const Block& block) {
  const Launch& launch = block.launch;
  const Range columns = block.share(launch.model.hidden);
  const std::uint32_t chunks = round_up(launch.model.hidden, kChunk) / kChunk;
  const std::uint32_t width = columns.end - columns.begin;
#pragma unroll 1
  for (std::uint32_t i = threadIdx.x; i < launch.n_rows * width; i += kComputeThreads) {
    const std::uint32_t row = i / width;
    const std::uint32_t column = columns.begin + i % width;
    launch.buffers.residual[std::size_t{row} * launch.model.hidden + column] =
        from_bf16(launch.embedding[packed_index(block.token(row), column, chunks)]);
  }
}

// Compute warps, when the op's inputs are there.
__device__ void compute(const Block& block, const Op& op, WeightRing& ring) {
  const Launch& launch = block.launch;
  const Buffers& buffers = launch.buffers;
  switch (op.code) {
    case OpCode::kEmbed:
      embed(block);
      return;
    case OpCode::kDeltaRule:
      DeltaRule(block, op).run();
      return;
    case OpCode::kAttention:
      Attention(block, op).run();
      return;
    case OpCode::kMerge:
      merge_pages(block);
      return;
    case OpCode::kSample:
      if (block.warp < launch.n_rows) {
        const std::int32_t token = merge_row(block, block.warp);
        if (block.lane == 0) block.state().tokens[block.warp] = token;
      }
      if (threadIdx.x == 0) block.state().ending = load_shared_result(launch.control.decision);
      return;
    case OpCode::kMixIn:
    case OpCode::kMlpIn:
    case OpCode::kHead:
      stage_rows(block, op, buffers.residual, launch.model.hidden);
      break;
    case OpCode::kMixOut:
      if (op.is_delta != 0)
        stage_gated_norm(block, op);
      else
        stage_rows(block, op, buffers.mixed, buffers.mixed_stride);
      break;
    case OpCode::kMlpOut:
      stage_rows(block, op, buffers.gated, launch.model.intermediate);
      break;
  }
  block.everybody();
  multiply(block, ring, op);
}

// Block 0's control warp, once a step: whether there is a reason to make no more.
__device__ void decide(const Block& block, std::uint64_t begin) {
  if (blockIdx.x != 0 || block.lane != 0) return;
  const Control& control = block.launch.control;
  Ending ending = Ending::kRunning;
  if (nanoseconds() - begin > control.launch_ns) ending = Ending::kTime;
  if (control.stop != nullptr && load_relaxed_system(control.stop) != 0) ending = Ending::kStopWord;
  *control.decision = static_cast<std::uint32_t>(ending);
}

// The control warp, of an op with weights: from sums to outputs.
__device__ void finish(const Block& block, const Op& op, std::uint64_t begin) {
  const Launch& launch = block.launch;
  const Buffers& buffers = launch.buffers;
  block.everybody();
  const std::uint32_t row = block.lane / 4;
  const float inverse = row < launch.n_rows && op.code != OpCode::kMixOut && op.code != OpCode::kMlpOut
                            ? inverse_rms(block, op, row)
                            : 1.0F;
  switch (op.code) {
    case OpCode::kMixIn: {
      float* out = buffers.projection + std::size_t{row} * buffers.projection_stride;
      add_up(block, op,
             [&](std::uint32_t, std::uint32_t column, float2 sums, bool has_first, bool has_second) {
               if (has_first) out[column] = sums.x * inverse;
               if (has_second) out[column + 1] = sums.y * inverse;
             });
      return;
    }
    case OpCode::kMlpIn: {
      float* out = buffers.gated + std::size_t{row} * launch.model.intermediate;
      add_up(block, op, [&](std::uint32_t, std::uint32_t column, float2 sums, bool has_gate, bool) {
        if (has_gate) out[column / 2] = silu(sums.x * inverse) * (sums.y * inverse);
      });
      return;
    }
    case OpCode::kHead: {
      decide(block, begin);
      clear_lists(block);
      HeadLane lane(block);
      add_up(block, op,
             [&](std::uint32_t, std::uint32_t column, float2 sums, bool has_first, bool has_second) {
#pragma unroll 1
               for (std::uint32_t i = 0; i < 2; ++i)
                 lane.take(column + i, (i == 0 ? sums.x : sums.y) * inverse, i == 0 ? has_first : has_second);
             });
      lane.publish();
      return;
    }
    default: {  // out and down projections: the residual's share of a block is always the same
      float* out = buffers.residual + std::size_t{row} * launch.model.hidden;
      add_up(block, op,
             [&](std::uint32_t, std::uint32_t column, float2 sums, bool has_first, bool has_second) {
               if (has_first) out[column] += sums.x;
               if (has_second) out[column + 1] += sums.y;
             });
      return;
    }
  }
}

// Block 0 tells the host: the step is complete, and why none follows.
__device__ void report(const Block& block, Ending ending) {
  if (blockIdx.x != 0 || !block.is_control() || block.lane != 0) return;
  TokenRing& ring = *block.launch.control.ring;
#pragma unroll 1
  for (std::uint32_t row = 0; row < block.launch.n_rows; ++row)
    ring.tokens[block.step][row] = block.state().tokens[row];
  ring.ending = ending;
  store_release_system(&ring.n_steps, block.step + 1);
}

// All ops of a step. False: give up.
__device__ bool run_step(Block& block, WeightRing* ring, std::uint64_t begin) {
#pragma unroll 1
  for (std::uint32_t task = 0; task < block.launch.n_ops; ++task) {
    const Op& op = block.launch.ops[task];
    if (!wait_for_inputs(block, op, task)) return false;
    if (!block.is_control()) {
      compute(block, op, *ring);
      if (op.weight == nullptr) block.everybody();
      continue;
    }
    if (op.weight == nullptr)
      block.everybody();
    else
      finish(block, op, begin);
    signal(block, task);
  }
  return true;
}

__device__ void clear_next_counters(const Control& control) {
#pragma unroll 1
  for (std::uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < control.n_counters;
       i += gridDim.x * blockDim.x)
    control.next_counters[i * kCounterWords] = 0;
}

__device__ void run_steps(Block& block, WeightRing* ring, std::uint64_t begin) {
#pragma unroll 1
  for (;; ++block.step) {
    if (!run_step(block, ring, begin)) return;
    const Ending ending = ending_of(block);
    report(block, ending);
    if (ending != Ending::kRunning) return;
  }
}

// A whole launch. Every thread of every block comes here, and has left what it did in shared memory before.
__device__ void decode(const Launch& launch) {
  Block block(launch);
  const std::uint64_t begin = nanoseconds();
  if (threadIdx.x == 0) block.state().gave_up = 0;
  if (threadIdx.x < kMostDecodeRows) block.state().tokens[threadIdx.x] = -1;
  if (threadIdx.x == 0) block.state().ending = static_cast<std::uint32_t>(Ending::kRunning);
  clear_next_counters(launch.control);
  block.everybody();
  if (block.is_control()) {
    run_steps(block, nullptr, begin);
  } else {
    WeightRing ring(block);
    run_steps(block, &ring, begin);
    ring.drain();
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kDecodeThreads, 1) sluice_decode(const __grid_constant__ Launch launch) {
  decode(launch);
}

}  // namespace sluice::cuda::device
