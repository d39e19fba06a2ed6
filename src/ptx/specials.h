// PTX ISA, "Special Registers".
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "ptx/executor.h"

namespace sluice::ptx {

struct Special {
  std::uint32_t bytes = 0;  // at least
  std::uint8_t index = 0;   // `variant` of run::special
  std::uint8_t axis = 0;    // its `count`
};
// Nothing if there is none of that name.
std::optional<Special> special_named(std::string_view name);

// Where dynamic shared memory begins: no register of the ISA.
inline constexpr std::string_view kDynamicBase = "dynamic shared memory";

}  // namespace sluice::ptx
