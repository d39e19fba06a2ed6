// Launches: NVIDIA, "CUDA Driver API", section Execution Control. A kernel runs on its stream's thread, one kernel at a time; what
// it did wrong goes to stderr, to the report and, as a result that stays, to the context.
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "ptx/driver/state.h"

namespace sluice::ptx {

// The report's objects: their fields, by name.
static void to_json(nlohmann::json& json, FindingKind kind) {
  json = name_of(kind);
}
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Finding, kind, message, file, line, ptx_line, block, warp, lane, count)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Counters::Traffic, name, read, written)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Counters, warp_instructions, thread_instructions, barriers,
                                   global_requests, global_sectors, global_sectors_ideal, shared_wavefronts,
                                   shared_wavefronts_ideal, atomics, waits, traffic)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(PathStep, begin, end, block, warp, what)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LaunchOptions, grid, block, dynamic_shared, cooperative, seed, checks)

}  // namespace sluice::ptx

namespace sluice::ptx::api {
namespace {

// A kernel that waits for the host waits so long before that is called livelock.
constexpr std::chrono::seconds kHostPatience{10};

CUresult result_of(FindingKind kind) {
  switch (kind) {
    case FindingKind::kOutOfBounds:
      return CUDA_ERROR_ILLEGAL_ADDRESS;
    case FindingKind::kMisaligned:
      return CUDA_ERROR_MISALIGNED_ADDRESS;
    case FindingKind::kDeadlock:
    case FindingKind::kLivelock:
    case FindingKind::kLimit:
      return CUDA_ERROR_LAUNCH_TIMEOUT;
    case FindingKind::kUnsupported:
      return CUDA_ERROR_ILLEGAL_INSTRUCTION;
    default:
      return CUDA_ERROR_LAUNCH_FAILED;
  }
}

CUresult result_of(LaunchError::Reason reason) {
  switch (reason) {
    case LaunchError::Reason::kBlockTooLarge:
      return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
    case LaunchError::Reason::kGridTooLarge:
      return CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

// The parameters' bytes, from one pointer for each or from the caller's packed buffer.
std::vector<std::byte> packed_parameters(const Kernel& kernel, void** parameters, void** extra) {
  std::vector<std::byte> packed(kernel.parameter_bytes);
  if (extra != nullptr) {
    require(parameters == nullptr);
    const void* buffer = nullptr;
    const size_t* bytes = nullptr;
    for (; *extra != nullptr; extra += 2) {
      const auto key = reinterpret_cast<std::uintptr_t>(*extra);
      require(key == 1 || key == 2);  // CU_LAUNCH_PARAM_BUFFER_POINTER, _SIZE
      if (key == 1) buffer = extra[1];
      if (key == 2) bytes = static_cast<const size_t*>(extra[1]);
    }
    require(buffer != nullptr && bytes != nullptr && *bytes >= packed.size(), CUDA_ERROR_INVALID_VALUE,
            fmt::format("kernel {} takes {} bytes of parameters", kernel.name, packed.size()));
    std::memcpy(packed.data(), buffer, packed.size());
    return packed;
  }
  require(parameters != nullptr || kernel.parameters.empty(), CUDA_ERROR_INVALID_VALUE,
          fmt::format("kernel {} takes {} parameters and got none", kernel.name, kernel.parameters.size()));
  for (std::size_t i = 0; i < kernel.parameters.size(); ++i) {
    const KernelParameter& parameter = kernel.parameters[i];
    require(parameters[i] != nullptr, CUDA_ERROR_INVALID_VALUE,
            fmt::format("kernel {}: there is no value for parameter {}", kernel.name, i));
    std::memcpy(packed.data() + parameter.offset, parameters[i], parameter.size);
  }
  return packed;
}

// What a launch has to say, for programs: a line of JSON for each launch in the file that SLUICE_PTX_REPORT names, if it does.
void report(const Kernel& kernel, const LaunchOptions& options, std::uint64_t number,
            const LaunchResult& result) {
  const char* path = std::getenv("SLUICE_PTX_REPORT");
  if (path == nullptr || *path == '\0') return;
  nlohmann::json line = options;
  line["launch"] = number;
  line["kernel"] = kernel.name;
  line["completed"] = result.completed;
  line["findings"] = result.findings;
  line["counters"] = result.report.counters;
  line["cycles"] = result.report.cycles;
  line["critical_path"] = result.report.critical_path;
  std::ofstream file(path, std::ios::app);
  file << line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
  file.flush();
  if (!file) throw Error("SLUICE_PTX_REPORT: the file can't be written", path);
}

LaunchOptions options_of(const CUlaunchConfig& config) {
  LaunchOptions options;
  options.grid = {config.gridDimX, config.gridDimY, config.gridDimZ};
  options.block = {config.blockDimX, config.blockDimY, config.blockDimZ};
  options.dynamic_shared = config.sharedMemBytes;
  require(config.numAttrs == 0 || config.attrs != nullptr);
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    const CUlaunchAttribute& attribute = config.attrs[i];
    if (attribute.id == CU_LAUNCH_ATTRIBUTE_COOPERATIVE)
      options.cooperative = attribute.value.cooperative != 0;
    require(attribute.id == CU_LAUNCH_ATTRIBUTE_COOPERATIVE || attribute.id == CU_LAUNCH_ATTRIBUTE_IGNORE,
            CUDA_ERROR_NOT_SUPPORTED, fmt::format("launch attribute {} isn't supported", attribute.id));
  }
  return options;
}

// On the stream's thread. A fault stays with the context, and every later call says so.
void run(Driver& driver, Context& context, const Kernel& kernel, std::span<const std::byte> parameters,
         const LaunchOptions& options, std::uint64_t number) {
  const std::lock_guard one_at_a_time(driver.running);
  CUresult fault = CUDA_SUCCESS;
  try {
    const LaunchResult result = launch(kernel, driver.memory, driver.gpu, parameters, options);
    for (const Finding& finding : result.findings) say(finding.message);
    if (!result.findings.empty()) {
      say(fmt::format("kernel {} was launch {}; its seed was {}", kernel.name, number, options.seed));
      fault = result_of(result.findings.front().kind);
    }
    report(kernel, options, number, result);
  } catch (const std::exception& error) {
    say(error.what());
    fault = CUDA_ERROR_LAUNCH_FAILED;
  }
  CUresult none = CUDA_SUCCESS;
  context.fault.compare_exchange_strong(none, fault);
}

}  // namespace

extern "C" {

CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** parameters,
                          void** extra) {
  return in_context([&](Driver& driver, Context& context) {
    require(config != nullptr);
    const Function& checked = driver.checked(function, &context);
    Stream& on = driver.stream_of(context, config->hStream);
    const Kernel& kernel = *checked.kernel;
    LaunchOptions options = options_of(*config);
    options.max_dynamic_shared = checked.max_dynamic_shared;
    try {
      check_launch(kernel, driver.gpu, options);
    } catch (const LaunchError& error) {
      throw Failure{result_of(error.reason), error.what()};
    }
    const std::uint64_t number = driver.launches++;
    options.seed = driver.seed + number;
    options.checks = driver.checks;
    if (driver.varies_inexact) options.vary_inexact = driver.seed;
    options.host_patience = kHostPatience;
    enqueue(driver, on,
            [&driver, &context, &kernel, module = checked.loaded, options, number,
             packed = packed_parameters(kernel, parameters, extra)] {
              run(driver, context, kernel, packed, options, number);
            });
  });
}

CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                        unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                        CUstream stream, void** parameters, void** extra) {
  const CUlaunchConfig config = {grid_x,  grid_y,       grid_z, block_x, block_y,
                                 block_z, shared_bytes, stream, nullptr, 0};
  return cuLaunchKernelEx(&config, function, parameters, extra);
}

CUresult cuLaunchCooperativeKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                                   unsigned block_x, unsigned block_y, unsigned block_z,
                                   unsigned shared_bytes, CUstream stream, void** parameters) {
  CUlaunchAttribute cooperative = {CU_LAUNCH_ATTRIBUTE_COOPERATIVE, {}, {}};
  cooperative.value.cooperative = 1;
  const CUlaunchConfig config = {grid_x,  grid_y,       grid_z, block_x,      block_y,
                                 block_z, shared_bytes, stream, &cooperative, 1};
  return cuLaunchKernelEx(&config, function, parameters, nullptr);
}

}  // extern "C"
}  // namespace sluice::ptx::api
