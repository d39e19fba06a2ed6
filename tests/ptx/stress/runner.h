// Runs kernels that nvcc made of the sources beside this file.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include <gtest/gtest.h>

#include "ptx/machine.h"

namespace sluice::ptx::test {

using Dimensions = std::array<std::uint32_t, 3>;

// Device memory that holds an array.
template <typename T>
class Buffer {
 public:
  Buffer(Memory& memory, const std::vector<T>& values)
      : memory_(&memory), count_(values.size()), address_(memory.allocate(values.size() * sizeof(T))) {
    std::memcpy(memory.bytes(address_, count_ * sizeof(T)).data(), values.data(), count_ * sizeof(T));
  }
  ~Buffer() { memory_->free(address_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  std::uint64_t address() const { return address_; }
  std::vector<T> values() const {
    std::vector<T> copy(count_);
    std::memcpy(copy.data(), memory_->bytes(address_, count_ * sizeof(T)).data(), count_ * sizeof(T));
    return copy;
  }

 private:
  Memory* memory_;
  std::size_t count_;
  std::uint64_t address_;
};

// One module on one GPU, and how to launch its kernels. An argument is a Buffer or a number of the parameter's type.
class Runner {
 public:
  Runner(const std::string& file, std::string_view gpu)
      : gpu_(&gpu_named(gpu)), memory_(std::uint64_t{1} << 28U) {
    std::ifstream stream(file);
    EXPECT_TRUE(stream) << file;
    const std::string text{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
    module_ = std::make_unique<LoadedModule>(parse(text, file), memory_, *gpu_);
  }

  Memory& memory() { return memory_; }
  const Gpu& gpu() const { return *gpu_; }

  template <typename T>
  Buffer<T> buffer(const std::vector<T>& values) {
    return Buffer<T>(memory_, values);
  }

  // Runs it with all checks; a finding is a failure of the test.
  template <typename... Arguments>
  void run(std::string_view name, Dimensions grid, Dimensions block, LaunchOptions options,
           const Arguments&... arguments) {
    const Kernel* kernel = module_->find_kernel(name);
    ASSERT_NE(kernel, nullptr) << name;
    ASSERT_EQ(kernel->parameters.size(), sizeof...(arguments));
    std::vector<std::byte> packed(kernel->parameter_bytes);
    std::size_t index = 0;
    (pack(packed, kernel->parameters[index++], arguments), ...);
    options.grid = grid;
    options.block = block;
    const LaunchResult result = launch(*kernel, memory_, *gpu_, packed, options);
    EXPECT_TRUE(result.completed) << name;
    for (const Finding& finding : result.findings) ADD_FAILURE() << finding.message;
  }

 private:
  template <typename T>
  static void pack(std::vector<std::byte>& packed, const KernelParameter& parameter,
                   const Buffer<T>& buffer) {
    pack(packed, parameter, buffer.address());
  }
  template <typename T>
    requires std::is_arithmetic_v<T>
  static void pack(std::vector<std::byte>& packed, const KernelParameter& parameter, T value) {
    ASSERT_EQ(parameter.size, sizeof(T)) << parameter.name;
    std::memcpy(packed.data() + parameter.offset, &value, sizeof(T));
  }

  const Gpu* gpu_;
  Memory memory_;
  std::unique_ptr<LoadedModule> module_;
};

}  // namespace sluice::ptx::test
