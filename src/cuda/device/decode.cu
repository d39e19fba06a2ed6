// Decode: one launch for up to kMostLaunchTokens steps of 1 to 8 rows, from embedding to sampled token.
//
// Every block runs all ops in order, its own equal share of each. Eight compute warps do the work; the control warp waits for
// other blocks (one lane), adds up and finishes the products' outputs, and signals once for the block and op. Before each op of a
// block stands a barrier: inputs are there. All that crosses blocks is message passing: write, barrier, release by the control warp;
// acquire, barrier, read.
#pragma once  // the mixed entry point has decode launches in it

#include "cuda/device/attention.h"
#include "cuda/device/delta_rule.h"
#include "cuda/device/products.h"
#include "cuda/device/sampling.h"
#include "cuda/device/staging.h"

namespace sluice::cuda::device {
namespace {

__device__ void embed(const Block& block, Range columns) {
  const Launch& launch = block.launch;
  const std::uint32_t stride = launch.buffers.residual_stride;
  const std::uint32_t chunks = stride / kChunk;
  // Zeros behind the width are whose the last column is.
  if (columns.begin != columns.end && columns.end == launch.model.hidden) columns.end = stride;
#pragma unroll 1
  for (std::uint32_t row = 0; row < launch.n_rows; ++row) {
    const std::uint16_t* const from = launch.embedding + packed_index(block.token(row), 0, chunks);
    float* const to = launch.buffers.residual + std::size_t{row} * stride;
#pragma unroll 1
    for (std::uint32_t column = columns.begin + threadIdx.x; column < columns.end; column += kComputeThreads)
      to[column] = from_bf16(from[packed_index(0, column, chunks)]);
  }
}

// What of an op is the block's, but of attention.
__device__ Range share_of(const Block& block, const Op& op) {
  const Launch& launch = block.launch;
  const bool has_rows = op.weight != nullptr;
  const std::uint32_t shift = has_rows ? op.row_unit - 1 : 0;  // of a unit of 1 or 2 rows
  std::uint32_t units = has_rows ? op.n_rows >> shift : 0;
  if (op.code == OpCode::kEmbed) units = launch.model.hidden;
  if (op.code == OpCode::kDeltaRule)
    units = launch.n_spans * launch.model.n_value_heads * DeltaRule::quads_of(launch.model);
  if (op.code == OpCode::kMerge) units = launch.n_rows * launch.model.n_heads;
  const Range share = block.share(units);
  const std::uint32_t first = has_rows ? op.first_row : 0;
  return {first + (share.begin << shift), first + (share.end << shift)};
}

// Of attention, whose pages become more.
__device__ Range share_of_pages(const Block& block) {
  std::uint32_t pages = 0;
#pragma unroll 1
  for (std::uint32_t row = 0; row < block.launch.n_rows; ++row) pages += block.pages(row);
  return block.share(block.launch.model.n_kv_heads * pages);
}

// Compute warps, when the op's inputs are there.
__device__ void compute(const Block& block, const Op& op, Range share, WeightRing& ring) {
  const Launch& launch = block.launch;
  switch (op.code) {
    case OpCode::kEmbed:
      embed(block, share);
      return;
    case OpCode::kDeltaRule:
      DeltaRule(block, op).run(share);
      return;
    case OpCode::kAttention:
      Attention(block, op).run(share);
      return;
    case OpCode::kMerge:
      merge_pages(block, share);
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
      if (op.is_second_part()) break;
      stage_normed(block, op);
      barrier_arrive(kSquared, kDecodeThreads);
      break;
    case OpCode::kMixOut:
    case OpCode::kMlpOut:
      if (op.norm != nullptr)
        stage_gated_norm(block, op);
      else
        stage_rows(block, op, op.code == OpCode::kMixOut ? launch.buffers.attended : launch.buffers.gated);
      break;
  }
  multiply(block, ring, op, share);
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

// The control warp, of an op with weights: from sums to outputs. `inverse`: 1 / rms of this lane's row of the residual, from the op before
// if that has the same input.
__device__ void finish(const Block& block, const Op& op, Range rows, std::uint64_t begin, float& inverse) {
  const Launch& launch = block.launch;
  const Buffers& buffers = launch.buffers;
  const std::uint32_t row = block.lane / 4;
  const OpCode op_code = op.code;
  const bool joins_residual = op_code == OpCode::kMixOut || op_code == OpCode::kMlpOut;
  const bool is_head = op_code == OpCode::kHead;
  const bool is_gate = op.is_second_part() && op.is_delta != 0;
  if (joins_residual) {
    inverse = 1.0F;
  } else if (!op.is_second_part()) {
    barrier_sync(kSquared, kDecodeThreads);
    inverse = inverse_rms(block, op);
  }
  // Where an output at column 0 of this lane's row would be.
  float* const out = op_code == OpCode::kMixIn
                         ? buffers.projection + std::size_t{row} * buffers.projection_stride
                         : buffers.residual + std::size_t{row} * buffers.residual_stride;
  std::uint16_t* const gated = buffers.gated + std::size_t{row} * buffers.gated_stride;
  if (is_head) {
    decide(block, begin);
    clear_lists(block);
  }
  HeadLane lane(block, is_head);
  add_up(block, rows, [&](std::uint32_t column, float2 sums, bool has_first, bool has_second) {
    const OpCode code = opaque(op_code);  // or the compiler makes this loop several times
    sums.x *= inverse;
    sums.y *= inverse;
    if (code == OpCode::kMlpIn) {
      if (has_first) gated[column / 2] = to_bf16(silu(sums.x) * sums.y);
      return;
    }
#pragma unroll 1
    for (std::uint32_t i = 0; i < 2; ++i) {
      const float sum = i == 0 ? sums.x : sums.y;
      const bool is_there = i == 0 ? has_first : has_second;
      if (code == OpCode::kHead)
        lane.take(column + i, sum, is_there);
      else if (is_there)  // the residual's share of a block is always the same
        out[column + i] = is_gate ? silu(sum) : code == OpCode::kMixIn ? sum : out[column + i] + sum;
    }
  });
  if (is_head) lane.publish();
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
__device__ bool run_step(Block& block, WeightRing& ring, std::uint64_t begin) {
  float inverse = 1.0F;
#pragma unroll 1
  for (std::uint32_t task = 0; task < block.launch.n_ops; ++task) {
    const Op op = block.launch.ops[task];  // read before the wait
    if (op.code == OpCode::kAttention && threadIdx.x == kComputeThreads)
      block.share_of(task) = share_of_pages(block);
    if (!wait_for_inputs(block, op, task)) return false;
    const Range share = block.share_of(task);
    if (!block.is_control()) {
      compute(block, op, share, ring);
      if (op.weight == nullptr) block.everybody();
      continue;
    }
    if (op.weight == nullptr)
      block.everybody();
    else
      finish(block, op, share, begin, inverse);
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

// A whole launch. Every thread of every block comes here, and has left what it did in shared memory before.
__device__ void decode(const Launch& launch) {
  Block block(launch);
  const std::uint64_t begin = nanoseconds();
  if (threadIdx.x == 0) block.state().gave_up = 0;
  if (threadIdx.x < kMostDecodeRows) block.state().tokens[threadIdx.x] = -1;
  if (threadIdx.x == 0) block.state().ending = static_cast<std::uint32_t>(Ending::kRunning);
#pragma unroll 1
  for (std::uint32_t task = threadIdx.x; task < launch.n_ops; task += kDecodeThreads)
    block.share_of(task) = share_of(block, launch.ops[task]);
  clear_next_counters(launch.control);
  // All of this is there before anybody reads it.
  block.everybody();
  WeightRing ring(block);  // the control warp's is empty
#pragma unroll 1
  for (; run_step(block, ring, begin); ++block.step) {
    const Ending ending = ending_of(block);
    report(block, ending);
    if (ending != Ending::kRunning) break;
  }
  ring.drain();
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kDecodeThreads, 1)
    sluice_decode(const __grid_constant__ Launch launch) {
  decode(launch);
}

}  // namespace sluice::cuda::device
