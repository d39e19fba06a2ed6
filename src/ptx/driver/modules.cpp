// Modules, libraries, and what is known of their functions: NVIDIA, "CUDA Driver API", sections Module Management, Library
// Management, Execution Control, Occupancy.
#include <algorithm>
#include <cstring>
#include <span>

#include <fmt/format.h>

#include "base/mapped_file.h"
#include "ptx/driver/state.h"
#include "ptx/fat_binary.h"

namespace sluice::ptx::api {
namespace {

constexpr std::size_t kMaxFile = std::size_t{1} << 30U;

// The error log among the JIT options. Sizes are stored in the pointers of the options' values themselves. Other options say how to
// compile: there is nothing to compile.
void fill_log(unsigned count, const CUjit_option* options, void** values, std::string_view message) {
  require(count == 0 || (options != nullptr && values != nullptr));
  char* log = nullptr;
  void** size = nullptr;
  for (unsigned i = 0; i < count; ++i) {
    if (options[i] == CU_JIT_ERROR_LOG_BUFFER) log = static_cast<char*>(values[i]);
    if (options[i] == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES) size = &values[i];
    if (options[i] == CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES) values[i] = nullptr;
  }
  if (log == nullptr || size == nullptr) return;
  const auto capacity = static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(*size));
  const std::size_t written = capacity == 0 ? 0 : message.copy(log, capacity - 1);
  if (capacity != 0) log[written] = '\0';
  *size = reinterpret_cast<void*>(written);
}

// The PTX of an image in memory: text that ends with a zero, or a fat binary.
std::string text_of(const void* image, const Gpu& gpu) {
  require(image != nullptr);
  const std::optional<std::span<const std::byte>> fat = fat_binary_at(image);
  return fat ? ptx_of(*fat, gpu.compute_capability) : std::string(static_cast<const char*>(image));
}

std::string text_of_file(const char* file, const Gpu& gpu) {
  require(file != nullptr);
  require(is_there(file), CUDA_ERROR_FILE_NOT_FOUND, fmt::format("there is no file {}", printable(file)));
  const std::string contents = read_text_file(file, kMaxFile);
  const auto bytes = std::as_bytes(std::span(contents));
  return is_fat_binary(bytes) ? ptx_of(bytes, gpu.compute_capability)
                              : contents.substr(0, contents.find('\0'));
}

// `context` null: a library.
void load(Driver& driver, Context* context, CUmodule* module,
          const std::function<std::string()>& text_of_image, unsigned count = 0,
          const CUjit_option* options = nullptr, void** values = nullptr) {
  CUresult failure = CUDA_ERROR_NO_BINARY_FOR_GPU;
  try {
    const std::string text = text_of_image();
    failure = CUDA_ERROR_INVALID_PTX;
    auto loaded = std::make_shared<LoadedModule>(parse(text, "module"), driver.memory, driver.gpu);
    auto& made = driver.make<DriverModule>(context);
    for (const Kernel& kernel : loaded->kernels()) {
      auto& function = driver.make<Function>(context);
      function.kernel = &kernel;
      function.loaded = loaded;
      made.functions.emplace(kernel.name, &function);
    }
    made.loaded = std::move(loaded);
    *module = &made;
    fill_log(count, options, values, {});
  } catch (const Error& error) {
    fill_log(count, options, values, error.what());
    throw Failure{failure, error.what()};
  }
}

// Launches hold what they run.
void unload(Driver& driver, CUmodule module, bool library) {
  const DriverModule& checked = driver.checked(module);
  require((checked.context == nullptr) == library, CUDA_ERROR_INVALID_HANDLE);
  for (const auto& [_, function] : checked.functions) driver.objects.erase(function);
  driver.objects.erase(module);
}

Function* function_named(Driver& driver, CUmodule module, const char* name) {
  require(name != nullptr);
  const DriverModule& checked = driver.checked(module);
  const auto found = checked.functions.find(std::string_view(name));
  require(found != checked.functions.end(), CUDA_ERROR_NOT_FOUND);
  return found->second;
}

void give_variable(const DriverModule& module, const char* name, CUdeviceptr* address, size_t* bytes) {
  require(name != nullptr);
  const Allocation* variable = module.loaded->find_variable(name);
  require(variable != nullptr, CUDA_ERROR_NOT_FOUND);
  if (address != nullptr) *address = variable->address;
  if (bytes != nullptr) *bytes = variable->size;
}

std::uint32_t attribute_of(const Gpu& gpu, const Function& function, CUfunction_attribute attribute) {
  const Kernel& kernel = *function.kernel;
  const std::array<std::uint32_t, 3>& bounds =
      kernel.required_threads[0] != 0 ? kernel.required_threads : kernel.max_threads;
  switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
      return bounds[0] == 0 ? gpu.max_threads_per_block : bounds[0] * bounds[1] * bounds[2];
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
      return kernel.static_shared;
    case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES: {
      std::uint64_t bytes = 0;
      for (const Variable& variable : function.loaded->module().variables)
        if (variable.space == Space::kConst) bytes += variable.size;
      return static_cast<std::uint32_t>(bytes);
    }
    case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
      return kernel.local_bytes;
    case CU_FUNC_ATTRIBUTE_NUM_REGS:
      return kernel.registers;
    case CU_FUNC_ATTRIBUTE_PTX_VERSION:
      return function.loaded->module().target;
    case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
      return gpu.compute_capability;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
      return function.max_dynamic_shared != 0 ? function.max_dynamic_shared
                                              : gpu.shared_per_block - kernel.static_shared;
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
      return static_cast<std::uint32_t>(function.carveout);
    default:
      require(attribute >= 0 && attribute <= CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE);
      return 0;
  }
}

void set_attribute(const Gpu& gpu, Function& function, CUfunction_attribute attribute, int value) {
  if (attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) {
    const std::uint32_t limit = gpu.shared_per_block_optin - function.kernel->static_shared;
    require(value >= 0 && static_cast<std::uint32_t>(value) <= limit, CUDA_ERROR_INVALID_VALUE,
            fmt::format("kernel {}: {} bytes of dynamic shared memory are more than the {} of this GPU",
                        function.kernel->name, value, limit));
    function.max_dynamic_shared = static_cast<std::uint32_t>(value);
  } else if (attribute == CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT) {
    require(value >= -1 && value <= 100);
    function.carveout = value;
  } else {
    require(false, CUDA_ERROR_INVALID_VALUE, fmt::format("function attribute {} can't be set", attribute));
  }
}

// A library's function, which is the same in all contexts.
Function& kernel_of(const Driver& driver, CUkernel kernel) {
  Function& checked = driver.checked(kernel);
  require(checked.context == nullptr, CUDA_ERROR_INVALID_HANDLE);
  return checked;
}

int resident_blocks(const Gpu& gpu, const Kernel& kernel, int block_size, size_t dynamic_shared) {
  // More than an SM has is more than it has; the sum with the static part must not overflow.
  const auto bytes = std::min<std::size_t>(dynamic_shared, gpu.shared_per_sm + std::size_t{1});
  return static_cast<int>(
      blocks_per_sm(kernel, gpu, static_cast<std::uint32_t>(block_size), static_cast<std::uint32_t>(bytes)));
}

}  // namespace

extern "C" {

CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned count, CUjit_option* options,
                            void** values) {
  return in_context([&](Driver& driver, Context& context) {
    require(module != nullptr);
    load(driver, &context, module, [&] { return text_of(image, driver.gpu); }, count, options, values);
  });
}

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  return cuModuleLoadDataEx(module, image, 0, nullptr, nullptr);
}

CUresult cuModuleLoadFatBinary(CUmodule* module, const void* image) {
  return cuModuleLoadDataEx(module, image, 0, nullptr, nullptr);
}

CUresult cuModuleLoad(CUmodule* module, const char* file) {
  return in_context([&](Driver& driver, Context& context) {
    require(module != nullptr);
    load(driver, &context, module, [&] { return text_of_file(file, driver.gpu); });
  });
}

CUresult cuModuleUnload(CUmodule module) {
  return in_context([&](Driver& driver, Context&) { unload(driver, module, false); });
}

CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  return in_context([&](Driver& driver, Context&) { out(function) = function_named(driver, module, name); });
}

CUresult cuModuleGetGlobal_v2(CUdeviceptr* address, size_t* bytes, CUmodule module, const char* name) {
  return in_context(
      [&](Driver& driver, Context&) { give_variable(driver.checked(module), name, address, bytes); });
}

CUresult cuLibraryLoadData(CUlibrary* library, const void* image, CUjit_option* options, void** values,
                           unsigned count, CUlibraryOption* /*library_options*/, void** /*library_values*/,
                           unsigned /*library_count*/) {
  return call([&](Driver& driver) {
    require(library != nullptr);
    load(driver, nullptr, library, [&] { return text_of(image, driver.gpu); }, count, options, values);
  });
}

CUresult cuLibraryUnload(CUlibrary library) {
  return call([&](Driver& driver) { unload(driver, library, true); });
}

CUresult cuLibraryGetKernel(CUkernel* kernel, CUlibrary library, const char* name) {
  return call([&](Driver& driver) { out(kernel) = function_named(driver, library, name); });
}

CUresult cuLibraryGetGlobal(CUdeviceptr* address, size_t* bytes, CUlibrary library, const char* name) {
  return in_context(
      [&](Driver& driver, Context&) { give_variable(driver.checked(library), name, address, bytes); });
}

CUresult cuKernelGetFunction(CUfunction* function, CUkernel kernel) {
  return in_context(
      [&](Driver& driver, Context& context) { out(function) = &driver.checked(kernel, &context); });
}

CUresult cuKernelGetAttribute(int* value, CUfunction_attribute attribute, CUkernel kernel, CUdevice device) {
  return call([&](Driver& driver) {
    require_device(device);
    out(value) = static_cast<int>(attribute_of(driver.gpu, kernel_of(driver, kernel), attribute));
  });
}

CUresult cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel kernel, CUdevice device) {
  return call([&](Driver& driver) {
    require_device(device);
    set_attribute(driver.gpu, kernel_of(driver, kernel), attribute, value);
  });
}

CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction function) {
  return in_context([&](Driver& driver, Context& context) {
    const Function& checked = driver.checked(function, &context);
    out(value) = static_cast<int>(attribute_of(driver.gpu, checked, attribute));
  });
}

CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
  return in_context([&](Driver& driver, Context& context) {
    set_attribute(driver.gpu, driver.checked(function, &context), attribute, value);
  });
}

// A hint about a cache that the machine doesn't have.
CUresult cuFuncSetCacheConfig(CUfunction function, CUfunc_cache config) {
  return in_context([&](Driver& driver, Context& context) {
    require(config >= 0 && config <= CU_FUNC_CACHE_PREFER_EQUAL);
    driver.checked(function, &context);
  });
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, CUfunction function,
                                                              int block_size, size_t dynamic_shared,
                                                              unsigned flags) {
  return in_context([&](Driver& driver, Context& context) {
    require(block_size > 0 && flags <= CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE);
    out(blocks) =
        resident_blocks(driver.gpu, *driver.checked(function, &context).kernel, block_size, dynamic_shared);
  });
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction function, int block_size,
                                                     size_t dynamic_shared) {
  return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, block_size, dynamic_shared,
                                                              0);
}

// The block size that keeps most threads resident; of equals the largest. The caller's function may call the API, so nothing is
// locked meanwhile.
CUresult cuOccupancyMaxPotentialBlockSize(int* grid_size, int* block_size, CUfunction function,
                                          CUoccupancyB2DSize dynamic_shared_of, size_t dynamic_shared,
                                          int limit) {
  return guarded([&] {
    std::shared_ptr<LoadedModule> loaded;  // holds the kernel
    const Kernel* kernel = nullptr;
    const Gpu* gpu = nullptr;
    int largest = 0;
    const CUresult known = in_context([&](Driver& driver, Context& context) {
      require(grid_size != nullptr && block_size != nullptr && limit >= 0);
      const Function& checked = driver.checked(function, &context);
      loaded = checked.loaded;
      kernel = checked.kernel;
      gpu = &driver.gpu;
      largest = static_cast<int>(attribute_of(*gpu, checked, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK));
    });
    if (known != CUDA_SUCCESS) return known;
    constexpr int kWarp = static_cast<int>(kLanes);
    if (limit > 0) largest = std::min(largest, limit);
    int best_threads = 0;
    for (int size = largest; size > 0; size = (size - 1) / kWarp * kWarp) {
      const size_t bytes = dynamic_shared_of == nullptr ? dynamic_shared : dynamic_shared_of(size);
      const int blocks = resident_blocks(*gpu, *kernel, size, bytes);
      if (blocks * size <= best_threads) continue;
      best_threads = blocks * size;
      *block_size = size;
      *grid_size = blocks * static_cast<int>(gpu->sms);
    }
    require(best_threads > 0, CUDA_ERROR_INVALID_VALUE, "no block of this kernel fits on an SM");
    return CUDA_SUCCESS;
  });
}

}  // extern "C"
}  // namespace sluice::ptx::api
