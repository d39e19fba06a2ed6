// Loops that do nothing but read, or nothing but multiply and add: what an instruction set can do at most. In files of their
// own for each set (probe_*.cpp), as the kernels are.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sluice::cpu {

// Reads must be given a multiple of this many bytes: eight streams of eight cache lines.
inline constexpr std::size_t kReadGranule = 4096;

struct ReadLoop {
  unsigned bits;      // width of a load
  unsigned streams;   // pieces of the range that are read side by side
  unsigned prefetch;  // bytes between a load and the prefetch beside it; 0: left to the hardware
  // The sum of all 64-bit words of [data, data + n), modulo 2^64; data aligned to 64, n a multiple of kReadGranule. A sum,
  // so that no load can be left out, and so that tests can see that each byte is read exactly once.
  std::uint64_t (*read)(const std::byte* data, std::size_t n);
};

struct ReadLoops {
  const ReadLoop* begin = nullptr;
  std::size_t n = 0;
};

struct ArithmeticLoop {
  const char* instruction = nullptr;  // "vdpbf16ps"; null: the set has none for such numbers
  std::size_t flops_per_round = 0;    // 2 × multiply-accumulates
  void (*run)(std::size_t rounds) = nullptr;
};

extern const ReadLoops kPortableReads;
extern const ArithmeticLoop kPortableFp32;
extern const ArithmeticLoop kPortableInt8;
#if defined(__x86_64__)
extern const ReadLoops kAvx2Reads;
extern const ReadLoops kAvx512Reads;
extern const ArithmeticLoop kAvx2Fp32;
extern const ArithmeticLoop kAvx2Int8;
extern const ArithmeticLoop kAvx512Fp32;
extern const ArithmeticLoop kAvx512Int8;      // vpmaddubsw, for what has no VNNI
extern const ArithmeticLoop kAvx512VnniInt8;  // vpdpbusd
extern const ArithmeticLoop kAvx512Bf16;
extern const ArithmeticLoop kAmxBf16;
extern const ArithmeticLoop kAmxInt8;
#endif

}  // namespace sluice::cpu
