// A context on the library, and the shortest way to its functions.
#pragma once

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ptx/driver/api.h"
#include "tests/ptx/driver/kernels.h"

namespace sluice::ptx::test {

using namespace sluice::ptx::api;  // names of cuda.h

inline const char* name_of(CUresult result) {
  const char* name = nullptr;
  return cuGetErrorName(result, &name) == CUDA_SUCCESS ? name : "?";
}

#define EXPECT_RESULT(call, result) EXPECT_STREQ(::sluice::ptx::test::name_of(call), #result)
#define EXPECT_GOOD(call) EXPECT_RESULT(call, CUDA_SUCCESS)
#define ASSERT_GOOD(call) ASSERT_STREQ(::sluice::ptx::test::name_of(call), "CUDA_SUCCESS")

// All tests of the program share one driver: an RTX 3090.
class DriverTest : public testing::Test {
 protected:
  void SetUp() override {
    ::setenv("SLUICE_PTX_GPU", "rtx3090", 1);
    ASSERT_GOOD(cuInit(0));
    ASSERT_GOOD(cuCtxCreate_v2(&context_, 0, 0));
  }
  void TearDown() override { EXPECT_GOOD(cuCtxDestroy_v2(context_)); }

  static CUfunction function(const std::string& text, const char* name) {
    CUmodule module = nullptr;
    CUfunction found = nullptr;
    EXPECT_GOOD(cuModuleLoadData(&module, text.c_str()));
    EXPECT_GOOD(cuModuleGetFunction(&found, module, name));
    return found;
  }

  template <typename T>
  static CUdeviceptr device(const std::vector<T>& values) {
    CUdeviceptr address = 0;
    EXPECT_GOOD(cuMemAlloc_v2(&address, values.size() * sizeof(T)));
    EXPECT_GOOD(cuMemcpyHtoD_v2(address, values.data(), values.size() * sizeof(T)));
    return address;
  }
  template <typename T>
  static std::vector<T> host(CUdeviceptr address, std::size_t count) {
    std::vector<T> values(count);
    EXPECT_GOOD(cuMemcpyDtoH_v2(values.data(), address, count * sizeof(T)));
    return values;
  }

  CUcontext context_ = nullptr;
};

// Two words of pinned memory and a kernel on `stream` that waits for the host to let it go.
class Held {
 public:
  explicit Held(CUfunction wait_for_host, CUstream stream) {
    void* data = nullptr;
    EXPECT_GOOD(cuMemHostAlloc(&data, 2 * sizeof(unsigned), 2));
    words_ = static_cast<unsigned*>(data);
    words_[0] = words_[1] = 0;
    CUdeviceptr address = 0;
    EXPECT_GOOD(cuMemHostGetDevicePointer_v2(&address, data, 0));
    void* parameters[] = {&address};
    EXPECT_GOOD(cuLaunchKernel(wait_for_host, 1, 1, 1, 1, 1, 1, 0, stream, parameters, nullptr));
  }
  void wait_until_running() const {
    while (__atomic_load_n(&words_[0], __ATOMIC_ACQUIRE) == 0) {
    }
  }
  void let_go() const { __atomic_store_n(&words_[1], 1U, __ATOMIC_RELEASE); }

 private:
  unsigned* words_ = nullptr;
};

}  // namespace sluice::ptx::test
