// The PTX machine: executes PTX text on the CPU, harsher than hardware. All blocks of a launch make progress at once; warps
// run in an order and for as long as the seed says; lanes that have diverged stay apart until an instruction with .sync.
// The same module, memory, arguments and seed give the same bits and the same findings.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "ptx/checks.h"
#include "ptx/gpu.h"
#include "ptx/memory.h"
#include "ptx/module.h"

namespace sluice::ptx {

class Program;  // the decoded module

struct KernelParameter {
  std::string name;
  Type type = Type::kNone;  // kB8 for structures
  std::uint32_t offset = 0, size = 0, align = 1;
};

struct Kernel {
  std::string name;
  std::vector<KernelParameter> parameters;
  std::uint32_t parameter_bytes = 0;
  std::uint32_t static_shared = 0;  // bytes
  std::uint32_t local_bytes = 0;    // per thread
  std::uint32_t registers = 0;      // 32-bit registers that are live at once: what a compiler needs at least
  std::array<std::uint32_t, 3> max_threads = {};       // .maxntid; 0: not given
  std::array<std::uint32_t, 3> required_threads = {};  // .reqntid
  const Program* program = nullptr;
  std::uint32_t function = 0;
};

// A module in device memory. Destroying it frees its variables.
class LoadedModule {
 public:
  // Decodes all of it. Throws Error with file and line at an opcode or form that the machine doesn't know, and if the module
  // asks for more than the GPU is.
  LoadedModule(Module module, Memory& memory, const Gpu& gpu);
  ~LoadedModule();
  LoadedModule(const LoadedModule&) = delete;
  LoadedModule& operator=(const LoadedModule&) = delete;

  const Module& module() const;
  const Code& code() const;
  std::span<const Kernel> kernels() const;
  const Kernel* find_kernel(std::string_view name) const;
  // A .global or .const variable in memory.
  const Allocation* find_variable(std::string_view name) const;

 private:
  std::unique_ptr<Program> program_;
};

struct LaunchOptions {
  std::array<std::uint32_t, 3> grid = {1, 1, 1};
  std::array<std::uint32_t, 3> block = {1, 1, 1};
  std::uint32_t dynamic_shared = 0;      // bytes
  std::uint32_t max_dynamic_shared = 0;  // what the caller opted in to; 0: the limit without opt-in
  bool cooperative = false;              // then all blocks must fit on the GPU at once
  std::uint64_t seed = 0;
  bool checks = true;  // false: no race detection, no counters, no virtual time
  // Results that PTX only bounds vary by this seed: the order of mma's sums, the last bits of .approx (forms_float.h says which).
  // A seed stands for a GPU: what it computes is the same in every launch.
  std::optional<std::uint64_t> vary_inexact;
  // How long a launch that only polls memory waits for the host, or a copy of it, to change something before that is livelock.
  std::chrono::milliseconds host_patience{0};
  // Ends the launch with a finding (kLimit) after so many warp instructions; 0: never.
  std::uint64_t max_warp_instructions = 0;
};

struct LaunchResult {
  std::vector<Finding> findings;  // empty: nothing wrong. The machine stops at the first fault of its own.
  bool completed = false;         // every thread exited
  LaunchReport report;
};

// A launch that breaks a limit of the kernel or the GPU.
struct LaunchError : Error {
  enum class Reason : std::uint8_t { kInvalid, kBlockTooLarge, kGridTooLarge };
  LaunchError(Reason why, const Kernel& kernel, std::string_view what, std::string_view what_to_do = {});
  Reason reason;  // kBlockTooLarge: for an SM; kGridTooLarge: a cooperative launch's, for the GPU
};
void check_launch(const Kernel& kernel, const Gpu& gpu, const LaunchOptions& options);

// Runs a kernel to its end. `parameters` are its .param bytes at the offsets of Kernel::parameters. Throws LaunchError if the
// launch itself is wrong (as check_launch does, and for the size of the parameters); faults of the kernel are findings.
LaunchResult launch(const Kernel& kernel, Memory& memory, const Gpu& gpu,
                    std::span<const std::byte> parameters, const LaunchOptions& options);

// How many blocks fit on one SM, and 0 if not even one does.
std::uint32_t blocks_per_sm(const Kernel& kernel, const Gpu& gpu, std::uint32_t block_threads,
                            std::uint32_t dynamic_shared);

}  // namespace sluice::ptx
