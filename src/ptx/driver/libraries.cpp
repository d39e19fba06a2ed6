// Libraries, modules that belong to no context: NVIDIA, "CUDA Driver API", section Library Management.
#include <algorithm>
#include <utility>

#include "ptx/driver/modules.h"

namespace sluice::ptx::api {
namespace {

Library& checked_library(Driver& state, CUlibrary library) {
  const auto found = state.libraries.find(library);
  require(found != state.libraries.end(), CUDA_ERROR_INVALID_HANDLE);
  return *found->second;
}

Context& current(Driver& state) {
  require(!context_stack().empty(), CUDA_ERROR_INVALID_CONTEXT);
  return checked_context(state, context_stack().back());
}

// A kernel as a function of the current context, or of the primary one where there is none.
Function& function_of(Driver& state, CUkernel kernel) {
  LibraryKernel& checked = checked_kernel(state, kernel);
  if (context_stack().empty()) require(state.primary != nullptr, CUDA_ERROR_INVALID_CONTEXT);
  Context& context = context_stack().empty() ? *state.primary : current(state);
  return function_named(module_of(state, context, *checked.library), checked.name);
}

}  // namespace

DriverModule& module_of(Driver& state, Context& context, Library& library) {
  DriverModule*& module = library.modules[&context];
  if (module == nullptr) {
    module = &load_module(state, context, library.text, JitLog());
    module->library = &library;
  }
  return *module;
}

LibraryKernel& checked_kernel(Driver& driver, CUkernel kernel) {
  for (const auto& [_, library] : driver.libraries)
    for (const std::unique_ptr<LibraryKernel>& candidate : library->kernels)
      if (candidate.get() == kernel) return *candidate;
  throw Failure{CUDA_ERROR_INVALID_HANDLE, {}};
}

extern "C" {

CUresult cuLibraryLoadData(CUlibrary* library, const void* image, CUjit_option* options, void** values,
                           unsigned count, CUlibraryOption* /*library_options*/, void** /*library_values*/,
                           unsigned /*library_count*/) {
  return call([&](Driver& state) {
    require(library != nullptr);
    const JitLog log(count, options, values);
    auto made = std::make_unique<Library>();
    made->text = log.reported(CUDA_ERROR_NO_BINARY_FOR_GPU, [&] { return text_of(image, state.gpu); });
    const Module module = log.reported(CUDA_ERROR_INVALID_PTX, [&] { return parse(made->text, "library"); });
    for (const ptx::Function& function : module.functions) {
      if (!function.entry || !function.defined) continue;
      made->kernels.push_back(std::make_unique<LibraryKernel>(LibraryKernel{made.get(), function.name}));
    }
    *library = made.get();
    state.libraries.emplace(made.get(), std::move(made));
  });
}

CUresult cuLibraryLoadFromFile(CUlibrary* library, const char* file, CUjit_option* options, void** values,
                               unsigned count, CUlibraryOption* library_options, void** library_values,
                               unsigned library_count) {
  std::string text;
  const CUresult result = call([&](Driver& state) {
    text = JitLog(count, options, values).reported(CUDA_ERROR_NO_BINARY_FOR_GPU, [&] {
      return text_of_file(file, state.gpu);
    });
  });
  if (result != CUDA_SUCCESS) return result;
  return cuLibraryLoadData(library, text.c_str(), options, values, count, library_options, library_values,
                           library_count);
}

CUresult cuLibraryUnload(CUlibrary library) {
  return call([&](Driver& state) {
    for (const auto& [context, module] : checked_library(state, library).modules)
      context->modules.erase(module);
    state.libraries.erase(library);
  });
}

CUresult cuLibraryGetKernel(CUkernel* kernel, CUlibrary library, const char* name) {
  return call([&](Driver& state) {
    require(kernel != nullptr && name != nullptr);
    const auto& kernels = checked_library(state, library).kernels;
    const auto found =
        std::find_if(kernels.begin(), kernels.end(), [&](const auto& each) { return each->name == name; });
    require(found != kernels.end(), CUDA_ERROR_NOT_FOUND);
    *kernel = found->get();
  });
}

CUresult cuLibraryGetModule(CUmodule* module, CUlibrary library) {
  return in_context([&](Driver& state, Context& context) {
    require(module != nullptr);
    *module = &module_of(state, context, checked_library(state, library));
  });
}

CUresult cuLibraryGetGlobal(CUdeviceptr* address, size_t* bytes, CUlibrary library, const char* name) {
  return in_context([&](Driver& state, Context& context) {
    give_variable(module_of(state, context, checked_library(state, library)), name, address, bytes);
  });
}

CUresult cuLibraryGetKernelCount(unsigned* count, CUlibrary library) {
  return call([&](Driver& state) {
    require(count != nullptr);
    *count = static_cast<unsigned>(checked_library(state, library).kernels.size());
  });
}

CUresult cuLibraryEnumerateKernels(CUkernel* kernels, unsigned count, CUlibrary library) {
  return call([&](Driver& state) {
    require(kernels != nullptr);
    const auto& all = checked_library(state, library).kernels;
    for (std::size_t i = 0; i < std::min<std::size_t>(count, all.size()); ++i) kernels[i] = all[i].get();
  });
}

CUresult cuKernelGetFunction(CUfunction* function, CUkernel kernel) {
  return in_context([&](Driver& state, Context&) {
    require(function != nullptr);
    *function = &function_of(state, kernel);
  });
}

CUresult cuKernelGetAttribute(int* value, CUfunction_attribute attribute, CUkernel kernel, CUdevice device) {
  return call([&](Driver& state) {
    require(value != nullptr);
    require_device(device);
    *value = function_attribute(state, function_of(state, kernel), attribute);
  });
}

CUresult cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel kernel, CUdevice device) {
  return call([&](Driver& state) {
    require_device(device);
    set_function_attribute(state, function_of(state, kernel), attribute, value);
  });
}

CUresult cuKernelSetCacheConfig(CUkernel kernel, CUfunc_cache /*config*/, CUdevice device) {
  return call([&](Driver& state) {
    require_device(device);
    checked_kernel(state, kernel);
  });
}

CUresult cuKernelGetName(const char** name, CUkernel kernel) {
  return call([&](Driver& state) {
    require(name != nullptr);
    *name = checked_kernel(state, kernel).name.c_str();
  });
}

CUresult cuKernelGetParamInfo(CUkernel kernel, size_t index, size_t* offset, size_t* bytes) {
  return call(
      [&](Driver& state) { give_parameter(*function_of(state, kernel).kernel, index, offset, bytes); });
}

CUresult cuKernelGetLibrary(CUlibrary* library, CUkernel kernel) {
  return call([&](Driver& state) {
    require(library != nullptr);
    *library = checked_kernel(state, kernel).library;
  });
}

}  // extern "C"
}  // namespace sluice::ptx::api
