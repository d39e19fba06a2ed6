// Runs a kernel given as PTX text on the machine, with buffers in device memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ptx/machine.h"

namespace sluice::ptx {

// The first kernel of the text takes one pointer, to memory that begins with zeros; the rest is poison.
struct PtxRun {
  std::string text;
  std::uint32_t blocks = 1, threads = 32;
  std::uint32_t bytes = 4096, zeros = 4096;
  std::uint64_t max_warp_instructions = 200000;

  LaunchResult operator()(std::uint64_t seed) const {
    const Gpu& gpu = gpu_named("rtx3090");
    Memory memory(std::uint64_t{1} << 24U);
    const LoadedModule module(parse(text, "test.ptx"), memory, gpu);
    const std::uint64_t buffer = memory.allocate(bytes, AllocationKind::kDevice, "buffer");
    std::ranges::fill(memory.bytes(buffer, zeros), std::byte{0});
    LaunchOptions options;
    options.grid[0] = blocks;
    options.block[0] = threads;
    options.seed = seed;
    options.max_warp_instructions = max_warp_instructions;
    std::vector<std::byte> parameters(sizeof buffer);
    std::memcpy(parameters.data(), &buffer, sizeof buffer);
    return launch(module.kernels()[0], memory, gpu, parameters, options);
  }
};

inline bool has(const LaunchResult& result, FindingKind kind) {
  return std::ranges::any_of(result.findings, [&](const Finding& finding) { return finding.kind == kind; });
}

inline std::string text_of(const LaunchResult& result) {
  std::string text;
  for (const Finding& finding : result.findings) text += "\n  " + finding.message;
  return text;
}

}  // namespace sluice::ptx
