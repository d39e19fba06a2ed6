// Transposes and matrix products: plain, through shared memory, through tensor cores.
#include <cstdint>

#include <cuda_fp16.h>

extern "C" __global__ void transpose(const float* in, float* out, unsigned rows, unsigned columns) {
  __shared__ float tile[32][33];
  const unsigned column = blockIdx.x * 32 + threadIdx.x, row = blockIdx.y * 32 + threadIdx.y;
  for (unsigned i = 0; i < 32; i += blockDim.y)
    if (column < columns && row + i < rows) tile[threadIdx.y + i][threadIdx.x] = in[(row + i) * columns + column];
  __syncthreads();
  const unsigned to_column = blockIdx.y * 32 + threadIdx.x, to_row = blockIdx.x * 32 + threadIdx.y;
  for (unsigned i = 0; i < 32; i += blockDim.y)
    if (to_column < rows && to_row + i < columns) out[(to_row + i) * rows + to_column] = tile[threadIdx.x][threadIdx.y + i];
}

extern "C" __global__ void product_plain(const float* a, const float* b, float* c, int m, int n, int k) {
  const int column = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y * blockDim.y + threadIdx.y;
  if (column >= n || row >= m) return;
  float sum = 0;
  for (int i = 0; i < k; ++i) sum = fmaf(a[row * k + i], b[i * n + column], sum);
  c[row * n + column] = sum;
}

extern "C" __global__ void product_shared(const float* a, const float* b, float* c, int m, int n, int k) {
  __shared__ float tile_a[16][16], tile_b[16][17];
  const int x = threadIdx.x, y = threadIdx.y;
  const int column = blockIdx.x * 16 + x, row = blockIdx.y * 16 + y;
  float sum = 0;
  for (int from = 0; from < k; from += 16) {
    tile_a[y][x] = row < m && from + x < k ? a[row * k + from + x] : 0;
    tile_b[y][x] = column < n && from + y < k ? b[(from + y) * n + column] : 0;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 16; ++i) sum = fmaf(tile_a[y][i], tile_b[i][x], sum);
    __syncthreads();
  }
  if (row < m && column < n) c[row * n + column] = sum;
}

// C (16 x 8 for each warp) = A (16 x k, rows) B (k x 8, columns) in steps of k = 8, A through ldmatrix.
extern "C" __global__ void product_mma(const __half* a, const __half* b, float* c, int n, int k) {
  __shared__ alignas(16) __half tile[16][8];
  const unsigned lane = threadIdx.x;
  const int row0 = blockIdx.y * 16, column0 = blockIdx.x * 8;
  float sum[4] = {};
  for (int from = 0; from < k; from += 8) {
    for (unsigned i = lane; i < 16 * 8; i += 32) tile[i / 8][i % 8] = a[(row0 + i / 8) * k + from + i % 8];
    __syncwarp();
    uint32_t a_part[2], b_part;
    const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(&tile[lane % 16][0]));
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(a_part[0]), "=r"(a_part[1]) : "r"(address) : "memory");
    const __half* column = b + (column0 + lane / 4) * k + from + lane % 4 * 2;
    b_part = *reinterpret_cast<const uint32_t*>(column);
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a_part[0]), "r"(a_part[1]), "r"(b_part));
    __syncwarp();
  }
  const int row = row0 + lane / 4, column = column0 + lane % 4 * 2;
  c[row * n + column] = sum[0];
  c[row * n + column + 1] = sum[1];
  c[(row + 8) * n + column] = sum[2];
  c[(row + 8) * n + column + 1] = sum[3];
}
