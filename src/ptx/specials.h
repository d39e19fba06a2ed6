// PTX ISA, "Special Registers".
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "ptx/executor.h"

namespace sluice::ptx {

struct Special {
  std::string_view name;
  std::uint32_t bytes;  // at least
  std::uint64_t (*value)(const Executor& executor, const Warp& warp, std::uint32_t lane);
};
// `variant` of run::special is an index.
std::span<const Special> specials();

// Where dynamic shared memory begins: no register of the ISA.
inline constexpr std::string_view kDynamicBase = "dynamic shared memory";

}  // namespace sluice::ptx
