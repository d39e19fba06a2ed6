#include <array>

#include "cpu/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace sluice::cpu {
namespace {

#if defined(__x86_64__)
// What the processor has and the system saves on a context switch (Intel SDM volume 1, 13.3 and 14.3).
struct Features {
  bool avx2 = false;
  bool avx512 = false;
  bool avx512_bf16 = false;
  bool amx_bf16 = false;
};

std::uint64_t saved_by_the_system() {
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (std::uint64_t{high} << 32U) | low;
}

// The system saves 8 kB of tiles only for processes that ask for it (Linux, Documentation/arch/x86/xstate.rst). Holds for
// all threads; refused by old systems, and where a thread's signal stack is too small for tiles.
bool allow_tiles() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

Features find_features() {
  Features features;
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0) return features;
  const bool has_xsave = (c & bit_OSXSAVE) != 0;
  const bool has_fma = (c & bit_FMA) != 0 && (c & bit_F16C) != 0;
  if (!has_xsave || !has_fma) return features;
  constexpr std::uint64_t kAvxState = 0x6;      // XMM, YMM
  constexpr std::uint64_t kAvx512State = 0xE6;  // and opmask, upper ZMM
  const std::uint64_t saved = saved_by_the_system();
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return features;
  features.avx2 = (saved & kAvxState) == kAvxState && (b & bit_AVX2) != 0;
  features.avx512 = features.avx2 && (saved & kAvx512State) == kAvx512State && (b & bit_AVX512F) != 0 &&
                    (b & bit_AVX512BW) != 0 && (b & bit_AVX512VL) != 0 && (b & bit_AVX512DQ) != 0;
  constexpr unsigned kTileAndBf16 = (1U << 24U) | (1U << 22U);
  constexpr std::uint64_t kTileState = (1U << 18U) | (1U << 17U);  // data, configuration
  const bool has_tiles = (d & kTileAndBf16) == kTileAndBf16 && (saved & kTileState) == kTileState;
  constexpr unsigned kBf16 = 1U << 5U;
  const bool has_bytes = features.avx512 && (c & bit_AVX512VNNI) != 0;  // whatever has BF16 has
  features.avx512_bf16 = has_bytes && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & kBf16) != 0;
  features.amx_bf16 = features.avx512_bf16 && has_tiles && allow_tiles();
  return features;
}
#endif

struct Table {
  std::array<const Kernels*, 5> entries{};
  std::size_t n = 0;
  void add(const Kernels& kernels) { entries[n++] = &kernels; }
};

Table make_table() {
  Table table;
#if defined(__x86_64__)
  const Features features = find_features();
  if (features.amx_bf16) table.add(kAmxBf16Kernels);
  if (features.avx512_bf16) table.add(kAvx512Bf16Kernels);
  if (features.avx512) table.add(kAvx512Kernels);
  if (features.avx2) table.add(kAvx2Kernels);
#endif
  table.add(kPortableKernels);
  return table;
}

}  // namespace

const Kernels* const* available_kernels(std::size_t* n) {
  static const Table table = make_table();
  *n = table.n;
  return table.entries.data();
}

}  // namespace sluice::cpu
