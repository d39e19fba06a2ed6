// Modules, libraries and functions: NVIDIA, "CUDA Driver API", sections Module Management, Library Management, Execution
// Control (attributes). An image is PTX text that ends with a zero, or a fat binary that holds PTX.
#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "base/mapped_file.h"
#include "ptx/driver/state.h"
#include "ptx/fat_binary.h"

namespace sluice::ptx {
namespace {

constexpr std::size_t kMaxFile = std::size_t{1} << 30U;

// The log buffers among the JIT options. A value is stored in the pointer itself, as the API has it.
struct JitLog {
  JitLog(unsigned count, const CUjit_option* options, void** values) {
    require(count == 0 || (options != nullptr && values != nullptr));
    for (unsigned i = 0; i < count; ++i) {
      switch (options[i]) {
        case CU_JIT_ERROR_LOG_BUFFER:
          error = static_cast<char*>(values[i]);
          break;
        case CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES:
          error_size = &values[i];
          break;
        case CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES:
          info_size = &values[i];
          break;
        default:
          break;  // how to compile: there is nothing to compile
      }
    }
    const auto capacity = error_size == nullptr ? 0 : reinterpret_cast<std::uintptr_t>(*error_size);
    error_capacity = error == nullptr ? 0 : static_cast<std::size_t>(static_cast<unsigned>(capacity));
    set(info_size, 0);
    set(error_size, 0);
  }

  void write(std::string_view message) const {
    if (error_capacity == 0) return;
    const std::size_t count = std::min(message.size(), error_capacity - 1);
    std::memcpy(error, message.data(), count);
    error[count] = '\0';
    set(error_size, count);
  }

  static void set(void** size, std::size_t value) {
    if (size != nullptr) *size = reinterpret_cast<void*>(value);
  }

  char* error = nullptr;
  void** error_size = nullptr;
  void** info_size = nullptr;
  std::size_t error_capacity = 0;
};

std::string text_of(const void* image, unsigned compute_capability) {
  require(image != nullptr);
  const std::optional<std::span<const std::byte>> fat = fat_binary_at(image);
  return fat ? ptx_of(*fat, compute_capability) : std::string(static_cast<const char*>(image));
}

std::string text_of_file(const char* file, unsigned compute_capability) {
  require(file != nullptr);
  require(is_there(file), CUDA_ERROR_FILE_NOT_FOUND, fmt::format("there is no file {}", printable(file)));
  const std::string contents = read_text_file(file, kMaxFile);
  const std::span<const std::byte> bytes = std::as_bytes(std::span(contents));
  return is_fat_binary(bytes) ? ptx_of(bytes, compute_capability) : contents;
}

// Runs `load`; an Error of its goes to the log, too.
template <typename Load>
auto reported(const JitLog& log, CUresult result, Load&& load) {
  try {
    return load();
  } catch (const Error& error) {
    log.write(error.what());
    throw Failure{result, error.what()};
  }
}

DriverModule& load_module(Driver& state, Context& context, std::string_view text, const JitLog& log) {
  auto loaded = reported(log, CUDA_ERROR_INVALID_PTX, [&] {
    return std::make_shared<LoadedModule>(parse(text, "module"), state.memory, state.gpu);
  });
  auto module = std::make_unique<DriverModule>();
  module->context = &context;
  module->loaded = std::move(loaded);
  for (const Kernel& kernel : module->loaded->kernels()) {
    auto function = std::make_unique<Function>();
    function->kernel = &kernel;
    function->module = module.get();
    module->functions.push_back(std::move(function));
  }
  DriverModule& made = *module;
  context.modules.emplace(&made, std::move(module));
  return made;
}

Library& checked_library(Driver& state, CUlibrary library) {
  const auto found = state.libraries.find(library);
  require(found != state.libraries.end(), CUDA_ERROR_INVALID_HANDLE);
  return *found->second;
}

DriverModule& module_of(Driver& state, Context& context, Library& library) {
  DriverModule*& module = library.modules[&context];
  if (module == nullptr) {
    module = &load_module(state, context, library.text, JitLog(0, nullptr, nullptr));
    module->library = &library;
  }
  return *module;
}

Function& function_named(const DriverModule& module, std::string_view name) {
  for (const std::unique_ptr<Function>& function : module.functions)
    if (function->kernel->name == name) return *function;
  throw Failure{CUDA_ERROR_NOT_FOUND, {}};
}

void give_variable(const DriverModule& module, const char* name, CUdeviceptr* address, size_t* bytes) {
  require(name != nullptr);
  const Allocation* variable = module.loaded->find_variable(name);
  require(variable != nullptr, CUDA_ERROR_NOT_FOUND);
  if (address != nullptr) *address = variable->address;
  if (bytes != nullptr) *bytes = variable->size;
}

int attribute_of(const Driver& state, const Function& function, CUfunction_attribute attribute) {
  const Kernel& kernel = *function.kernel;
  const std::array<std::uint32_t, 3>& bounds =
      kernel.required_threads[0] != 0 ? kernel.required_threads : kernel.max_threads;
  switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
      return static_cast<int>(bounds[0] == 0 ? state.gpu.max_threads_per_block : bounds[0] * bounds[1] * bounds[2]);
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
      return static_cast<int>(function.max_dynamic_shared != 0 ? function.max_dynamic_shared
                                                               : state.gpu.shared_per_block - kernel.static_shared);
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
      return function.carveout;
    default:
      require(attribute >= 0 && attribute <= CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE);
      return 0;
  }
}

void set_attribute(const Driver& state, Function& function, CUfunction_attribute attribute, int value) {
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

Context& current(Driver& state) {
  require(!context_stack().empty(), CUDA_ERROR_INVALID_CONTEXT);
  return checked_context(state, context_stack().back());
}

}  // namespace

Function& checked_function(Driver& driver, Context& context, CUfunction function) {
  for (const auto& [_, module] : context.modules)
    for (const std::unique_ptr<Function>& candidate : module->functions)
      if (candidate.get() == function) return *candidate;
  LibraryKernel& kernel = checked_kernel(driver, reinterpret_cast<CUkernel>(function));
  return function_named(module_of(driver, context, *kernel.library), kernel.name);
}

LibraryKernel& checked_kernel(Driver& driver, CUkernel kernel) {
  for (const auto& [_, library] : driver.libraries)
    for (const std::unique_ptr<LibraryKernel>& candidate : library->kernels)
      if (candidate.get() == kernel) return *candidate;
  throw Failure{CUDA_ERROR_INVALID_HANDLE, {}};
}

extern "C" {

CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned count, CUjit_option* options,
                            void** values) {
  return in_context([&](Driver& state, Context& context) {
    require(module != nullptr);
    const JitLog log(count, options, values);
    const std::string text = reported(log, CUDA_ERROR_NO_BINARY_FOR_GPU,
                                      [&] { return text_of(image, state.gpu.compute_capability); });
    *module = &load_module(state, context, text, log);
  });
}

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  return cuModuleLoadDataEx(module, image, 0, nullptr, nullptr);
}

CUresult cuModuleLoadFatBinary(CUmodule* module, const void* image) {
  return cuModuleLoadDataEx(module, image, 0, nullptr, nullptr);
}

CUresult cuModuleLoad(CUmodule* module, const char* file) {
  return in_context([&](Driver& state, Context& context) {
    require(module != nullptr);
    const JitLog log(0, nullptr, nullptr);
    const std::string text = reported(log, CUDA_ERROR_NO_BINARY_FOR_GPU,
                                      [&] { return text_of_file(file, state.gpu.compute_capability); });
    *module = &load_module(state, context, text, log);
  });
}

CUresult cuModuleUnload(CUmodule module) {
  return in_context([&](Driver& state, Context&) {
    DriverModule& checked = checked_module(state, module);
    require(checked.library == nullptr, CUDA_ERROR_NOT_SUPPORTED, "a library's module ends with the library");
    checked.context->modules.erase(module);  // launches hold what they run
  });
}

CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  return in_context([&](Driver& state, Context&) {
    require(function != nullptr && name != nullptr);
    *function = &function_named(checked_module(state, module), name);
  });
}

CUresult cuModuleGetGlobal_v2(CUdeviceptr* address, size_t* bytes, CUmodule module, const char* name) {
  return in_context(
      [&](Driver& state, Context&) { give_variable(checked_module(state, module), name, address, bytes); });
}

CUresult cuModuleGetLoadingMode(CUmoduleLoadingMode* mode) {
  return call([&](Driver&) {
    require(mode != nullptr);
    *mode = CU_MODULE_EAGER_LOADING;
  });
}

CUresult cuModuleGetFunctionCount(unsigned* count, CUmodule module) {
  return in_context([&](Driver& state, Context&) {
    require(count != nullptr);
    *count = static_cast<unsigned>(checked_module(state, module).functions.size());
  });
}

CUresult cuModuleEnumerateFunctions(CUfunction* functions, unsigned count, CUmodule module) {
  return in_context([&](Driver& state, Context&) {
    require(functions != nullptr);
    const auto& all = checked_module(state, module).functions;
    for (std::size_t i = 0; i < std::min<std::size_t>(count, all.size()); ++i) functions[i] = all[i].get();
  });
}

// There is nothing to compile or link in one piece of PTX: its text is the image.
CUresult cuLinkCreate_v2(unsigned count, CUjit_option* options, void** values, CUlinkState* link) {
  return in_context([&](Driver& state, Context&) {
    require(link != nullptr);
    const JitLog log(count, options, values);
    auto made = std::make_unique<Link>();
    *link = made.get();
    state.links.emplace(made.get(), std::move(made));
  });
}

CUresult cuLinkAddData_v2(CUlinkState link, CUjitInputType type, void* data, size_t bytes, const char* /*name*/,
                          unsigned /*count*/, CUjit_option* /*options*/, void** /*values*/) {
  return in_context([&](Driver& state, Context&) {
    require(state.links.contains(link), CUDA_ERROR_INVALID_HANDLE);
    require(data != nullptr && bytes > 0);
    require(type == CU_JIT_INPUT_PTX || type == CU_JIT_INPUT_FATBINARY, CUDA_ERROR_NOT_SUPPORTED,
            "cuLinkAddData: only PTX and fat binaries with PTX can be used");
    require(link->text.empty(), CUDA_ERROR_NOT_SUPPORTED,
            "cuLinkAddData: several inputs can't be linked: compile them into one PTX file");
    link->text = reported(JitLog(0, nullptr, nullptr), CUDA_ERROR_NO_BINARY_FOR_GPU, [&] {
      const std::span given(static_cast<const std::byte*>(data), bytes);
      if (is_fat_binary(given)) return ptx_of(given, state.gpu.compute_capability);
      const std::string text(static_cast<const char*>(data), bytes);
      return std::string(text.c_str());  // up to a zero
    });
  });
}

CUresult cuLinkAddFile_v2(CUlinkState link, CUjitInputType type, const char* path, unsigned count,
                          CUjit_option* options, void** values) {
  std::string contents;
  const CUresult result = in_context([&](Driver& state, Context&) {
    contents = reported(JitLog(0, nullptr, nullptr), CUDA_ERROR_INVALID_SOURCE,
                        [&] { return text_of_file(path, state.gpu.compute_capability); });
  });
  if (result != CUDA_SUCCESS) return result;
  return cuLinkAddData_v2(link, type, contents.data(), contents.size(), path, count, options, values);
}

CUresult cuLinkComplete(CUlinkState link, void** image, size_t* bytes) {
  return in_context([&](Driver& state, Context&) {
    require(state.links.contains(link), CUDA_ERROR_INVALID_HANDLE);
    require(image != nullptr);
    *image = link->text.data();
    if (bytes != nullptr) *bytes = link->text.size() + 1;
  });
}

CUresult cuLinkDestroy(CUlinkState link) {
  return in_context([&](Driver& state, Context&) {
    require(state.links.erase(link) == 1, CUDA_ERROR_INVALID_HANDLE);
  });
}

CUresult cuLibraryLoadData(CUlibrary* library, const void* image, CUjit_option* options, void** values,
                           unsigned count, CUlibraryOption* /*library_options*/, void** /*library_values*/,
                           unsigned /*library_count*/) {
  return call([&](Driver& state) {
    require(library != nullptr);
    const JitLog log(count, options, values);
    auto made = std::make_unique<Library>();
    made->text = reported(log, CUDA_ERROR_NO_BINARY_FOR_GPU,
                          [&] { return text_of(image, state.gpu.compute_capability); });
    const Module module =
        reported(log, CUDA_ERROR_INVALID_PTX, [&] { return parse(made->text, "library"); });
    for (const ptx::Function& function : module.functions) {
      if (!function.entry || !function.defined) continue;
      made->kernels.push_back(std::make_unique<LibraryKernel>(LibraryKernel{made.get(), function.name}));
    }
    *library = made.get();
    state.libraries.emplace(made.get(), std::move(made));
  });
}

}  // extern "C"
}  // namespace sluice::ptx
