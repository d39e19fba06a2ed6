// Which CUDA devices the driver sees, asked through libcuda.so.1; nothing links to it.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace sluice::cli {

struct CudaDevice {
  std::string name;
  std::size_t bytes = 0;  // of memory
  int major = 0;          // compute capability
  int minor = 0;
};

struct CudaInfo {
  std::string problem;  // why there are no devices; empty if there are
  std::string driver;   // the CUDA version that the driver speaks, "12.4"; empty without driver
  std::vector<CudaDevice> devices;
};

CudaInfo cuda_info();

}  // namespace sluice::cli
