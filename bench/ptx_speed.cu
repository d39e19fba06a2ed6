// What ptx_speed.py runs on the PTX machine: a matrix times a vector, and a matrix product on tensor cores.
#include <cstdint>

#include <cuda_bf16.h>

// out = matrix (rows of columns) vector: a warp for each row, the vector in shared memory.
extern "C" __global__ void matrix_vector(const __nv_bfloat16* __restrict__ matrix,
                                         const float* __restrict__ vector, float* out, int rows,
                                         int columns) {
  extern __shared__ float shared_vector[];
  const int warp = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
  for (int i = threadIdx.x; i < columns; i += blockDim.x) shared_vector[i] = vector[i];
  __syncthreads();
  for (int row = warp; row < rows; row += gridDim.x * blockDim.x / 32) {
    const uint4* weights = reinterpret_cast<const uint4*>(matrix + size_t(row) * columns);
    float sum = 0;
#pragma unroll 4
    for (int i = lane; i < columns / 8; i += 32) {
      const uint4 w = weights[i];
      const float4* x = reinterpret_cast<const float4*>(shared_vector + i * 8);
      const uint32_t pairs[4] = {w.x, w.y, w.z, w.w};
      const float values[8] = {x[0].x, x[0].y, x[0].z, x[0].w, x[1].x, x[1].y, x[1].z, x[1].w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        sum += __uint_as_float(pairs[j] << 16) * values[2 * j];
        sum += __uint_as_float(pairs[j] & 0xffff0000) * values[2 * j + 1];
      }
    }
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(~0u, sum, offset);
    if (lane == 0) out[row] = sum;
    __syncwarp();
  }
}

__device__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}
__device__ void copy_async(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from) : "memory");
}
__device__ void load_matrices(uint32_t* d, const void* from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
               : "r"(shared_address(from))
               : "memory");
}
__device__ void multiply(float* d, const uint32_t* a, const uint32_t* b) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// C (m x n) = A (m x k) times B (n x k) transposed: a block of 4 warps makes 64 x 64, in steps of k = 32, two stages.
extern "C" __global__ void matrix_product(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int n,
                                          int k) {
  __shared__ alignas(16) __nv_bfloat16 tile_a[2][64][40],
      tile_b[2][64][40];  // 40: rows of 80 bytes meet no bank twice
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int row0 = blockIdx.y * 64, column0 = blockIdx.x * 64;
  float sum[8][4] = {};
  const auto fetch = [&](int stage, int from) {
    for (int i = threadIdx.x; i < 256; i += 128) {
      const int row = i / 4, column = i % 4 * 8;
      copy_async(&tile_a[stage][row][column], a + size_t(row0 + row) * k + from + column);
      copy_async(&tile_b[stage][row][column], b + size_t(column0 + row) * k + from + column);
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  };
  fetch(0, 0);
  for (int from = 0, stage = 0; from < k; from += 32, stage ^= 1) {
    if (from + 32 < k) {
      fetch(stage ^ 1, from + 32);
      asm volatile("cp.async.wait_group 1;" ::: "memory");
    } else {
      asm volatile("cp.async.wait_group 0;" ::: "memory");
    }
    __syncthreads();
#pragma unroll
    for (int step = 0; step < 32; step += 16) {
      uint32_t fragment_a[4];
      load_matrices(fragment_a, &tile_a[stage][warp * 16 + lane % 16][step + lane / 16 * 8]);
#pragma unroll
      for (int j = 0; j < 8; j += 2) {
        uint32_t fragment_b[4];
        load_matrices(fragment_b, &tile_b[stage][j * 8 + lane % 8 + lane / 16 * 8][step + lane / 8 % 2 * 8]);
        multiply(sum[j], fragment_a, fragment_b);
        multiply(sum[j + 1], fragment_a, fragment_b + 2);
      }
    }
    __syncthreads();
  }
  for (int j = 0; j < 8; ++j) {
    for (int i = 0; i < 4; ++i)
      c[size_t(row0 + warp * 16 + lane / 4 + i / 2 * 8) * n + column0 + j * 8 + lane % 4 * 2 + i % 2] =
          sum[j][i];
  }
}
