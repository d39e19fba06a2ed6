// What a GPU can do at most: reading memory, and products on tensor cores as prefill makes them (fp32 on compute_75, which has none
// for bf16). A speed is set against these, so they do nothing else.
#include "cuda/device/matrix.h"
#include "cuda/device/ptx.h"
#include "cuda/probe_launch.h"

namespace sluice::cuda::device {

extern "C" __global__ void __launch_bounds__(kProbeThreads)
    sluice_probe_read(const __grid_constant__ ReadProbeLaunch launch) {
  constexpr std::uint32_t kAtOnce = 8;  // loads of a thread under way
  const auto* data = static_cast<const uint4*>(launch.data);
  const bool is_striped = launch.is_striped != 0;
  const std::uint64_t stride = is_striped ? std::uint64_t{gridDim.x} * kProbeThreads : kProbeThreads;
  const std::uint64_t first = is_striped ? blockIdx.x * kProbeThreads : launch.n * blockIdx.x / gridDim.x;
  const std::uint64_t end = is_striped ? launch.n : launch.n * (blockIdx.x + 1) / gridDim.x;
  std::uint32_t sum = 0;
  std::uint64_t at = first + threadIdx.x;
#pragma unroll 1
  for (; at + (kAtOnce - 1) * stride < end; at += kAtOnce * stride) {
    uint4 words[kAtOnce];
#pragma unroll
    for (std::uint32_t i = 0; i < kAtOnce; ++i) words[i] = load_shared_result(data + at + i * stride);
#pragma unroll
    for (std::uint32_t i = 0; i < kAtOnce; ++i) sum ^= words[i].x ^ words[i].y ^ words[i].z ^ words[i].w;
  }
#pragma unroll 1
  for (; at < end; at += stride) {
    const uint4 words = load_shared_result(data + at);
    sum ^= words.x ^ words.y ^ words.z ^ words.w;
  }
  launch.sums[blockIdx.x * kProbeThreads + threadIdx.x] = sum;
}

extern "C" __global__ void __launch_bounds__(kProbeThreads)
    sluice_probe_products(const __grid_constant__ ProductProbeLaunch launch) {
  constexpr std::uint32_t kOnes = 0x3F803F80;  // two of bf16
  float sums[kProbeSums][4] = {};
#pragma unroll 1
  for (std::uint32_t round = 0; round < launch.rounds; ++round) {
#pragma unroll
    for (std::uint32_t i = 0; i < kProbeSums; ++i)
      multiply_add_bf16(sums[i], kOnes, kOnes, kOnes, kOnes, kOnes, kOnes);
  }
  float sum = 0;
#pragma unroll
  for (std::uint32_t i = 0; i < kProbeSums; ++i) sum += sums[i][0] + sums[i][1] + sums[i][2] + sums[i][3];
  launch.sums[blockIdx.x * kProbeThreads + threadIdx.x] = sum;
}

}  // namespace sluice::cuda::device
