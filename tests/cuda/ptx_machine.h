// The driver library of the PTX machine, which every test of the CUDA backend runs on.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "base/json.h"
#include "base/mapped_file.h"
#include "cuda/context.h"
#include "cuda/driver.h"
#include "tests/support/temp_folder.h"

namespace sluice::test {

// SLUICE_TEST_DRIVER=libcuda.so.1 runs tests of the backend and of the decode kernel on a GPU.
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

inline std::shared_ptr<const cuda::Context> kernels_context() {
  return cuda::Context::make(cuda::Driver::open(driver_library()), 0);
}

// What the machine counts in the one launch that `run` makes.
inline Json counters_of(const std::function<void()>& run) {
  const TempFolder folder;
  const std::string file = (folder.path() / "report.json").string();
  ::setenv("SLUICE_PTX_REPORT", file.c_str(), 1);
  run();
  ::unsetenv("SLUICE_PTX_REPORT");
  return parse_json(read_text_file(file, 1 << 20), file).at("counters");
}

}  // namespace sluice::test
