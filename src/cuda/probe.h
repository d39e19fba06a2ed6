// What a GPU can do at most: bytes read from its memory a second, multiplications and additions a second. `bench` sets speeds
// against it. As on the CPU (cpu/probe.h) a probe is a series of rounds, made between the runs that it will judge, and a figure
// is the median of its rounds; of several ways of reading the one with the best median counts. Times are those between two events.
//
// What a launch read and computed is checked, so that no figure comes from work that was left out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cuda/context.h"

namespace sluice::cuda {

// A buffer that surely comes from memory: 16 × the second-level cache, at least 256 MB, and a quarter of what is free at most.
std::size_t probe_buffer_bytes(const DeviceInfo& device, std::size_t free_bytes);

class Probe {
 public:
  // Takes and fills `bytes`, rounded down to 16. `module` and `stream` must outlive it.
  Probe(std::shared_ptr<const Context> context, const Module& module, const Stream& stream,
        std::size_t bytes);

  std::size_t bytes() const { return data_.bytes(); }
  // One round. Throws Error if the device's results aren't what they must be.
  void measure();

  struct Reading {
    double bytes_per_second = 0;
    std::string variant;
  };
  Reading best() const;             // after at least one round
  double flops_per_second() const;  // of products of bf16; the same

 private:
  struct Variant {
    std::size_t blocks = 0;
    bool is_striped = false;
    std::vector<double> rates;
  };

  template <typename Parameters>
  double time(const Kernel& kernel, std::size_t blocks, const Parameters& parameters);
  void read(Variant& variant);
  void multiply();

  std::shared_ptr<const Context> context_;
  const Stream& stream_;
  Kernel read_, products_;
  std::size_t read_blocks_, product_blocks_;
  DeviceMemory data_;
  DeviceMemory sums_;
  Event begin_, end_;
  std::uint32_t expected_ = 0;  // all words of `data_`, xor
  std::vector<Variant> variants_;
  std::vector<double> product_rates_;
};

}  // namespace sluice::cuda
