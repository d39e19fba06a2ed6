#include "ptx/machine.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.h"
#include "ptx/executor.h"
#include "ptx/observer.h"
#include "ptx/program.h"

namespace sluice::ptx {
namespace {

std::uint64_t product(const std::array<std::uint32_t, 3>& shape) {
  return std::uint64_t{shape[0]} * shape[1] * shape[2];
}

std::string text_of(const std::array<std::uint32_t, 3>& shape) {
  return fmt::format("{} x {} x {}", shape[0], shape[1], shape[2]);
}

}  // namespace

LoadedModule::LoadedModule(Module module, Memory& memory, const Gpu& gpu)
    : program_(std::make_unique<Program>(std::move(module), memory, gpu)) {}
LoadedModule::~LoadedModule() = default;

const Module& LoadedModule::module() const {
  return program_->module;
}
const Code& LoadedModule::code() const {
  return program_->code;
}
std::span<const Kernel> LoadedModule::kernels() const {
  return program_->kernels;
}
const Kernel* LoadedModule::find_kernel(std::string_view name) const {
  const auto found = std::ranges::find(program_->kernels, name, &Kernel::name);
  return found == program_->kernels.end() ? nullptr : &*found;
}
const Allocation* LoadedModule::find_variable(std::string_view name) const {
  const auto found = program_->variables.find(name);
  return found == program_->variables.end() ? nullptr : &found->second;
}

std::uint32_t blocks_per_sm(const Kernel& kernel, const Gpu& gpu, std::uint32_t block_threads,
                            std::uint32_t dynamic_shared) {
  constexpr std::uint32_t kUnit = 128;  // shared memory is given out in
  if (block_threads == 0 || block_threads > gpu.max_threads_per_block) return 0;
  const std::uint32_t warps = (block_threads + kLanes - 1) / kLanes;
  const std::uint64_t shared =
      (std::uint64_t{kernel.static_shared} + dynamic_shared + kUnit - 1) / kUnit * kUnit +
      gpu.reserved_shared_per_block;
  std::uint64_t blocks = std::min(gpu.max_blocks_per_sm, gpu.max_threads_per_sm / kLanes / warps);
  if (shared != 0) blocks = std::min(blocks, gpu.shared_per_sm / shared);
  return static_cast<std::uint32_t>(blocks);
}

LaunchError::LaunchError(Reason why, const Kernel& kernel, std::string_view what, std::string_view what_to_do)
    : Error(fmt::format("kernel {} can't be launched: {}", kernel.name, what), "", what_to_do), reason(why) {}

void check_launch(const Kernel& kernel, const Gpu& gpu, const LaunchOptions& options) {
  using enum LaunchError::Reason;
  constexpr std::array<std::uint32_t, 3> kMaxBlock = {1024, 1024, 64};
  constexpr std::array<std::uint32_t, 3> kMaxGrid = {2147483647, 65535, 65535};
  const auto refuse_if = [&](bool wrong, std::string_view what, std::string_view to_do = {},
                             LaunchError::Reason reason = kInvalid) {
    if (wrong) throw LaunchError(reason, kernel, what, to_do);
  };
  for (std::size_t i = 0; i < 3; ++i) {
    refuse_if(options.block[i] == 0 || options.block[i] > kMaxBlock[i],
              fmt::format("block {}", text_of(options.block)),
              fmt::format("from 1 x 1 x 1 to {} threads", text_of(kMaxBlock)));
    refuse_if(options.grid[i] == 0 || options.grid[i] > kMaxGrid[i],
              fmt::format("grid {}", text_of(options.grid)),
              fmt::format("from 1 x 1 x 1 to {} blocks", text_of(kMaxGrid)));
  }
  refuse_if(kernel.required_threads[0] != 0 && options.block != kernel.required_threads,
            fmt::format("it was compiled for blocks of {} threads", text_of(kernel.required_threads)));
  const std::uint64_t threads = product(options.block);
  const std::string block = fmt::format("{} in a block", counted(threads, "thread"));
  refuse_if(threads > gpu.max_threads_per_block, block,
            fmt::format("{} are the most", gpu.max_threads_per_block));
  refuse_if(kernel.max_threads[0] != 0 && threads > product(kernel.max_threads), block,
            fmt::format("it was compiled for at most {}", product(kernel.max_threads)));
  const std::uint64_t blocks = product(options.grid);
  // Blocks, warps and threads have numbers of 32 bits here.
  refuse_if(blocks * ((threads + kLanes - 1) / kLanes) > 0xffffffffULL / kLanes, "more than 2^32 threads");
  refuse_if(kernel.static_shared > gpu.shared_per_block,
            fmt::format("{} of static shared memory", counted(kernel.static_shared, "byte")),
            fmt::format("{} are the most", gpu.shared_per_block));
  const std::uint32_t dynamic = options.max_dynamic_shared != 0 ? options.max_dynamic_shared
                                                                : gpu.shared_per_block - kernel.static_shared;
  const std::uint64_t shared = std::uint64_t{kernel.static_shared} + options.dynamic_shared;
  refuse_if(
      options.dynamic_shared > dynamic || shared > gpu.shared_per_block_optin,
      fmt::format("{} of shared memory, {} of them dynamic", counted(shared, "byte"), options.dynamic_shared),
      fmt::format("{} without opt-in, {} with it (cuFuncSetAttribute, "
                  "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) are the most",
                  gpu.shared_per_block, gpu.shared_per_block_optin));
  const std::uint64_t resident =
      blocks_per_sm(kernel, gpu, static_cast<std::uint32_t>(threads), options.dynamic_shared);
  refuse_if(resident == 0, "not one block fits on an SM", {}, kBlockTooLarge);
  refuse_if(options.cooperative && blocks > resident * gpu.sms,
            fmt::format("{} in a cooperative launch", counted(blocks, "block")),
            fmt::format("{}, {} on each SM, fit on {} at once", resident * gpu.sms, resident, gpu.name),
            kGridTooLarge);
}

LaunchResult launch(const Kernel& kernel, Memory& memory, const Gpu& gpu,
                    std::span<const std::byte> parameters, const LaunchOptions& options) {
  check_launch(kernel, gpu, options);
  if (parameters.size() < kernel.parameter_bytes) {
    throw LaunchError(LaunchError::Reason::kInvalid, kernel,
                      fmt::format("{} of parameters, it takes {}", counted(parameters.size(), "byte"),
                                  kernel.parameter_bytes));
  }
  LaunchShape shape;
  shape.kernel = kernel.name;
  std::ranges::copy(options.grid, shape.grid);
  std::ranges::copy(options.block, shape.block);
  shape.threads = static_cast<std::uint32_t>(product(options.block));
  shape.warps = (shape.threads + kLanes - 1) / kLanes;
  shape.blocks = product(options.grid);
  shape.shared_bytes = options.dynamic_shared == 0
                           ? kernel.static_shared
                           : (kernel.static_shared + 15U) / 16 * 16 + options.dynamic_shared;
  shape.gpu = &gpu;
  shape.code = &kernel.program->code;

  std::vector<Allocation> allocations = memory.allocations();
  alignas(256) std::array<std::byte, 256> grid_barrier{};  // what cooperative_groups counts in
  const auto address = reinterpret_cast<std::uint64_t>(grid_barrier.data());
  if (options.cooperative) {
    allocations.insert(std::ranges::upper_bound(allocations, address, {}, &Allocation::address),
                       {address, grid_barrier.size(), AllocationKind::kGlobalVariable, "the grid's barrier"});
  }
  shape.allocations = allocations;
  std::optional<Observer> observer;
  if (options.checks) observer.emplace(shape);
  LaunchResult result;
  Executor executor(kernel, shape, parameters.first(kernel.parameter_bytes), options,
                    observer ? &*observer : nullptr, options.cooperative ? address : 0);
  executor.run(result);
  if (observer) observer->finish(result.findings, result.report);
  if (!result.completed) {  // nothing came to its end
    result.report.critical_path.clear();
    result.report.cycles = 0;
  }
  return result;
}

}  // namespace sluice::ptx
