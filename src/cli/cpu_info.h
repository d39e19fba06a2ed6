// What this machine's processor is.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace sluice::cli {

struct CpuInfo {
  std::string name;         // empty if the kernel doesn't tell
  std::size_t threads = 1;  // workers that the cpu device takes by itself
  std::vector<std::string>
      isa;  // the kernel's names of the instruction sets that kernels for this model can use
};

CpuInfo cpu_info();

}  // namespace sluice::cli
