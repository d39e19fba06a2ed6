// Sums, scans and orders of a whole array: warps shuffle, blocks meet in shared memory, blocks find each other through counters.
#include <cstdint>

__device__ __forceinline__ uint32_t warp_sum(uint32_t value) {
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_down_sync(0xffffffffu, value, offset);
  return value;
}

__device__ uint32_t block_sum(uint32_t value) {
  __shared__ uint32_t of_warp[32];
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  value = warp_sum(value);
  if (lane == 0) of_warp[warp] = value;
  __syncthreads();
  const unsigned warps = (blockDim.x + 31) / 32;
  value = threadIdx.x < warps ? of_warp[threadIdx.x] : 0;
  if (warp == 0) value = warp_sum(value);
  __syncthreads();
  return value;  // thread 0 has it
}

extern "C" __global__ void reduce_atomic(const uint32_t* in, unsigned count, uint32_t* out) {
  uint32_t sum = 0;
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) sum += in[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) atomicAdd(out, sum);
}

// The last block to arrive adds the others' parts, in their order.
extern "C" __global__ void reduce_last_block(const float* in, unsigned count, float* parts, unsigned* arrived, float* out) {
  extern __shared__ float tree[];
  float sum = 0;
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) sum += in[i];
  tree[threadIdx.x] = sum;
  __syncthreads();
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) tree[threadIdx.x] += tree[threadIdx.x + half];
    __syncthreads();
  }
  __shared__ bool last;
  if (threadIdx.x == 0) {
    parts[blockIdx.x] = tree[0];
    __threadfence();
    last = atomicInc(arrived, gridDim.x - 1) == gridDim.x - 1;
    __threadfence();
  }
  __syncthreads();
  if (last && threadIdx.x == 0) {
    float total = 0;
    for (unsigned i = 0; i < gridDim.x; ++i) total += parts[i];
    *out = total;
  }
}

__device__ __forceinline__ uint64_t load_acquire(const uint64_t* address) {
  uint64_t value;
  asm volatile("ld.acquire.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(address) : "memory");
  return value;
}

__device__ __forceinline__ void store_release(uint64_t* address, uint64_t value) {
  asm volatile("st.release.gpu.global.u64 [%0], %1;" ::"l"(address), "l"(value) : "memory");
}

// Inclusive sums in one pass with look-back: a block publishes its own sum (state 1), then its prefix (state 2). Tiles are
// taken by ticket, so that whoever is waited for is running.
extern "C" __global__ void scan_look_back(const uint32_t* in, uint32_t* out, unsigned count, uint64_t* states,
                                          unsigned* ticket) {
  __shared__ uint32_t values[256];
  __shared__ unsigned tile;
  __shared__ uint32_t before;
  const unsigned tiles = (count + blockDim.x - 1) / blockDim.x;
  while (true) {
    if (threadIdx.x == 0) tile = atomicAdd(ticket, 1);
    __syncthreads();
    if (tile >= tiles) return;
    const unsigned i = tile * blockDim.x + threadIdx.x;
    values[threadIdx.x] = i < count ? in[i] : 0;
    __syncthreads();
    for (unsigned step = 1; step < blockDim.x; step *= 2) {
      const uint32_t left = threadIdx.x >= step ? values[threadIdx.x - step] : 0;
      __syncthreads();
      values[threadIdx.x] += left;
      __syncthreads();
    }
    if (threadIdx.x == 0) {
      const uint32_t sum = values[blockDim.x - 1];
      store_release(&states[tile], (uint64_t{tile == 0 ? 2u : 1u} << 32) | sum);
      uint32_t prefix = 0;
      for (unsigned back = tile; back > 0;) {
        const uint64_t state = load_acquire(&states[back - 1]);
        if (state >> 32 == 0) continue;
        prefix += static_cast<uint32_t>(state);
        if (state >> 32 == 2) break;
        --back;
      }
      if (tile != 0) store_release(&states[tile], (uint64_t{2} << 32) | (prefix + sum));
      before = prefix;
    }
    __syncthreads();
    if (i < count) out[i] = before + values[threadIdx.x];
    __syncthreads();
  }
}

extern "C" __global__ void histogram(const uint8_t* in, unsigned count, unsigned* bins) {
  __shared__ unsigned own[256];
  for (unsigned i = threadIdx.x; i < 256; i += blockDim.x) own[i] = 0;
  __syncthreads();
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) atomicAdd(&own[in[i]], 1);
  __syncthreads();
  for (unsigned i = threadIdx.x; i < 256; i += blockDim.x)
    if (own[i] != 0) atomicAdd(&bins[i], own[i]);
}

// Each warp reserves room for its lanes that keep their value, with one atomic.
extern "C" __global__ void compact_odd(const uint32_t* in, unsigned count, uint32_t* out, unsigned* kept) {
  for (unsigned first = blockIdx.x * blockDim.x; first < count; first += gridDim.x * blockDim.x) {
    const unsigned i = first + threadIdx.x;
    const bool keep = i < count && (in[i] & 1) != 0;
    const unsigned mask = __ballot_sync(0xffffffffu, keep);
    const unsigned lane = threadIdx.x % 32;
    unsigned at = 0;
    if (lane == 0) at = atomicAdd(kept, __popc(mask));
    at = __shfl_sync(0xffffffffu, at, 0) + __popc(mask & ((1u << lane) - 1));
    if (keep) out[at] = in[i];
  }
}

// One block sorts up to 1024 keys of its own.
extern "C" __global__ void bitonic_sort(uint32_t* keys, unsigned per_block) {
  extern __shared__ uint32_t sorted[];
  for (unsigned i = threadIdx.x; i < per_block; i += blockDim.x) sorted[i] = keys[blockIdx.x * per_block + i];
  for (unsigned size = 2; size <= per_block; size *= 2)
    for (unsigned stride = size / 2; stride > 0; stride /= 2) {
      __syncthreads();
      for (unsigned i = threadIdx.x; i < per_block / 2; i += blockDim.x) {
        const unsigned low = 2 * i - (i & (stride - 1)), high = low + stride;
        const bool up = (low & size) == 0;
        if ((sorted[low] > sorted[high]) == up) {
          const uint32_t swapped = sorted[low];
          sorted[low] = sorted[high];
          sorted[high] = swapped;
        }
      }
    }
  __syncthreads();
  for (unsigned i = threadIdx.x; i < per_block; i += blockDim.x) keys[blockIdx.x * per_block + i] = sorted[i];
}
