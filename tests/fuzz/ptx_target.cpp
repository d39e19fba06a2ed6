#include <cstddef>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "ptx/fat_binary.h"
#include "ptx/machine.h"
#include "tests/fuzz/targets.h"

namespace sluice::fuzz {
namespace {

constexpr std::uint64_t kDeviceBytes = std::uint64_t{1} << 22U;
constexpr std::uint64_t kBufferBytes = 4096;
constexpr std::uint64_t kMostInstructions = 3000;  // of warps, per launch
constexpr std::uint64_t kMostLocalBytes =
    1U << 20U;  // of a thread, in all launches: each takes time for what it asks for

// Runs a kernel for a while with every 8 bytes of its parameters pointing to a buffer. Its faults are findings.
void use_kernel(const ptx::Kernel& kernel, ptx::Memory& memory, const ptx::Gpu& gpu, std::uint64_t buffer) {
  std::vector<std::byte> parameters(kernel.parameter_bytes);
  for (std::size_t at = 0; at + sizeof(buffer) <= parameters.size(); at += sizeof(buffer))
    std::memcpy(parameters.data() + at, &buffer, sizeof(buffer));
  ptx::LaunchOptions options;
  options.grid = {2, 1, 1};
  options.block = {40, 1, 1};  // the second warp is not full
  options.max_warp_instructions = kMostInstructions;
  try {
    static_cast<void>(ptx::launch(kernel, memory, gpu, parameters, options));
  } catch (const Error&) {  // a block of that size may be refused
  }
}

}  // namespace

bool ptx(std::string_view input) {
  try {
    const ptx::Gpu& gpu = ptx::gpu_named("rtx3090");
    ptx::Memory memory(kDeviceBytes);
    const ptx::LoadedModule module(ptx::parse(input, "input.ptx"), memory, gpu);
    const std::uint64_t buffer = memory.allocate(kBufferBytes);
    std::uint64_t local_bytes = 0;
    for (const ptx::Kernel& kernel : module.kernels()) {
      local_bytes += kernel.local_bytes;
      if (local_bytes <= kMostLocalBytes) use_kernel(kernel, memory, gpu, buffer);
    }
    return true;
  } catch (const Error&) {
    return false;
  }
}

bool fat_binary(std::string_view input) {
  try {
    const std::span bytes = std::as_bytes(std::span(input));
    if (!ptx::is_fat_binary(bytes)) return false;
    static_cast<void>(ptx::ptx_of(bytes, 86));
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace sluice::fuzz
