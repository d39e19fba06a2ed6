// A compute warp's stream of weights: the chunks of all its products, in the order in which it will use them, through all ops
// and steps of the launch. They are copied into the warp's ring in shared memory long before their op may begin, since weights
// depend on nothing: so memory streams while the block waits. A lane reads only what it has copied itself, so no barrier is needed.
//
// The ring has kRingStages stages of `ring_slots` chunks. A stage is one group of copies; it is filled again as soon as its last
// chunk is in registers.
#pragma once

#include <cstdint>

#include "cuda/device/block.h"

namespace sluice::cuda::device {

// Chunks of a warp in a panel: an equal share, whoever's panel it is, so that sums don't depend on the grid.
__device__ inline Range chunks_of_warp(const Op& op, std::uint32_t warp) {
  return {op.chunks * warp / kComputeWarps, op.chunks * (warp + 1) / kComputeWarps};
}

class WeightRing {
 public:
  __device__ explicit WeightRing(const Block& block)
      : block_(block),
        base_(shared_address(shared_memory + block.launch.shared.ring) +
              block.warp * kRingStages * block.launch.shared.ring_slots * kChunkBytes + block.lane * 16),
        slots_(block.launch.shared.ring_slots) {
    if (block.is_control()) return;
    find_op(0);
#pragma unroll 1
    for (std::uint32_t stage = 0; stage < kRingStages; ++stage) fill();
  }

  // The next chunk: eight weights of row lane / 4 of its panel, zeros if the row isn't the block's.
  __device__ uint4 next(bool is_ours) {
    if (used_ == 0) wait_for_copies<kRingStages - 1>();
    uint4 weights = make_uint4(0, 0, 0, 0);
    if (is_ours) weights = load_shared(base_ + (read_stage_ * slots_ + used_) * kChunkBytes);
    if (++used_ == slots_) {
      used_ = 0;
      read_stage_ = (read_stage_ + 1) % kRingStages;
      fill();
    }
    return weights;
  }

  // No thread may leave with copies under way.
  __device__ void drain() const { wait_for_copies<0>(); }

 private:
  // To the next op, from `index` on, of which this warp has a share.
  __device__ void find_op(std::uint32_t index) {
    const Launch& launch = block_.launch;
#pragma unroll 1
    for (;; ++index) {
      if (index == launch.n_ops) {
        if (++step_ >= launch.n_steps) return;
        index = 0;
      }
      const Op& op = launch.ops[index];
      if (op.weight == nullptr) continue;
      rows_ = rows_of_block(block_, op);
      chunks_ = chunks_of_warp(op, block_.warp);
      if (rows_.begin == rows_.end || chunks_.begin == chunks_.end) continue;
      op_ = index;
      of_panel_ = op.chunks;
      weight_ = reinterpret_cast<const unsigned char*>(op.weight) + block_.lane * 16;
      panel_ = rows_.begin / kPanel;
      chunk_ = chunks_.begin;
      return;
    }
  }

  __device__ void fill() {
#pragma unroll 1
    for (std::uint32_t slot = 0; slot < slots_ && step_ < block_.launch.n_steps; ++slot) {
      const std::uint32_t row = panel_ * kPanel + block_.lane / 4;
      if (row >= rows_.begin && row < rows_.end)
        copy_async(base_ + (write_stage_ * slots_ + slot) * kChunkBytes,
                   weight_ + (std::size_t{panel_} * of_panel_ + chunk_) * kChunkBytes);
      if (++chunk_ < chunks_.end) continue;
      chunk_ = chunks_.begin;
      if (++panel_ * kPanel >= rows_.end) find_op(op_ + 1);
    }
    commit_copies();
    write_stage_ = (write_stage_ + 1) % kRingStages;
  }

  const Block& block_;
  std::uint32_t base_;   // of this lane's part of the first slot
  std::uint32_t slots_;  // of a stage
  // What is read next.
  std::uint32_t read_stage_ = 0;
  std::uint32_t used_ = 0;
  // What is copied next.
  std::uint32_t write_stage_ = 0;
  std::uint32_t step_ = 0, op_ = 0, panel_ = 0, chunk_ = 0, of_panel_ = 0;
  Range rows_{}, chunks_{};
  const unsigned char* weight_ = nullptr;
};

}  // namespace sluice::cuda::device
