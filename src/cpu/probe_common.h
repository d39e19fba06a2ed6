// The read loop for every width, number of streams and prefetch distance, and what keeps a compiler from seeing through
// the arithmetic loops.
//
// Included by probe_*.cpp only, inside their own namespace scope; all of it is static, and it uses no library template:
// an inline function compiled for one instruction set must never be linked into code for another.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "cpu/probe_kernels.h"

namespace sluice::cpu {
namespace {

using u64x2 = uint64_t __attribute__((vector_size(16)));
using u64x4 = uint64_t __attribute__((vector_size(32)));
using u64x8 = uint64_t __attribute__((vector_size(64)));

constexpr size_t kLine = 64;
constexpr size_t kLinesAtOnce =
    8;  // of all streams: enough loads in flight to fill the line buffers of a core

// N vectors that stay in registers: GCC would keep an array of them in memory.
template <typename Vector, size_t N>
struct Registers {
  Vector first = {};
  Registers<Vector, N - 1> rest;

  template <typename F>
  __attribute__((always_inline)) void each(const F& f, size_t index = 0) {
    f(first, index);
    rest.each(f, index + 1);
  }
};

template <typename Vector>
struct Registers<Vector, 0> {
  template <typename F>
  void each(const F& /*f*/, size_t /*index*/) {}
};

template <typename Vector, size_t Streams, size_t Prefetch>
uint64_t read_all(const std::byte* data, size_t n) {
  constexpr size_t kLines = kLinesAtOnce / Streams;
  const size_t stream_bytes = n / Streams;
  Registers<Vector, kLinesAtOnce> sums;
  for (size_t at = 0; at < stream_bytes; at += kLines * kLine) {
    sums.each([&](Vector& sum, size_t i) __attribute__((always_inline)) {
      const std::byte* line = data + i / kLines * stream_bytes + at + i % kLines * kLine;
      // Not further than the range: what lies behind it is another worker's to fetch.
      if constexpr (Prefetch != 0)
        if (at + Prefetch < stream_bytes) __builtin_prefetch(line + Prefetch, 0, 3);
      for (size_t offset = 0; offset < kLine; offset += sizeof(Vector)) {
        Vector vector;
        __builtin_memcpy(&vector, line + offset, sizeof vector);
        sum += vector;
      }
    });
  }
  Vector total = {};
  sums.each([&](const Vector& sum, size_t /*i*/) { total += sum; });
  uint64_t sum = 0;
  for (size_t i = 0; i < sizeof(Vector) / sizeof(uint64_t); ++i) sum += total[i];
  return sum;
}

template <typename Vector, size_t Streams, size_t Prefetch>
constexpr ReadLoop kReadLoop = {8 * sizeof(Vector), Streams, Prefetch, read_all<Vector, Streams, Prefetch>};

// Every number of streams with every distance.
template <typename Vector>
constexpr ReadLoop kReadLoops[] = {
    kReadLoop<Vector, 1, 0>, kReadLoop<Vector, 1, 1024>, kReadLoop<Vector, 1, 4096>,
    kReadLoop<Vector, 2, 0>, kReadLoop<Vector, 2, 1024>, kReadLoop<Vector, 2, 4096>,
    kReadLoop<Vector, 4, 0>, kReadLoop<Vector, 4, 1024>, kReadLoop<Vector, 4, 4096>,
    kReadLoop<Vector, 8, 0>, kReadLoop<Vector, 8, 1024>, kReadLoop<Vector, 8, 4096>,
};

template <typename Vector>
constexpr ReadLoops kAllReads = {kReadLoops<Vector>, sizeof kReadLoops<Vector> / sizeof(ReadLoop)};

// What the compiler can't know to be `value`: it neither merges sums nor drops them.
template <typename T>
__attribute__((always_inline)) inline T opaque(T value) {
#if defined(__AVX512F__)
  __asm__ volatile("" : "+v"(value));
#elif defined(__x86_64__)
  __asm__ volatile("" : "+x"(value));
#elif defined(__aarch64__)
  __asm__ volatile("" : "+w"(value));
#else
  __asm__ volatile("" : "+m"(value));
#endif
  return value;
}

// Adds N products to N sums in each round. Independent sums, at least latency × instructions a cycle of every core so far
// (Zen 4: 6 × 2, Golden Cove: 4 × 2); they fit into the registers with the operands.
template <size_t N, typename Vector, typename MultiplyAdd>
inline void accumulate(size_t rounds, Vector a, Vector b, const MultiplyAdd& multiply_add) {
  Registers<Vector, N> sums;
  for (size_t round = 0; round < rounds; ++round) {
    sums.each([&](Vector& sum, size_t /*i*/) __attribute__((always_inline)) {
      a = opaque(a);
      sum = multiply_add(sum, a, b);
    });
  }
  sums.each([&](Vector& sum, size_t /*i*/) { sum = opaque(sum); });
}

}  // namespace
}  // namespace sluice::cpu
