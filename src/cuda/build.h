// What of the device code this program holds.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace sluice::cuda {

// The least that the kernels run on: 7.5 (Turing), with all of its shared memory.
inline constexpr int kLeastCapability = 75;
inline constexpr int kLeastSharedBytes = 64 << 10;

// Why the kernels are not in this program ("no nvcc ..."); empty if they are.
std::string_view why_not_built_in();
inline bool is_built_in() {
  return why_not_built_in().empty();
}

// PTX for compute_75 and compute_80, and machine code made of exactly that, in one. Empty if it isn't built in.
std::span<const std::byte> fat_binary();

// "sm_75 sm_80 ...": what there is machine code for; empty if there is none, and a GPU's driver compiles the PTX.
std::string_view machine_code();

int toolkit_version();  // of the nvcc that made it: 130 is 13.0. 130 if it isn't built in

}  // namespace sluice::cuda
