// Launches: NVIDIA, "CUDA Driver API", section Execution Control. A kernel runs on its stream's thread, one kernel at a time; what
// it did wrong goes to stderr, to the report and, as a result that stays, to the context.
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "ptx/driver/report.h"
#include "ptx/driver/state.h"

namespace sluice::ptx::api {
namespace {

struct Shape {
  std::array<unsigned, 3> grid;
  std::array<unsigned, 3> block;
  unsigned dynamic_shared = 0;
  bool cooperative = false;
};

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
    case LaunchError::Reason::kInvalid:
      break;
  }
  return CUDA_ERROR_INVALID_VALUE;
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
      (key == 1 ? buffer : reinterpret_cast<const void*&>(bytes)) = extra[1];
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

// On the stream's thread. A fault stays with the context, and every later call says so.
void run(Driver& state, Context& context, const Kernel& kernel, std::span<const std::byte> parameters,
         const LaunchOptions& options, std::uint64_t number) {
  const std::lock_guard one_at_a_time(state.running);
  CUresult fault = CUDA_SUCCESS;
  try {
    const LaunchResult result = launch(kernel, state.memory, state.gpu, parameters, options);
    for (const Finding& finding : result.findings) say(finding.message);
    if (!result.findings.empty()) {
      say(fmt::format("kernel {} was launch {}; its seed was {}", kernel.name, number, options.seed));
      fault = result_of(result.findings.front().kind);
    }
    report_launch(kernel, options, number, result);
  } catch (const std::exception& error) {
    say(error.what());
    fault = CUDA_ERROR_LAUNCH_FAILED;
  }
  CUresult none = CUDA_SUCCESS;
  context.fault.compare_exchange_strong(none, fault);
}

CUresult start(CUfunction function, const Shape& shape, CUstream stream, void** parameters, void** extra) {
  return in_context([&](Driver& state, Context& context) {
    const Function& checked = checked_function(state, context, function);
    Stream& on = checked_stream(state, context, stream);
    LaunchOptions options;
    options.grid = shape.grid;
    options.block = shape.block;
    options.dynamic_shared = shape.dynamic_shared;
    options.max_dynamic_shared = checked.max_dynamic_shared;
    options.cooperative = shape.cooperative;
    try {
      check_launch(*checked.kernel, state.gpu, options);
    } catch (const LaunchError& error) {
      throw Failure{result_of(error.reason), error.what()};
    }
    const std::uint64_t number = state.launches++;
    options.seed = state.seed + number;
    options.checks = state.checks;
    if (state.varies_inexact) options.vary_inexact = state.seed;
    options.host_patience = kHostPatience;
    enqueue(context, on,
            [&state, &context, module = checked.module->loaded, kernel = checked.kernel,
             packed = packed_parameters(*checked.kernel, parameters, extra), options,
             number] { run(state, context, *kernel, packed, options, number); });
  });
}

}  // namespace

extern "C" {

CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                        unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                        CUstream stream, void** parameters, void** extra) {
  return start(function, {{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes, false}, stream,
               parameters, extra);
}

CUresult cuLaunchCooperativeKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                                   unsigned block_x, unsigned block_y, unsigned block_z,
                                   unsigned shared_bytes, CUstream stream, void** parameters) {
  return start(function, {{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes, true}, stream,
               parameters, nullptr);
}

CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** parameters,
                          void** extra) {
  if (config == nullptr || (config->numAttrs > 0 && config->attrs == nullptr))
    return CUDA_ERROR_INVALID_VALUE;
  Shape shape{{config->gridDimX, config->gridDimY, config->gridDimZ},
              {config->blockDimX, config->blockDimY, config->blockDimZ},
              config->sharedMemBytes,
              false};
  const CUresult checked = guarded([&] {
    for (unsigned i = 0; i < config->numAttrs; ++i) {
      const CUlaunchAttribute& attribute = config->attrs[i];
      switch (attribute.id) {
        case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
          shape.cooperative = attribute.value.cooperative != 0;
          break;
        case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION: {
          const auto& cluster = attribute.value.clusterDim;
          require(cluster[0] == 1 && cluster[1] == 1 && cluster[2] == 1, CUDA_ERROR_NOT_SUPPORTED,
                  "cuLaunchKernelEx: there are no clusters of blocks");
          break;
        }
        case CU_LAUNCH_ATTRIBUTE_IGNORE:
        case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:  // hints
        case CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY:
        case CU_LAUNCH_ATTRIBUTE_PRIORITY:
        case CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
          break;
        default:
          throw Failure{CUDA_ERROR_NOT_SUPPORTED,
                        fmt::format("cuLaunchKernelEx: attribute {} isn't supported", attribute.id)};
      }
    }
    return CUDA_SUCCESS;
  });
  return checked != CUDA_SUCCESS ? checked : start(function, shape, config->hStream, parameters, extra);
}

}  // extern "C"
}  // namespace sluice::ptx::api
