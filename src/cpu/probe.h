// What the machine can do at most: bytes read from memory a second, multiplications and additions a second. `bench` sets
// speeds against it. Machines are shared and change their clocks, so a probe is a series of rounds, made between the runs
// that it will judge; a figure is the median of its rounds.
//
// Bandwidth. Every worker reads a contiguous range of its own. Which way of reading is fastest differs from machine to
// machine, so all are tried in every round: widths of loads, numbers of streams, distances of prefetches. The figure is that
// of the variant with the best median.
//
// Peaks. Every worker runs the unit's instruction on registers alone.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/reserved_memory.h"
#include "cpu/probe_kernels.h"
#include "cpu/workers.h"
#include "model/tensor.h"
#include "program/program.h"

namespace sluice::cpu {

enum class Unit : std::uint8_t { kBf16, kFp32, kInt8 };
inline constexpr std::size_t kUnits = 3;

// The loop that measures `unit` where kernels `isa` (as in kernels.h) run: its instruction for such numbers, or, if it has none
// for bf16, its fp32 one, since that is how such kernels multiply bf16.
const ArithmeticLoop& arithmetic_loop(std::string_view isa, Unit unit);

// The unit that kernels use for an op whose weights have type `dtype`: bf16 products for bf16 weights, fp32 for what becomes
// fp32 when packed, and for all that meets no weights.
Unit unit_of(program::OpKind kind, model::DType dtype);

// All ways of reading that this machine has, whatever instruction set the kernels use.
std::vector<const ReadLoop*> read_loops();

// "512-bit loads, 4 streams, prefetch 1024 B ahead"
std::string name_of(const ReadLoop& loop);

// Bytes of the largest cache that the processors share, 0 if unknown.
std::size_t last_level_cache();

// A buffer that surely comes from memory: 8 × the last-level cache, at least 256 MB, at most `limit` (rounded).
std::size_t memory_buffer_bytes(std::size_t limit);

struct Bandwidth {
  double bytes_per_second = 0;  // the best variant's median
  const ReadLoop* loop = nullptr;
};

// Reads a buffer of its own with `workers`.
class ReadProbe {
 public:
  // Takes and fills at least `bytes`. `workers` must outlive it.
  ReadProbe(Workers& workers, std::size_t bytes);

  std::size_t bytes() const { return range_bytes_ * workers_.size(); }
  void measure();          // one round
  Bandwidth best() const;  // after at least one round

 private:
  double time(const ReadLoop& loop);  // bytes a second

  Workers& workers_;
  std::size_t range_bytes_;  // of a worker
  ReservedMemory buffer_;
  std::vector<const ReadLoop*> loops_;
  std::vector<std::vector<double>> rates_;  // [loops][rounds]
  std::vector<std::uint64_t> sums_;         // [workers × a cache line]  so that nothing is left out
};

// The arithmetic peaks of an instruction set, on all workers at once.
class PeakProbe {
 public:
  PeakProbe(Workers& workers, std::string_view isa);

  void measure();
  double flops_per_second(Unit unit) const;

 private:
  Workers& workers_;
  std::array<const ArithmeticLoop*, kUnits> loops_{};
  std::array<std::size_t, kUnits> rounds_{};  // that take kPeakTime
  std::array<std::vector<double>, kUnits> rates_;
};

}  // namespace sluice::cpu
