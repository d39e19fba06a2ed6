// A compute warp's stream of weights: the chunks of all its products, in the order in which it will use them, through all ops
// and steps of the launch. They are copied into the warp's ring in shared memory long before their op may begin, since weights
// depend on nothing: so memory streams while the block waits. A lane reads only what it has copied itself, so no barrier is needed.
//
// The ring has kRingStages stages of `ring_slots` chunks. A stage is one group of copies. A slot is filled again as soon as its chunk
// has been multiplied, with the chunk that stands a whole ring further on in the stream. For each chunk a few instructions are all
// that there is time for (docs/gpu-model.md): what changes from panel to panel, or from op to op, is worked out there.
#pragma once

#include <cstdint>

#include "cuda/device/block.h"

namespace sluice::cuda::device {

// Chunks of a warp in a panel: an equal share, whoever's panel it is, so that sums don't depend on the grid.
__device__ inline Range chunks_of_warp(const Op& op, std::uint32_t warp) {
  return {op.chunks * warp / kComputeWarps, op.chunks * (warp + 1) / kComputeWarps};
}

// The block's rows of a matrix, eight at a time.
__device__ inline std::uint32_t panels_of(Range rows) {
  return (rows.end - rows.begin + kPanel - 1) / kPanel;
}

class WeightRing {
 public:
  __device__ explicit WeightRing(const Block& block)
      : block_(block),
        slots_(block.launch.shared.ring_slots),
        begin_(shared_address(shared_memory + block.launch.shared.ring) +
               block.warp * kRingStages * slots_ * kChunkBytes + block.lane * 16),
        at_(begin_),
        end_of_stage_(begin_ + slots_ * kChunkBytes) {
    if (block.is_control()) return;
#pragma unroll 1
    for (std::uint32_t stage = 0; stage < kRingStages; ++stage) {
      if (stage != 0) begin_stage();
#pragma unroll 1
      while (at_ != end_of_stage_) copy_next();
    }
  }

  // The next chunk: eight weights of row lane / 4 of the next eight, zeros if the row isn't the block's. Then copy_next(), when they have
  // been used.
  __device__ uint4 next() {
    if (at_ == end_of_stage_) {
      begin_stage();
      wait_for_copies<kRingStages - 1>();
    }
    return load_shared(at_);
  }

  // Into the slot that next() has read.
  __device__ void copy_next() {
    if (from_ == end_of_run_) next_panel();
    copy_async(at_, from_, bytes_);
    at_ += kChunkBytes;
    from_ += kChunkBytes;
  }

  // No thread may leave with copies under way.
  __device__ void drain() const {
    commit_copies();
    wait_for_copies<0>();
  }

 private:
  // The one before is complete: all its copies are under way.
  __device__ void begin_stage() {
    commit_copies();
    if (at_ == begin_ + kRingStages * slots_ * kChunkBytes) at_ = begin_;
    end_of_stage_ = at_ + slots_ * kChunkBytes;
  }

  __device__ void next_panel() {
    from_ += to_next_panel_;
    if (--n_panels_ == 0) find_op(op_ + 1);
    bytes_ = n_panels_ == 1 ? last_bytes_ : 16;
    end_of_run_ = from_ + run_bytes_;
  }

  // To the next op, from `index` on, of which this warp has a share. Behind the launch's last one nothing is copied, as often as asked.
  __device__ void find_op(std::uint32_t index) {
    const Launch& launch = block_.launch;
#pragma unroll 1
    for (;; ++index) {
      if (index == launch.n_ops) {
        index = 0;
        if (++step_ >= launch.n_steps) {
          n_panels_ = 1;
          last_bytes_ = 0;
          run_bytes_ = 1;  // an end that is never reached
          return;
        }
      }
      const Op& op = launch.ops[index];
      if (op.weight == nullptr) continue;
      const Range rows = block_.share_of(index);
      const Range chunks = chunks_of_warp(op, block_.warp);
      if (rows.begin == rows.end || chunks.begin == chunks.end) continue;
      op_ = index;
      n_panels_ = panels_of(rows);
      const std::uint32_t row = rows.begin + block_.lane / 4;
      last_bytes_ = row + (n_panels_ - 1) * kPanel < rows.end ? 16 : 0;
      // A matrix has less than 2^32 chunks.
      const std::uint32_t n_chunks = chunks.end - chunks.begin;
      from_ = reinterpret_cast<const unsigned char*>(op.weight) +
              std::size_t{row / kPanel * op.chunks + chunks.begin} * kChunkBytes +
              (row % kPanel * 4 + block_.lane % 4) * 16;
      run_bytes_ = n_chunks * kChunkBytes;
      to_next_panel_ = (op.chunks - n_chunks) * kChunkBytes;
      return;
    }
  }

  const Block& block_;
  std::uint32_t slots_;  // of a stage
  // Places in shared memory of this lane's part: of the ring, of the slot that is read and filled next, behind the stage's last one.
  std::uint32_t begin_, at_, end_of_stage_;
  // What is copied next: a run is the warp's chunks of a panel, which lie side by side.
  const unsigned char* from_ = nullptr;
  const unsigned char* end_of_run_ = nullptr;
  std::size_t run_bytes_ = 0, to_next_panel_ = 0;
  std::uint32_t bytes_ = 0,
                last_bytes_ = 0;  // a lane's, in the last panel: 16, or none if the row isn't the block's
  std::uint32_t n_panels_ = 1;    // that are left; before the first op as if there were one
  std::uint32_t op_ = kNone, step_ = 0;
};

}  // namespace sluice::cuda::device
