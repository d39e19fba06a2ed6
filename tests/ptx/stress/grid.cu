// Blocks that wait for each other: a spin barrier and cooperative groups. Both shift an array by one, many times over.
#include <cstdint>

#include <cooperative_groups.h>

__device__ void spin_barrier(unsigned* count, unsigned* generation) {
  __syncthreads();
  if (threadIdx.x == 0) {
    unsigned now, arrived;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(now) : "l"(generation) : "memory");
    asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], 1;" : "=r"(arrived) : "l"(count) : "memory");
    if (arrived == gridDim.x - 1) {
      asm volatile("st.relaxed.gpu.global.u32 [%0], 0;" ::"l"(count) : "memory");
      asm volatile("red.add.release.gpu.global.u32 [%0], 1;" ::"l"(generation) : "memory");
    } else {
      unsigned seen = now;
      while (seen == now) asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(generation) : "memory");
    }
  }
  __syncthreads();
}

__device__ void shift(const uint32_t* from, uint32_t* to, unsigned count) {
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x)
    to[i] = from[(i + 1) % count] + 1;
}

extern "C" __global__ void shift_spinning(uint32_t* a, uint32_t* b, unsigned count, unsigned rounds, unsigned* counters) {
  for (unsigned round = 0; round < rounds; ++round) {
    shift(round % 2 == 0 ? a : b, round % 2 == 0 ? b : a, count);
    spin_barrier(&counters[0], &counters[1]);
  }
}

extern "C" __global__ void shift_cooperative(uint32_t* a, uint32_t* b, unsigned count, unsigned rounds) {
  const cooperative_groups::grid_group grid = cooperative_groups::this_grid();
  for (unsigned round = 0; round < rounds; ++round) {
    shift(round % 2 == 0 ? a : b, round % 2 == 0 ? b : a, count);
    grid.sync();
  }
}

// Warps take tiles by ticket and hand each block's token on to the next block.
extern "C" __global__ void relay(uint32_t* token, uint32_t* log, unsigned laps) {
  const cooperative_groups::thread_block block = cooperative_groups::this_thread_block();
  const auto tile = cooperative_groups::tiled_partition<8>(block);
  for (unsigned lap = 0; lap < laps; ++lap) {
    const uint32_t turn = lap * gridDim.x + blockIdx.x;
    if (block.thread_rank() == 0) {
      uint32_t seen;
      do asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(token) : "memory");
      while (seen != turn);
    }
    block.sync();
    uint32_t value = block.thread_rank() + (turn == 0 ? 0 : log[turn - 1]);
    for (int offset = 4; offset > 0; offset /= 2) value += tile.shfl_xor(value, offset);
    if (block.thread_rank() == 0) {
      log[turn] = value % 1000;
      asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(token), "r"(turn + 1) : "memory");
    }
    block.sync();
  }
}
