// The instructions that CUDA C++ has no word for, one function each. All are volatile and clobber memory: the compiler moves
// nothing across them.
#pragma once

#include <cstdint>

namespace sluice::cuda::device {

// The same value, of which the compiler knows nothing.
template <typename T>
__device__ inline T opaque(T value) {
  auto bits = static_cast<std::uint32_t>(value);
  asm volatile("" : "+r"(bits));
  return static_cast<T>(bits);
}

// What all lanes of a warp have, said so to the compiler: branches on it need no care for lanes that part.
__device__ inline std::uint32_t uniform(std::uint32_t value) {
  return __shfl_sync(0xFFFFFFFFU, value, 0);
}

// Counters and words that blocks share.

__device__ inline std::uint32_t load_acquire(const std::uint32_t* at) {
  std::uint32_t value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(at) : "memory");
  return value;
}

__device__ inline std::uint32_t load_relaxed(const std::uint32_t* at) {
  std::uint32_t value;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(at) : "memory");
  return value;
}

__device__ inline std::uint32_t load_relaxed_system(const std::uint32_t* at) {
  std::uint32_t value;
  asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(at) : "memory");
  return value;
}

// Adds one after everything that this thread did, or saw before a barrier.
__device__ inline void arrive_release(std::uint32_t* at) {
  asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(at) : "memory");
}

__device__ inline void store_release_system(std::uint32_t* at, std::uint32_t value) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(at), "r"(value) : "memory");
}

// Sets a word that was zero; whether it was.
__device__ inline bool set_once(std::uint32_t* at) {
  std::uint32_t old;
  asm volatile("atom.relaxed.gpu.global.cas.b32 %0, [%1], 0, 1;" : "=r"(old) : "l"(at) : "memory");
  return old == 0;
}

__device__ inline std::uint64_t nanoseconds() {
  std::uint64_t value;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(value)::"memory");
  return value;
}

// What other blocks wrote in this launch, past the first-level cache.

__device__ inline float load_shared_result(const float* at) {
  float value;
  asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(value) : "l"(at) : "memory");
  return value;
}

__device__ inline float2 load_shared_result(const float2* at) {
  float2 value;
  asm volatile("ld.global.cg.v2.f32 {%0, %1}, [%2];" : "=f"(value.x), "=f"(value.y) : "l"(at) : "memory");
  return value;
}

__device__ inline float4 load_shared_result(const float4* at) {
  float4 value;
  asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
               : "l"(at)
               : "memory");
  return value;
}

__device__ inline uint4 load_shared_result(const uint4* at) {
  uint4 value;
  asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(at)
               : "memory");
  return value;
}

__device__ inline std::uint32_t load_shared_result(const std::uint32_t* at) {
  std::uint32_t value;
  asm volatile("ld.global.cg.u32 %0, [%1];" : "=r"(value) : "l"(at) : "memory");
  return value;
}

// Barriers of a block; `threads` counts whole warps.

__device__ inline void barrier_sync(std::uint32_t id, std::uint32_t threads) {
  asm volatile("barrier.sync.aligned %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// And whether one of the threads says so.
__device__ inline bool barrier_or(std::uint32_t id, std::uint32_t threads, bool says) {
  std::uint32_t any;
  asm volatile(
      "{\n"
      ".reg .pred in, out;\n"
      "setp.ne.u32 in, %3, 0;\n"
      "barrier.red.or.aligned.pred out, %1, %2, in;\n"
      "selp.u32 %0, 1, 0, out;\n"
      "}"
      : "=r"(any)
      : "r"(id), "r"(threads), "r"(static_cast<std::uint32_t>(says))
      : "memory");
  return any != 0;
}

__device__ inline void barrier_arrive(std::uint32_t id, std::uint32_t threads) {
  asm volatile("barrier.arrive.aligned %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Shared memory by its own addresses.

__device__ inline uint4 load_shared(std::uint32_t at) {
  uint4 value;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "r"(at)
               : "memory");
  return value;
}

// The same if `is_there`, else the value as it was: without a branch.
__device__ inline void load_shared_if(bool is_there, std::uint32_t at, uint4& value) {
  asm volatile(
      "{\n"
      ".reg .pred there;\n"
      "setp.ne.u32 there, %5, 0;\n"
      "@there ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];\n"
      "}"
      : "+r"(value.x), "+r"(value.y), "+r"(value.z), "+r"(value.w)
      : "r"(at), "r"(static_cast<std::uint32_t>(is_there))
      : "memory");
}

__device__ inline void store_shared(std::uint32_t at, float value) {
  asm volatile("st.shared.f32 [%0], %1;" ::"r"(at), "f"(value) : "memory");
}

__device__ inline void store_shared(std::uint32_t at, std::uint32_t first, std::uint32_t second) {
  asm volatile("st.shared.v2.u32 [%0], {%1, %2};" ::"r"(at), "r"(first), "r"(second) : "memory");
}

__device__ inline void store_shared(std::uint32_t at, const uint4& value) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(at), "r"(value.x), "r"(value.y), "r"(value.z),
               "r"(value.w)
               : "memory");
}

// Both at once; the compiler would make two stores of it, with bank conflicts.
__device__ inline void store_shared(std::uint32_t at, float2 value) {
  asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(at), "f"(value.x), "f"(value.y) : "memory");
}

__device__ inline std::uint32_t shared_address(const void* at) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(at));
}

// Copies 16 bytes to shared memory, or makes them zero if `bytes` is none: complete, for the thread that copied, after a wait. On sm_75,
// which has no asynchronous copies, at once.

__device__ inline void copy_async(std::uint32_t to, const void* from, std::uint32_t bytes = 16) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
#else
  std::uint32_t x = 0, y = 0, z = 0, w = 0;
  if (bytes != 0)
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x), "=r"(y), "=r"(z), "=r"(w)
                 : "l"(from)
                 : "memory");
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(x), "r"(y), "r"(z), "r"(w)
               : "memory");
#endif
}

__device__ inline void commit_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Until at most `Pending` groups of copies are under way.
template <int Pending>
__device__ inline void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
#endif
}

#if __CUDA_ARCH__ >= 800
// d += A B for the first 8 of m16n8k16's 16 rows; A is `zero` in the others, whose sums `unused` are of no use. Lane 4 g + t: `a` row g,
// `b` column g, at k = 2 t, 2 t + 1 and 2 t + 8, 2 t + 9; `d` row g, columns 2 t, 2 t + 1.
__device__ inline void mma_bf16(float2& d, float2& unused, std::uint32_t a0, std::uint32_t a1,
                                std::uint32_t zero, std::uint32_t b0, std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %5}, {%7, %8}, "
      "{%0, %1, %2, %3};"
      : "+f"(d.x), "+f"(d.y), "+f"(unused.x), "+f"(unused.y)
      : "r"(a0), "r"(zero), "r"(a1), "r"(b0), "r"(b1)
      : "memory");
}
#endif

}  // namespace sluice::cuda::device
