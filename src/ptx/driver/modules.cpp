// Modules and linking: NVIDIA, "CUDA Driver API", section Module Management.
#include "ptx/driver/modules.h"

#include <algorithm>
#include <utility>

namespace sluice::ptx::api {
DriverModule& load_module(Driver& state, Context& context, std::string_view text, const JitLog& log) {
  auto loaded = log.reported(CUDA_ERROR_INVALID_PTX, [&] {
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

extern "C" {

CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned count, CUjit_option* options,
                            void** values) {
  return in_context([&](Driver& state, Context& context) {
    require(module != nullptr);
    const JitLog log(count, options, values);
    const std::string text =
        log.reported(CUDA_ERROR_NO_BINARY_FOR_GPU, [&] { return text_of(image, state.gpu); });
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
    const JitLog log;
    const std::string text =
        log.reported(CUDA_ERROR_NO_BINARY_FOR_GPU, [&] { return text_of_file(file, state.gpu); });
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

CUresult cuLinkAddData_v2(CUlinkState link, CUjitInputType type, void* data, size_t bytes,
                          const char* /*name*/, unsigned /*count*/, CUjit_option* /*options*/,
                          void** /*values*/) {
  return in_context([&](Driver& state, Context&) {
    require(state.links.contains(link), CUDA_ERROR_INVALID_HANDLE);
    require(data != nullptr && bytes > 0);
    require(type == CU_JIT_INPUT_PTX || type == CU_JIT_INPUT_FATBINARY, CUDA_ERROR_NOT_SUPPORTED,
            "cuLinkAddData: only PTX and fat binaries with PTX can be used");
    require(link->text.empty(), CUDA_ERROR_NOT_SUPPORTED,
            "cuLinkAddData: several inputs can't be linked: compile them into one PTX file");
    link->text =
        JitLog().reported(CUDA_ERROR_NO_BINARY_FOR_GPU, [&] { return text_of(data, bytes, state.gpu); });
  });
}

CUresult cuLinkAddFile_v2(CUlinkState link, CUjitInputType type, const char* path, unsigned count,
                          CUjit_option* options, void** values) {
  std::string contents;
  const CUresult result = in_context([&](Driver& state, Context&) {
    contents = JitLog().reported(CUDA_ERROR_INVALID_IMAGE, [&] { return text_of_file(path, state.gpu); });
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
  return in_context(
      [&](Driver& state, Context&) { require(state.links.erase(link) == 1, CUDA_ERROR_INVALID_HANDLE); });
}

}  // extern "C"
}  // namespace sluice::ptx::api
