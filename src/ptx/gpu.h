// What a GPU is to the machine: the limits that it enforces, and the figures that virtual time is made of.
#pragma once

#include <cstdint>
#include <string_view>

namespace sluice::ptx {

struct Gpu {
  std::string_view preset;               // "rtx3090"
  std::string_view name;                 // "NVIDIA GeForce RTX 3090"
  std::uint32_t compute_capability = 0;  // 86 for 8.6
  std::uint32_t sms = 0;
  std::uint32_t clock_mhz = 0;
  std::uint32_t memory_clock_mhz = 0;
  std::uint32_t memory_bus_bits = 0;
  std::uint64_t memory_bytes = 0;
  std::uint64_t l2_bytes = 0;
  // Per SM.
  std::uint32_t max_threads_per_sm = 0;
  std::uint32_t max_blocks_per_sm = 0;
  std::uint32_t registers_per_sm = 65536;
  std::uint32_t shared_per_sm = 0;  // bytes
  // Per block.
  std::uint32_t max_threads_per_block = 1024;
  std::uint32_t shared_per_block = 49152;  // without opt-in
  std::uint32_t shared_per_block_optin = 0;
  std::uint32_t reserved_shared_per_block = 0;  // what the system takes of shared_per_sm for each block
};

// rtx3090, a6000, rtx4090, rtx5090, a100, h100, h200, t4, tiny.
// Throws Error with the list if there is none of that name.
const Gpu& gpu_named(std::string_view preset);

}  // namespace sluice::ptx
