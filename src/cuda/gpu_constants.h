// What is published of GPUs, and what is assumed where nothing is: the constants of gpu_model.h, each with its source.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace sluice::cuda {

struct Constant {
  double value = 0;
  std::string_view source;
};

struct GpuConstants {
  std::string_view name;  // as --model-gpu takes it
  std::string_view title;
  std::uint32_t compute_capability = 0;
  Constant sms;
  Constant clock_mhz;
  Constant bandwidth;       // GB/s, as specified
  Constant read_bandwidth;  // GB/s, of plain reads
  Constant matrix_tflops;   // bf16, dense, fp32 sums, as specified
  Constant mma_share;       // of it that mma.sync can reach
  Constant shared_bytes;    // that a block may have

  double bytes_per_us() const { return read_bandwidth.value * 1e3; }
};

std::span<const GpuConstants> gpu_constants();

// Throws Error, listing the names, if there is none of that name.
const GpuConstants& gpu_constants_of(std::string_view name);

// From the last multiplication of one block to the first of another that needed its output: microseconds at kDependencyClock.
struct DependencyPart {
  std::string_view name;
  Constant us;
};
std::span<const DependencyPart> dependency_parts();
inline constexpr double kDependencyClock = 1695;  // MHz, the RTX 3090's

// All parts on a GPU: they pass through SMs and L2, and so take a number of clock cycles.
double dependency_us(const GpuConstants& gpu);

namespace constants {

inline constexpr Constant kMemoryLatency = {
    0.5, "assumed: one access to idle DRAM, microseconds; it keeps no clock of the SMs"};
inline constexpr Constant kLaunch = {
    2.5, "AlpinDale: fusing one more kernel and its read-back saved 2 to 3 microseconds a token"};
inline constexpr Constant kIssueShare = {0.5, "assumed: issue slots that two warps a scheduler fill"};
inline constexpr Constant kMmaEfficiency = {
    0.7, "assumed: of a GEMM tile's inner loop, of what mma.sync can reach"};
inline constexpr Constant kAttentionEfficiency = {0.35,
                                                  "assumed: the same of attention, half of its time softmax"};
inline constexpr Constant kFp32Efficiency = {0.25, "assumed: of the chunked delta rule's fp32 loops"};
inline constexpr Constant kL2BytesPerClock = {32, "assumed: from L2 to an SM, half of its port"};
inline constexpr Constant kRecomputedRows = {
    55, "docs/screened-head.md: rows that the CPU recomputed a token, random weights"};

}  // namespace constants
}  // namespace sluice::cuda
