#include "cuda/gpu_constants.h"

#include <algorithm>
#include <string>

#include <fmt/format.h>

#include "base/error.h"

namespace sluice::cuda {
namespace {

constexpr std::string_view kSpecification = "NVIDIA's data sheet";
constexpr std::string_view kGuide =
    "CUDA C++ Programming Guide, technical specifications per compute capability";
// 874 of 936 on an RTX 3090, 1674 of 1792 on an RTX 5090.
constexpr double kUsualReadShare = 0.934;

struct GpuRow {
  std::string_view name, title;
  std::uint32_t compute_capability;
  double sms, clock_mhz, bandwidth;
  Constant read_bandwidth;  // 0: not measured
  double matrix_tflops, shared_kb;
};

constexpr GpuConstants make(const GpuRow& row) {
  GpuConstants gpu;
  gpu.name = row.name;
  gpu.title = row.title;
  gpu.compute_capability = row.compute_capability;
  gpu.sms = {row.sms, kSpecification};
  gpu.clock_mhz = {row.clock_mhz, "NVIDIA's data sheet, boost clock"};
  gpu.bandwidth = {row.bandwidth, kSpecification};
  gpu.read_bandwidth =
      row.read_bandwidth.value > 0
          ? row.read_bandwidth
          : Constant{row.bandwidth * kUsualReadShare,
                     "assumed: 93.4 % of the specified, as measured on RTX 3090 and RTX 5090"};
  gpu.matrix_tflops = {row.matrix_tflops, kSpecification};
  gpu.mma_share = row.compute_capability == 90
                      ? Constant{0.63, "published microbenchmarks of Hopper: mma.sync without wgmma"}
                      : Constant{1, "the specified rate is mma.sync's"};
  gpu.shared_bytes = {row.shared_kb * 1024, kGuide};
  return gpu;
}

constexpr GpuConstants kGpus[] = {
    make({"rtx3090",
          "NVIDIA GeForce RTX 3090",
          86,
          82,
          1695,
          936,
          {874, "middle of the published measurements of reads, 854 to 894"},
          71,
          99}),
    make({"a6000", "NVIDIA RTX A6000", 86, 84, 1800, 768, {}, 77, 99}),
    make({"rtx4090", "NVIDIA GeForce RTX 4090", 89, 128, 2520, 1008, {}, 165, 99}),
    make(
        {"rtx5090", "NVIDIA GeForce RTX 5090", 120, 170, 2407, 1792, {1674, "AlpinDale, measured"}, 209, 99}),
    make({"a100", "NVIDIA A100 80GB", 80, 108, 1410, 2039, {}, 312, 163}),
    make({"h100", "NVIDIA H100 SXM", 90, 132, 1980, 3350, {}, 989, 227}),
    make({"h200", "NVIDIA H200", 90, 132, 1980, 4800, {}, 989, 227}),
};

constexpr std::string_view kEstimated = "estimated for an RTX 3090";
constexpr DependencyPart kParts[] = {
    {"last tile", {0.15, kEstimated}}, {"store and release", {0.55, kEstimated}},
    {"poll", {0.25, kEstimated}},      {"activation load", {0.45, "estimated for an RTX 3090: 0.3 to 0.6"}},
    {"barrier", {0.15, kEstimated}},   {"skew", {0.35, "estimated for an RTX 3090: 0.2 to 0.5"}},
};

}  // namespace

std::span<const GpuConstants> gpu_constants() {
  return kGpus;
}

const GpuConstants& gpu_constants_of(std::string_view name) {
  for (const GpuConstants& gpu : kGpus)
    if (gpu.name == name) return gpu;
  std::string names;
  for (const GpuConstants& gpu : kGpus) names += fmt::format("{}{}", names.empty() ? "" : ", ", gpu.name);
  throw Error(fmt::format("there is no model of a GPU \"{}\"", name), "--model-gpu", "use " + names);
}

std::span<const DependencyPart> dependency_parts() {
  return kParts;
}

double dependency_us(const GpuConstants& gpu) {
  double us = 0;
  for (const DependencyPart& part : kParts) us += part.us.value;
  return us * kDependencyClock / gpu.clock_mhz.value;
}

}  // namespace sluice::cuda
