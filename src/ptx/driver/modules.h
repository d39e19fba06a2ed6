// From an image to functions: what the parts of the API that load modules share.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"
#include "ptx/driver/state.h"

namespace sluice::ptx::api {

// The error log among the JIT options.
class JitLog {
 public:
  JitLog() = default;
  JitLog(unsigned count, const CUjit_option* options, void** values);

  // Runs `load`; an Error of its goes to the log and ends the call with `result`.
  template <typename Load>
  auto reported(CUresult result, Load&& load) const {
    try {
      return load();
    } catch (const Error& error) {
      write(error.what());
      throw Failure{result, error.what()};
    }
  }

 private:
  void write(std::string_view message) const;

  char* error_ = nullptr;
  void** error_size_ = nullptr;
  std::size_t error_capacity_ = 0;
};

// The PTX of an image in memory: text that ends with a zero, or a fat binary; of one of `bytes` bytes; of a file.
std::string text_of(const void* image, const Gpu& gpu);
std::string text_of(const void* image, std::size_t bytes, const Gpu& gpu);
std::string text_of_file(const char* file, const Gpu& gpu);

DriverModule& load_module(Driver& state, Context& context, std::string_view text, const JitLog& log);
// A library's module in a context, which it loads the first time.
DriverModule& module_of(Driver& state, Context& context, Library& library);
Function& function_named(const DriverModule& module, std::string_view name);
void give_variable(const DriverModule& module, const char* name, CUdeviceptr* address, size_t* bytes);

int function_attribute(const Driver& state, const Function& function, CUfunction_attribute attribute);
void set_function_attribute(const Driver& state, Function& function, CUfunction_attribute attribute,
                            int value);
void give_parameter(const Kernel& kernel, size_t index, size_t* offset, size_t* bytes);

}  // namespace sluice::ptx::api
