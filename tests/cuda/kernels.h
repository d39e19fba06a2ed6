// The PTX that the tests run: of this build, or from the folder SLUICE_KERNELS (tools/mutation.py's mutants; what a bundle has
// beside it).
#pragma once

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include <gtest/gtest.h>

namespace sluice::test {

inline std::string kernels_file(int architecture) {
  const char* given = std::getenv("SLUICE_KERNELS");
  return std::string(given == nullptr ? SLUICE_CUDA_FOLDER : given) + "/kernels." +
         std::to_string(architecture) + ".ptx";
}

inline std::string kernels(int architecture) {
  std::ifstream file(kernels_file(architecture));
  std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  EXPECT_FALSE(text.empty()) << kernels_file(architecture);
  return text;
}

}  // namespace sluice::test
