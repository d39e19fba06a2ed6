// Sets of a warp's lanes, as masks.
#pragma once

#include <bit>
#include <cstdint>

namespace sluice::ptx {

inline constexpr std::uint32_t kLanes = 32;

inline std::uint32_t first_lane(std::uint32_t mask) {
  return static_cast<std::uint32_t>(std::countr_zero(mask));
}

// Of lanes that aren't none; std::has_single_bit counts bits by a call where the processor's own way can't be assumed.
inline bool is_one_lane(std::uint32_t mask) {
  return (mask & (mask - 1)) == 0;
}

inline bool has_lane(std::uint32_t mask, std::uint32_t lane) {
  return ((mask >> lane) & 1U) != 0;
}

// Calls visit(lane) for every lane, in ascending order.
template <class Visit>
void each_lane(std::uint32_t mask, Visit&& visit) {
  if (mask == ~0U) {
    for (std::uint32_t lane = 0; lane < kLanes; ++lane) visit(lane);
    return;
  }
  for (; mask != 0; mask &= mask - 1) visit(first_lane(mask));
}

}  // namespace sluice::ptx
