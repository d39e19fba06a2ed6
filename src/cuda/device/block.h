// A block of a decode launch: its shares of the work, its shared memory, its barriers, and how it waits for other blocks.
#pragma once

#include <cstdint>

#include "cuda/device/ptx.h"
#include "cuda/launch.h"

namespace sluice::cuda::device {

extern __shared__ __align__(1024) unsigned char shared_memory[];

// What stands at the start of shared memory.
struct BlockState {
  std::uint32_t gave_up;                    // a wait took too long, here or in another block
  std::uint32_t ending;                     // of the step, as block 0 has decided
  std::int32_t tokens[kMostDecodeRows];     // chosen in the step before
  std::uint32_t n_listed[kMostDecodeRows];  // candidates in a row's list
};
static_assert(sizeof(BlockState) <= 1024);

enum BarrierId : std::uint32_t {
  kEverybody = 0,
  kComputing = 1,
  kFull = 2,
  kEmpty = 4,  // two of these two
  kSquared = 6
};

// Loads of a lane that are under way together, where many are needed. Fewer on sm_75, whose instructions for the same source are more: the
// loop over a launch's tokens is to stay small (docs/cuda.md).
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
inline constexpr std::uint32_t kLoadsAtOnce = 4;
#else
inline constexpr std::uint32_t kLoadsAtOnce = 1;
#endif

struct alignas(8) Range {
  std::uint32_t begin, end;
};

struct Block {
  const Launch& launch;
  std::uint32_t warp, lane;
  std::uint32_t step = 0;
  std::uint32_t of_grid;  // ⌊(2^32 - 1) / blocks⌋

  __device__ explicit Block(const Launch& of)
      : launch(of),
        warp(uniform(threadIdx.x / 32)),
        lane(threadIdx.x % 32),
        of_grid(0xFFFFFFFFU / gridDim.x) {}

  __device__ bool is_control() const { return warp == kComputeWarps; }
  __device__ BlockState& state() const { return *reinterpret_cast<BlockState*>(shared_memory); }
  // What of an op is the block's: units, or rows of its matrix (launch.h). Made when the launch begins; attention's for each step, by the
  // control warp.
  __device__ Range& share_of(std::uint32_t task) const {
    return reinterpret_cast<Range*>(shared_memory + launch.shared.shares)[task];
  }
  // [kSquareSums] of a row that stage_normed has staged, in its list's place: there are no candidates before 1 / rms is known.
  __device__ float* squares(std::uint32_t row) const {
    static_assert(kSquareSums * sizeof(float) <= kMostTopK * sizeof(Candidate));
    return reinterpret_cast<float*>(list(row));
  }
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

  // ⌊n / blocks⌋ and what remains, n < 2^31: the product is at most one too small. Half as long as a division.
  struct Quotient {
    std::uint32_t whole, rest;
  };
  __device__ Quotient divide_by_grid(std::uint32_t n) const {
    const std::uint32_t whole = __umulhi(n, of_grid);
    const std::uint32_t rest = n - whole * gridDim.x;
    return rest < gridDim.x ? Quotient{whole, rest} : Quotient{whole + 1, rest - gridDim.x};
  }

  // This block's share of `units`: from ⌊units · block ÷ blocks⌋ to where the next block's begins. Products of remainders fit: a grid that
  // is resident at once has less than 2^15 blocks.
  __device__ Range share(std::uint32_t units) const {
    const Quotient of_block = divide_by_grid(units);
    const Quotient extra = divide_by_grid(of_block.rest * blockIdx.x);
    const std::uint32_t begin = of_block.whole * blockIdx.x + extra.whole;
    return {begin, begin + of_block.whole + (extra.rest + of_block.rest >= gridDim.x ? 1U : 0U)};
  }

  __device__ std::uint32_t position(std::uint32_t row) const {
    const Span& span = launch.spans[launch.rows[row].span];
    return span.position + (row - span.first_row) + step;
  }
  // That the row's attention reads.
  __device__ std::uint32_t pages(std::uint32_t row) const { return position(row) / kKvPage + 1; }
  __device__ std::uint32_t token(std::uint32_t row) const {
    return static_cast<std::uint32_t>(step == 0 ? launch.rows[row].token : state().tokens[row]);
  }
};

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
}

}  // namespace sluice::cuda::device
