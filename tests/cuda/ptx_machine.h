// The driver library of the PTX machine, which every test of the CUDA backend runs on.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <memory>

#include "cuda/context.h"
#include "cuda/driver.h"

namespace sluice::test {

// SLUICE_TEST_DRIVER=libcuda.so.1 runs tests of the backend on a GPU.
inline std::filesystem::path driver_library() {
  const char* given = std::getenv("SLUICE_TEST_DRIVER");
  return given == nullptr ? SLUICE_PTX_LIBRARY : given;
}

inline std::shared_ptr<const cuda::Driver> ptx_machine() {
  return cuda::Driver::open(SLUICE_PTX_LIBRARY);
}

inline std::shared_ptr<const cuda::Context> new_context() {
  return cuda::Context::make(ptx_machine(), 0);
}

}  // namespace sluice::test
