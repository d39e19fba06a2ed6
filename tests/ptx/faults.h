// Small kernels with one fault each, and where it must be reported.
#pragma once

#include <cstdint>
#include <ostream>
#include <span>
#include <string_view>
#include <vector>

#include "ptx/checks.h"

namespace sluice::ptx {

// The text is a kernel's body behind the declarations that faults_test.cpp writes: %buffer holds the address of 8192
// bytes, of which the first half is zeros and the rest poison. `.loc 1 n` says that what follows comes from line n of fault.cu.
struct FaultCase {
  std::string_view name;
  std::uint32_t blocks, threads;
  FindingKind kind;
  std::vector<std::uint32_t> lines;  // the report names one of them
  std::string_view text;
  std::string_view mended_from, mended_to;  // the same without the fault: replace the first by the second
};

inline void PrintTo(const FaultCase& fault, std::ostream* out) {
  *out << fault.name;
}  // GoogleTest's

std::span<const FaultCase> faults();

}  // namespace sluice::ptx
