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
constexpr Gpu complete(Gpu gpu) {
  gpu.max_threads_per_sm = 1536;
  gpu.max_blocks_per_sm = gpu.compute_capability == 86 ? 16 : 24;
  gpu.shared_per_sm = 100 * kKiB;
  if (gpu.compute_capability == 75) {
    gpu.max_threads_per_sm = 1024;
    gpu.max_blocks_per_sm = 16;
    gpu.shared_per_sm = 64 * kKiB;
  } else if (gpu.compute_capability == 80 || gpu.compute_capability == 90) {
    gpu.max_threads_per_sm = 2048;
    gpu.max_blocks_per_sm = 32;
    gpu.shared_per_sm = (gpu.compute_capability == 80 ? 164 : 228) * kKiB;
  }
  gpu.reserved_shared_per_block = gpu.compute_capability >= 80 ? kKiB : 0;
  gpu.shared_per_block_optin = gpu.shared_per_sm - gpu.reserved_shared_per_block;
  return gpu;
}

// `tiny` is no product: two SMs, so that small grids fill it.
constexpr Gpu kGpus[] = {
    complete({"rtx3090", "NVIDIA GeForce RTX 3090", 86, 82, 1695, 9751, 384, 24 * kGiB, 6 * kMiB}),
    complete({"a6000", "NVIDIA RTX A6000", 86, 84, 1800, 8001, 384, 48 * kGiB, 6 * kMiB}),
    complete({"rtx4090", "NVIDIA GeForce RTX 4090", 89, 128, 2520, 10501, 384, 24 * kGiB, 72 * kMiB}),
    complete({"rtx5090", "NVIDIA GeForce RTX 5090", 120, 170, 2407, 14001, 512, 32 * kGiB, 96 * kMiB}),
    complete({"a100", "NVIDIA A100 80GB", 80, 108, 1410, 1593, 5120, 80 * kGiB, 40 * kMiB}),
    complete({"h100", "NVIDIA H100 SXM", 90, 132, 1980, 2619, 5120, 80 * kGiB, 50 * kMiB}),
    complete({"h200", "NVIDIA H200", 90, 132, 1980, 3201, 6144, 141 * kGiB, 50 * kMiB}),
    complete({"t4", "NVIDIA T4", 75, 40, 1590, 5001, 256, 16 * kGiB, 4 * kMiB}),
    complete({"tiny", "Sluice PTX machine, 2 SMs", 86, 2, 1000, 1000, 64, 1 * kGiB, 1 * kMiB}),
};

}  // namespace

const Gpu& gpu_named(std::string_view preset) {
  const auto* found = std::ranges::find(kGpus, preset, &Gpu::preset);
  if (found != std::end(kGpus)) return *found;
  std::string names;
  for (const Gpu& gpu : kGpus) names += fmt::format("{}{}", names.empty() ? "" : ", ", gpu.preset);
  throw Error(fmt::format("no GPU is called '{}'", preset), "", "choose one of " + names);
}

}  // namespace sluice::ptx
