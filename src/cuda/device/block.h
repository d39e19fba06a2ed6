// A block of a decode launch: its shares of the work, its shared memory, its barriers, and how it waits for other blocks.
#pragma once

#include <cstdint>

#include "cuda/device/ptx.h"
#include "cuda/launch.h"

namespace sluice::cuda::device {

extern __shared__ __align__(1024) unsigned char shared_memory[];

// What stands at the start of shared memory.
struct BlockState {
  std::uint32_t gave_up;                                  // a wait took too long, here or in another block
  std::uint32_t ending;                                   // of the step, as block 0 has decided
  std::int32_t tokens[kMostDecodeRows];                   // chosen in the step before
  std::uint32_t n_listed[kMostDecodeRows];                // candidates in a row's list
  float square_sums[kMostDecodeRows][kComputeWarps + 1];  // one more, so that rows lie in different banks
};
static_assert(sizeof(BlockState) <= 1024);

enum BarrierId : std::uint32_t {
  kEverybody = 0,
  kComputing = 1,
  kFull = 2,
  kEmpty = 4
};  // two of the latter two

struct Range {
  std::uint32_t begin, end;
};

struct Block {
  const Launch& launch;
  std::uint32_t warp, lane;
  std::uint32_t step = 0;

  __device__ explicit Block(const Launch& of) : launch(of), warp(threadIdx.x / 32), lane(threadIdx.x % 32) {}

  __device__ bool is_control() const { return warp == kComputeWarps; }
  __device__ BlockState& state() const { return *reinterpret_cast<BlockState*>(shared_memory); }
  __device__ std::uint16_t* activations() const {
    return reinterpret_cast<std::uint16_t*>(shared_memory + launch.shared.activations);
  }
  __device__ float* scratch() const {
    return reinterpret_cast<float*>(shared_memory + launch.shared.activations);
  }
  __device__ float* partials() const {
    return reinterpret_cast<float*>(shared_memory + launch.shared.partials);
  }
  __device__ Candidate* list(std::uint32_t row) const {
    return reinterpret_cast<Candidate*>(shared_memory + launch.shared.lists) + row * kMostTopK;
  }

  __device__ void everybody() const { barrier_sync(kEverybody, kDecodeThreads); }
  __device__ void computing_warps() const { barrier_sync(kComputing, kComputeThreads); }

  // This block's share of `units`.
  __device__ Range share(std::uint32_t units) const {
    const auto bound = [&](std::uint32_t block) {
      return static_cast<std::uint32_t>(std::uint64_t{units} * block / gridDim.x);
    };
    return {bound(blockIdx.x), bound(blockIdx.x + 1)};
  }

  __device__ std::uint32_t position(std::uint32_t row) const {
    const Span& span = launch.spans[launch.rows[row].span];
    return span.position + (row - span.first_row) + step;
  }
  __device__ std::uint32_t token(std::uint32_t row) const {
    return static_cast<std::uint32_t>(step == 0 ? launch.rows[row].token : state().tokens[row]);
  }
};

__device__ inline Range rows_of_block(const Block& block, const Op& op) {
  Range rows = block.share(op.n_rows / op.row_unit);
  rows.begin = op.first_row + rows.begin * op.row_unit;
  rows.end = op.first_row + rows.end * op.row_unit;
  return rows;
}

// Records who waited in vain for what, and makes all blocks give up.
__device__ inline void give_up(const Block& block, std::uint32_t task, std::uint32_t counter,
                               std::uint32_t seen, std::uint32_t target) {
  const Control& control = block.launch.control;
  if (!set_once(control.abort)) return;
  AbortRecord& record = *control.record;
  record.block = blockIdx.x;
  record.step = block.step;
  record.task = task;
  record.counter = counter;
  record.seen = seen;
  record.target = target;
  store_release_system(&record.is_set, 1);
}

// One lane of the control warp: until all blocks have arrived at the counter that `op` waits for in this step.
__device__ inline void wait_for(const Block& block, const Op& op, std::uint32_t task) {
  if (op.wait == kNone) return;
  const Control& control = block.launch.control;
  const std::uint32_t* counter = control.counters + op.wait * kCounterWords;
  const std::uint32_t target = (block.step + 1) * gridDim.x;
  constexpr std::uint32_t kLooksBetween =
      64;  // looks at the counter between those at the abort word and the clock
  std::uint64_t begin = 0;
#pragma unroll 1
  for (std::uint32_t looks = 1;; ++looks) {
    const std::uint32_t seen = load_acquire(counter);
    if (seen >= target) return;
    if (looks % kLooksBetween != 0) continue;
    if (load_relaxed(control.abort) != 0) break;
    const std::uint64_t now = nanoseconds();
    if (begin == 0) begin = now;
    if (now - begin <= control.wait_ns) continue;
    give_up(block, task, op.wait, seen, target);
    break;
  }
  block.state().gave_up = 1;
}

// All warps: the inputs of `op` are there. False: give up.
__device__ inline bool wait_for_inputs(const Block& block, const Op& op, std::uint32_t task) {
  if (block.is_control()) {
    if (block.lane == 0) wait_for(block, op, task);
    __syncwarp();
  }
  block.everybody();
  return block.state().gave_up == 0;
}

// The control warp, after its last output, or after a barrier with the warps that wrote: the block's part of `op` is done.
__device__ inline void signal(const Block& block, std::uint32_t task) {
  __syncwarp();
  if (block.lane == 0) arrive_release(block.launch.control.counters + task * kCounterWords);
  __syncwarp();
}

}  // namespace sluice::cuda::device
