// from compute_80
// Asynchronous copies: a ring of its own for each warp, a pipeline of the whole block, and a warp that copies for others.
#include <cstdint>

#include <cuda_bf16.h>

__device__ __forceinline__ void copy_async(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(to))),
               "l"(from)
               : "memory");
}
__device__ __forceinline__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
__device__ __forceinline__ void wait_group() { asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory"); }

// out[row] = matrix[row] . vector, a row for each warp at a time; columns a multiple of 128.
extern "C" __global__ void matrix_vector_ring(const float* matrix, const float* vector, float* out, unsigned rows,
                                              unsigned columns) {
  constexpr unsigned kStages = 4, kChunk = 128;
  __shared__ alignas(16) float ring[8][kStages][kChunk];
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
  const unsigned chunks = columns / kChunk;
  const unsigned first = blockIdx.x * warps + warp, stride = gridDim.x * warps;
  const unsigned mine = first < rows ? (rows - first + stride - 1) / stride : 0;
  const unsigned total = mine * chunks;
  const auto fetch = [&](unsigned step) {
    if (step < total) {
      const unsigned row = first + step / chunks * stride;
      copy_async(&ring[warp][step % kStages][lane * 4], matrix + size_t{row} * columns + step % chunks * kChunk + lane * 4);
    }
    commit();
  };
  for (unsigned step = 0; step < kStages - 1; ++step) fetch(step);
  float sum = 0;
  for (unsigned step = 0; step < total; ++step) {
    fetch(step + kStages - 1);
    wait_group<kStages - 1>();
    const float4 part = *reinterpret_cast<const float4*>(&ring[warp][step % kStages][lane * 4]);  // its own copy
    const float4 x = *reinterpret_cast<const float4*>(vector + step % chunks * kChunk + lane * 4);
    sum += part.x * x.x + part.y * x.y + part.z * x.z + part.w * x.w;
    if (step % chunks == chunks - 1) {
      for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
      if (lane == 0) out[first + step / chunks * stride] = sum;
      sum = 0;
    }
  }
  wait_group<0>();
}

// C = A (rows of k) B (columns of k) with m16n8k16 in bf16; a block of 4 warps makes 64 x 8, in three stages of k = 16.
extern "C" __global__ void product_pipeline(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int n, int k) {
  constexpr int kStages = 3;
  __shared__ alignas(16) __nv_bfloat16 tile_a[kStages][64][16];
  __shared__ alignas(16) __nv_bfloat16 tile_b[kStages][8][16];
  const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
  const int row0 = blockIdx.y * 64, column0 = blockIdx.x * 8, steps = k / 16;
  const auto fetch = [&](int step) {
    if (step < steps) {
      const int row = thread / 2, part = thread % 2 * 8;
      copy_async(&tile_a[step % kStages][row][part], a + (row0 + row) * k + step * 16 + part);
      if (thread < 16) copy_async(&tile_b[step % kStages][row][part], b + (column0 + row) * k + step * 16 + part);
    }
    commit();
  };
  for (int step = 0; step < kStages - 1; ++step) fetch(step);
  float sum[4] = {};
  for (int step = 0; step < steps; ++step) {
    wait_group<kStages - 2>();
    __syncthreads();
    fetch(step + kStages - 1);
    uint32_t a_part[4], b_part[2];
    const uint32_t a_row = static_cast<uint32_t>(
        __cvta_generic_to_shared(&tile_a[step % kStages][warp * 16 + lane % 16][lane / 16 * 8]));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(a_part[0]), "=r"(a_part[1]), "=r"(a_part[2]), "=r"(a_part[3]) : "r"(a_row) : "memory");
    const uint32_t b_row =
        static_cast<uint32_t>(__cvta_generic_to_shared(&tile_b[step % kStages][lane % 8][lane / 8 % 2 * 8]));
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(b_part[0]), "=r"(b_part[1]) : "r"(b_row) : "memory");
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a_part[0]), "r"(a_part[1]), "r"(a_part[2]), "r"(a_part[3]), "r"(b_part[0]), "r"(b_part[1]));
  }
  wait_group<0>();
  const int row = row0 + warp * 16 + lane / 4, column = column0 + lane % 4 * 2;
  c[row * n + column] = sum[0];
  c[row * n + column + 1] = sum[1];
  c[(row + 8) * n + column] = sum[2];
  c[(row + 8) * n + column + 1] = sum[3];
}

// Warp 0 loads, the others consume, two slots, named barriers 1 to 4 for full and empty. out[i] = in[i] * 3 + 1.
extern "C" __global__ void warp_specialised(const uint32_t* in, uint32_t* out, unsigned chunks) {
  constexpr unsigned kChunk = 96;
  __shared__ uint32_t slots[2][kChunk];
  const unsigned threads = blockDim.x, consumers = threads - 32;  // 96
  const uint32_t* from = in + size_t{blockIdx.x} * chunks * kChunk;
  uint32_t* to = out + size_t{blockIdx.x} * chunks * kChunk;
  if (threadIdx.x < 32) {
    for (unsigned chunk = 0; chunk < chunks; ++chunk) {
      const unsigned slot = chunk % 2;
      if (chunk >= 2) asm volatile("bar.sync %0, %1;" ::"r"(3 + slot), "r"(threads) : "memory");
      for (unsigned i = threadIdx.x; i < kChunk; i += 32) slots[slot][i] = from[chunk * kChunk + i];
      asm volatile("bar.arrive %0, %1;" ::"r"(1 + slot), "r"(threads) : "memory");
    }
  } else {
    for (unsigned chunk = 0; chunk < chunks; ++chunk) {
      const unsigned slot = chunk % 2;
      asm volatile("bar.sync %0, %1;" ::"r"(1 + slot), "r"(threads) : "memory");
      for (unsigned i = threadIdx.x - 32; i < kChunk; i += consumers) to[chunk * kChunk + i] = slots[slot][i] * 3 + 1;
      if (chunk + 2 < chunks) asm volatile("bar.arrive %0, %1;" ::"r"(3 + slot), "r"(threads) : "memory");
    }
  }
}

extern "C" __global__ void reduce_redux(const int* in, unsigned count, int* sum, int* smallest, unsigned* all_and) {
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
    const unsigned active = __activemask();
    const int value = in[i];
    const int added = __reduce_add_sync(active, value), least = __reduce_min_sync(active, value);
    const unsigned common = __reduce_and_sync(active, static_cast<unsigned>(value));
    if (threadIdx.x % 32 == static_cast<unsigned>(__ffs(static_cast<int>(active)) - 1)) {
      atomicAdd(sum, added);
      atomicMin(smallest, least);
      atomicAnd(all_and, common);
    }
  }
}
