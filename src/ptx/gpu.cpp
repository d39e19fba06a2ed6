#include "ptx/gpu.h"

#include <algorithm>
#include <iterator>
#include <string>

#include <fmt/format.h>

#include "base/error.h"

namespace sluice::ptx {
namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30U;
constexpr std::uint64_t kMiB = std::uint64_t{1} << 20U;
constexpr std::uint32_t kKiB = 1024;

// CUDA C++ Programming Guide, "Technical Specifications per Compute Capability": what all chips of one have in common.
constexpr Gpu of_architecture(std::uint32_t compute_capability) {
  Gpu gpu;
  gpu.compute_capability = compute_capability;
  switch (compute_capability) {
    case 75:
      gpu.max_threads_per_sm = 1024;
      gpu.max_blocks_per_sm = 16;
      gpu.shared_per_sm = gpu.shared_per_block_optin = 64 * kKiB;
      break;
    case 80:
    case 90:
      gpu.max_threads_per_sm = 2048;
      gpu.max_blocks_per_sm = 32;
      gpu.shared_per_sm = (compute_capability == 80 ? 164 : 228) * kKiB;
      break;
    default:
      gpu.max_threads_per_sm = 1536;
      gpu.max_blocks_per_sm = compute_capability == 86 ? 16 : 24;
      gpu.shared_per_sm = 100 * kKiB;
  }
  if (compute_capability >= 80) {
    gpu.reserved_shared_per_block = kKiB;
    gpu.shared_per_block_optin = gpu.shared_per_sm - kKiB;
  }
  return gpu;
}

constexpr Gpu make(std::string_view preset, std::string_view name, std::uint32_t compute_capability,
                   std::uint32_t sms, std::uint32_t clock_mhz, std::uint32_t memory_clock_mhz,
                   std::uint32_t memory_bus_bits, std::uint32_t bandwidth_gbs, std::uint64_t memory_bytes,
                   std::uint64_t l2_bytes) {
  Gpu gpu = of_architecture(compute_capability);
  gpu.preset = preset;
  gpu.name = name;
  gpu.sms = sms;
  gpu.clock_mhz = clock_mhz;
  gpu.memory_clock_mhz = memory_clock_mhz;
  gpu.memory_bus_bits = memory_bus_bits;
  gpu.bandwidth_gbs = bandwidth_gbs;
  gpu.memory_bytes = memory_bytes;
  gpu.l2_bytes = l2_bytes;
  return gpu;
}

// `tiny` is no product: two SMs, so that small grids fill it.
constexpr Gpu kGpus[] = {
    make("rtx3090", "NVIDIA GeForce RTX 3090", 86, 82, 1695, 9751, 384, 936, 24 * kGiB, 6 * kMiB),
    make("a6000", "NVIDIA RTX A6000", 86, 84, 1800, 8001, 384, 768, 48 * kGiB, 6 * kMiB),
    make("rtx4090", "NVIDIA GeForce RTX 4090", 89, 128, 2520, 10501, 384, 1008, 24 * kGiB, 72 * kMiB),
    make("rtx5090", "NVIDIA GeForce RTX 5090", 120, 170, 2407, 14001, 512, 1792, 32 * kGiB, 96 * kMiB),
    make("a100", "NVIDIA A100 80GB", 80, 108, 1410, 1593, 5120, 2039, 80 * kGiB, 40 * kMiB),
    make("h100", "NVIDIA H100 SXM", 90, 132, 1980, 2619, 5120, 3350, 80 * kGiB, 50 * kMiB),
    make("h200", "NVIDIA H200", 90, 132, 1980, 3201, 6144, 4800, 141 * kGiB, 50 * kMiB),
    make("t4", "NVIDIA T4", 75, 40, 1590, 5001, 256, 320, 16 * kGiB, 4 * kMiB),
    make("tiny", "Sluice PTX machine, 2 SMs", 86, 2, 1000, 1000, 64, 16, 1 * kGiB, 1 * kMiB),
};

}  // namespace

std::span<const Gpu> gpus() {
  return kGpus;
}

const Gpu& gpu_named(std::string_view preset) {
  const auto* found = std::ranges::find(kGpus, preset, &Gpu::preset);
  if (found != std::end(kGpus)) return *found;
  std::string names;
  for (const Gpu& gpu : kGpus) names += fmt::format("{}{}", names.empty() ? "" : ", ", gpu.preset);
  throw Error(fmt::format("no GPU is called '{}'", preset), "", "choose one of " + names);
}

}  // namespace sluice::ptx
