// Litmus tests of the PTX memory model: a few instructions for each of a few warps, and whether they race.
#pragma once

#include <cstdint>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::ptx {

// What one warp executes: lane 0 alone, or all lanes.
//
// In the code, locations are X, Y, F, G (global, 4 bytes, zero) and SX, SF (shared; SX is 512 bytes); %v0..%v9 are 32-bit
// registers, %lane the lane, and
//   WAIT(load, value)   repeats the load into %v9 until it gives the value, and sleeps between
struct LitmusWarp {
  std::uint32_t block, warp;
  std::string_view code;
  bool all_lanes = false;
};

struct Litmus {
  std::string_view name;
  bool racy;
  std::string_view why;
  std::vector<LitmusWarp> warps;
};

inline void PrintTo(const Litmus& litmus, std::ostream* out) {
  *out << litmus.name;
}  // GoogleTest's

std::span<const Litmus> litmus_tests();
// A module with one kernel that takes the address of 4096 bytes.
std::string ptx_of(const Litmus& litmus);

}  // namespace sluice::ptx
