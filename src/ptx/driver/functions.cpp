// What is known of a kernel: NVIDIA, "CUDA Driver API", section Execution Control; and how many blocks of it fit: section Occupancy.
#include <algorithm>

#include <fmt/format.h>

#include "ptx/driver/modules.h"

namespace sluice::ptx::api {
int function_attribute(const Driver& state, const Function& function, CUfunction_attribute attribute) {
  const Kernel& kernel = *function.kernel;
  const std::array<std::uint32_t, 3>& bounds =
      kernel.required_threads[0] != 0 ? kernel.required_threads : kernel.max_threads;
  switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
      return static_cast<int>(bounds[0] == 0 ? state.gpu.max_threads_per_block
                                             : bounds[0] * bounds[1] * bounds[2]);
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
      return static_cast<int>(kernel.static_shared);
    case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES: {
      std::uint64_t bytes = 0;
      for (const Variable& variable : function.module->loaded->module().variables)
        if (variable.space == Space::kConst) bytes += variable.size;
      return static_cast<int>(bytes);
    }
    case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
      return static_cast<int>(kernel.local_bytes);
    case CU_FUNC_ATTRIBUTE_NUM_REGS:
      return static_cast<int>(kernel.registers);
    case CU_FUNC_ATTRIBUTE_PTX_VERSION:
      return static_cast<int>(function.module->loaded->module().target);
    case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
      return static_cast<int>(state.gpu.compute_capability);
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
      return static_cast<int>(function.max_dynamic_shared != 0
                                  ? function.max_dynamic_shared
                                  : state.gpu.shared_per_block - kernel.static_shared);
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
      return function.carveout;
    default:
      require(attribute >= 0 && attribute <= CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE);
      return 0;
  }
}

void set_function_attribute(const Driver& state, Function& function, CUfunction_attribute attribute,
                            int value) {
  switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: {
      const std::uint32_t limit = state.gpu.shared_per_block_optin - function.kernel->static_shared;
      require(value >= 0 && static_cast<std::uint32_t>(value) <= limit, CUDA_ERROR_INVALID_VALUE,
              fmt::format("kernel {}: {} bytes of dynamic shared memory are more than the {} of this GPU",
                          function.kernel->name, value, limit));
      function.max_dynamic_shared = static_cast<std::uint32_t>(value);
      return;
    }
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
      require(value >= -1 && value <= 100);
      function.carveout = value;
      return;
    default:
      throw Failure{CUDA_ERROR_INVALID_VALUE, fmt::format("function attribute {} can't be set", attribute)};
  }
}

void give_parameter(const Kernel& kernel, size_t index, size_t* offset, size_t* bytes) {
  require(offset != nullptr && index < kernel.parameters.size());
  *offset = kernel.parameters[index].offset;
  if (bytes != nullptr) *bytes = kernel.parameters[index].size;
}

Function& checked_function(Driver& driver, Context& context, CUfunction function) {
  for (const auto& [_, module] : context.modules)
    for (const std::unique_ptr<Function>& candidate : module->functions)
      if (candidate.get() == function) return *candidate;
  LibraryKernel& kernel = checked_kernel(driver, reinterpret_cast<CUkernel>(function));
  return function_named(module_of(driver, context, *kernel.library), kernel.name);
}

int resident_blocks(const Driver& driver, const Function& function, int block_size, size_t dynamic_shared) {
  // More than an SM has is more than it has; the sum with the static part must not overflow.
  const std::size_t bytes = std::min<std::size_t>(dynamic_shared, driver.gpu.shared_per_sm + std::size_t{1});
  return static_cast<int>(blocks_per_sm(*function.kernel, driver.gpu, static_cast<std::uint32_t>(block_size),
                                        static_cast<std::uint32_t>(bytes)));
}

extern "C" {

CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction function) {
  return in_context([&](Driver& state, Context& context) {
    require(value != nullptr);
    *value = function_attribute(state, checked_function(state, context, function), attribute);
  });
}

CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
  return in_context([&](Driver& state, Context& context) {
    set_function_attribute(state, checked_function(state, context, function), attribute, value);
  });
}

CUresult cuFuncSetCacheConfig(CUfunction function, CUfunc_cache /*config*/) {
  return in_context([&](Driver& state, Context& context) { checked_function(state, context, function); });
}

CUresult cuFuncSetSharedMemConfig(CUfunction function, CUsharedconfig /*config*/) {
  return in_context([&](Driver& state, Context& context) { checked_function(state, context, function); });
}

CUresult cuFuncGetModule(CUmodule* module, CUfunction function) {
  return in_context([&](Driver& state, Context& context) {
    require(module != nullptr);
    *module = checked_function(state, context, function).module;
  });
}

CUresult cuFuncGetName(const char** name, CUfunction function) {
  return in_context([&](Driver& state, Context& context) {
    require(name != nullptr);
    *name = checked_function(state, context, function).kernel->name.c_str();
  });
}

CUresult cuFuncGetParamInfo(CUfunction function, size_t index, size_t* offset, size_t* bytes) {
  return in_context([&](Driver& state, Context& context) {
    give_parameter(*checked_function(state, context, function).kernel, index, offset, bytes);
  });
}

CUresult cuFuncIsLoaded(CUfunctionLoadingState* loading, CUfunction function) {
  return in_context([&](Driver& state, Context& context) {
    require(loading != nullptr);
    checked_function(state, context, function);
    *loading = CU_FUNCTION_LOADING_STATE_LOADED;
  });
}

CUresult cuFuncLoad(CUfunction function) {
  return in_context([&](Driver& state, Context& context) { checked_function(state, context, function); });
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, CUfunction function,
                                                              int block_size, size_t dynamic_shared,
                                                              unsigned flags) {
  return in_context([&](Driver& state, Context& context) {
    require(blocks != nullptr && block_size > 0 &&
            (flags & ~static_cast<unsigned>(CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE)) == 0);
    *blocks = resident_blocks(state, checked_function(state, context, function), block_size, dynamic_shared);
  });
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction function, int block_size,
                                                     size_t dynamic_shared) {
  return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, block_size, dynamic_shared,
                                                              0);
}

// The block size that keeps most threads resident; of equals the largest.
CUresult cuOccupancyMaxPotentialBlockSizeWithFlags(int* grid_size, int* block_size, CUfunction function,
                                                   CUoccupancyB2DSize dynamic_shared_of,
                                                   size_t dynamic_shared, int limit, unsigned flags) {
  return in_context([&](Driver& state, Context& context) {
    require(grid_size != nullptr && block_size != nullptr && limit >= 0 &&
            (flags & ~static_cast<unsigned>(CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE)) == 0);
    const Function& checked = checked_function(state, context, function);
    constexpr int kWarp = static_cast<int>(kLanes);
    int largest = function_attribute(state, checked, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
    if (limit > 0) largest = std::min(largest, limit);
    int best_threads = 0;
    for (int size = largest; size > 0; size = (size - 1) / kWarp * kWarp) {
      const int blocks = resident_blocks(
          state, checked, size, dynamic_shared_of == nullptr ? dynamic_shared : dynamic_shared_of(size));
      if (blocks * size <= best_threads) continue;
      best_threads = blocks * size;
      *block_size = size;
      *grid_size = blocks * static_cast<int>(state.gpu.sms);
    }
    require(best_threads > 0, CUDA_ERROR_INVALID_VALUE, "no block of this kernel fits on an SM");
  });
}

CUresult cuOccupancyMaxPotentialBlockSize(int* grid_size, int* block_size, CUfunction function,
                                          CUoccupancyB2DSize dynamic_shared_of, size_t dynamic_shared,
                                          int limit) {
  return cuOccupancyMaxPotentialBlockSizeWithFlags(grid_size, block_size, function, dynamic_shared_of,
                                                   dynamic_shared, limit, 0);
}

// The largest size that leaves room for `blocks` blocks: found by bisection.
CUresult cuOccupancyAvailableDynamicSMemPerBlock(size_t* bytes, CUfunction function, int blocks,
                                                 int block_size) {
  return in_context([&](Driver& state, Context& context) {
    require(bytes != nullptr && blocks > 0 && block_size > 0);
    const Function& checked = checked_function(state, context, function);
    require(resident_blocks(state, checked, block_size, 0) >= blocks);
    size_t fits = 0;
    size_t too_many = state.gpu.shared_per_sm + 1;
    while (too_many - fits > 1) {
      const size_t middle = fits + (too_many - fits) / 2;
      (resident_blocks(state, checked, block_size, middle) >= blocks ? fits : too_many) = middle;
    }
    *bytes = fits;
  });
}

}  // extern "C"
}  // namespace sluice::ptx::api
