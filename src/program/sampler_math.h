// The sampler's arithmetic, the same bits on every machine: integers and IEEE fp32 add, multiply, divide and
// compare in the order written here, no fma, no libm. Compile it without contraction (-ffp-contract=off,
// -fmad=false), with subnormals and with IEEE division. Functions only, so that a device compiler can take
// the header as it is.
#pragma once

#include <cstdint>

#ifndef SLUICE_HOST_DEVICE
#define SLUICE_HOST_DEVICE  // what the device compiler wants before a function, as __host__ __device__
#endif
#ifndef SLUICE_ROLLED
#define SLUICE_ROLLED  // what keeps a device compiler from unrolling the loop behind it
#endif

namespace sluice::program::sampler {

// Philox4x32-10: ten rounds of two 32 x 32 → 64 bit products (Salmon, Moraes, Dror, Shaw: Parallel random
// numbers, as easy as 1, 2, 3; SC11, table 2 and section 5.1). `counter` becomes the random block.
SLUICE_HOST_DEVICE constexpr void philox4x32_10(std::uint32_t (&counter)[4], std::uint64_t key) {
  auto key0 = static_cast<std::uint32_t>(key);
  auto key1 = static_cast<std::uint32_t>(key >> 32U);
  SLUICE_ROLLED
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53U} * counter[0];
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57U} * counter[2];
    counter[0] = static_cast<std::uint32_t>(product1 >> 32U) ^ counter[1] ^ key0;
    counter[1] = static_cast<std::uint32_t>(product1);
    counter[2] = static_cast<std::uint32_t>(product0 >> 32U) ^ counter[3] ^ key1;
    counter[3] = static_cast<std::uint32_t>(product0);
    key0 += 0x9E3779B9U;  // golden ratio
    key1 += 0xBB67AE85U;  // sqrt(3) - 1
  }
}

// ln 2 in two parts. The first has nine trailing zero bits, so that its product with an exponent
// (at most eight bits) is exact.
inline constexpr float kLn2High = 0x1.62e4p-1F;
inline constexpr float kLn2Low = 0x1.7f7d1cp-20F;

// 2^n for -126 <= n <= 127.
SLUICE_HOST_DEVICE constexpr float power_of_two(int n) {
  return __builtin_bit_cast(float, static_cast<std::uint32_t>(n + 127) << 23U);
}

// e^x: x = n ln2 + r with |r| <= ln2 / 2, and e^r by its Taylor series up to r^7 (the next term is below
// 2^-27).
SLUICE_HOST_DEVICE constexpr float exp(float x) {
  if (!(x >= -104.0F)) return x < 0.0F ? 0.0F : x;  // the latter: NaN
  if (x > 89.0F) return __builtin_inff();
  const float scaled = x * 0x1.715476p+0F;  // x / ln 2
  const int n = static_cast<int>(scaled < 0.0F ? scaled - 0.5F : scaled + 0.5F);
  const float n_float = static_cast<float>(n);
  const float r = (x - n_float * kLn2High) - n_float * kLn2Low;
  float tail = 1.0F / 5040.0F;
  tail = tail * r + 1.0F / 720.0F;
  tail = tail * r + 1.0F / 120.0F;
  tail = tail * r + 1.0F / 24.0F;
  tail = tail * r + 1.0F / 6.0F;
  tail = tail * r + 0.5F;
  const float y = 1.0F + (r + r * r * tail);
  // In two steps, since 2^n itself may be out of range: only the last one can round.
  const int half = n / 2;
  return y * power_of_two(half) * power_of_two(n - half);
}

// log(1 + f) for sqrt(1/2) <= 1 + f <= sqrt(2), from f, so that the rounding of 1 + f does not enter. With s
// = f / (2 + f): log(1 + f) = 2 atanh(s) = f - f²/2 + s (f²/2 + R), R = Σ_n>=1 2 s^2n / (2n + 1); s² <=
// 0.0295, so that four terms leave out 2e-9 of the result.
SLUICE_HOST_DEVICE constexpr float log_near_one(float f) {
  const float s = f / (2.0F + f);
  const float z = s * s;
  float r = 2.0F / 9.0F;
  r = r * z + 2.0F / 7.0F;
  r = r * z + 2.0F / 5.0F;
  r = r * z + 2.0F / 3.0F;
  r = r * z;
  const float half_square = 0.5F * f * f;
  return f - (half_square - s * (half_square + r));
}

// x > 0, normal or subnormal, as 2^exponent (1 + fraction) with sqrt(1/2) <= 1 + fraction < sqrt(2).
struct Scaled {
  int exponent;
  float fraction;
};
SLUICE_HOST_DEVICE constexpr Scaled scaled(float x) {
  int e = 0;
  if (x < 0x1p-126F) {
    x *= 0x1p+25F;
    e = -25;
  }
  // Bits of sqrt(1/2), subtracted so that the exponent field steps there instead of at 1.
  const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, x) - 0x3F3504F3U;
  e += static_cast<int>(bits) >> 23;
  return {e, __builtin_bit_cast(float, (bits & 0x7FFFFFU) + 0x3F3504F3U) - 1.0F};
}

SLUICE_HOST_DEVICE constexpr float log(const Scaled& x) {
  const float e_float = static_cast<float>(x.exponent);
  return e_float * kLn2High + (log_near_one(x.fraction) + e_float * kLn2Low);
}
SLUICE_HOST_DEVICE constexpr float log(float x) {
  return log(scaled(x));
}

// Largest value of `gumbel`, rounded up: -log(2^-33) = 22.87.
inline constexpr float kGumbelMax = 23.0F;

// Standard Gumbel noise -log(-log(u)) of u = (word + 1/2) / 2^32, which is neither 0 nor 1. Above sqrt(1/2),
// log(u) is taken from 1 - u, which is exact where u in fp32 would round to 1: that tail is where the noise
// is large, and where a large vocabulary's rare tokens get their chance.
SLUICE_HOST_DEVICE constexpr float gumbel(std::uint32_t word) {
  const bool near_one = word >= 0xB504F334U;  // 2^32 sqrt(1/2), rounded up
  const std::uint64_t twice = 2 * std::uint64_t{near_one ? ~word : word} + 1;
  const float u = static_cast<float>(twice) * 0x1p-33F;  // or 1 - u
  Scaled argument = near_one ? Scaled{0, -u} : scaled(u);
  SLUICE_ROLLED
  for (bool is_inner = true;; is_inner = false) {
    const float result = -log(argument);
    if (!is_inner) return result;
    argument = scaled(result);
  }
}

// The noise of token `id` at draw number `draw` under `seed`: four ids share a Philox block.
SLUICE_HOST_DEVICE constexpr float token_gumbel(std::uint64_t seed, std::uint64_t draw, std::uint32_t id) {
  std::uint32_t block[4] = {id / 4, 0, static_cast<std::uint32_t>(draw),
                            static_cast<std::uint32_t>(draw >> 32U)};
  philox4x32_10(block, seed);
  const std::uint32_t low = id % 2 == 0 ? block[0] : block[1];  // no index that a GPU would need memory for
  const std::uint32_t high = id % 2 == 0 ? block[2] : block[3];
  return gumbel(id % 4 < 2 ? low : high);
}

// Probability relative to the likeliest token, exp(s - s_max), s <= s_max; 1 for equals, infinite ones too.
SLUICE_HOST_DEVICE constexpr float relative_probability(float s, float s_max) {
  return s == s_max ? 1.0F : exp(s - s_max);
}

// The same in units of 2^-39, for sums that are exact in any order: 2^24 tokens, the largest vocabulary, fit into
// 64 bits.
SLUICE_HOST_DEVICE constexpr std::uint64_t probability_units(float relative) {
  return static_cast<std::uint64_t>(relative * 0x1p+39F);
}

// How many of `total` units top_p asks for, at least 1 and at most `total`.
SLUICE_HOST_DEVICE constexpr std::uint64_t units_wanted(float top_p, std::uint64_t total) {
  const double share = static_cast<double>(top_p) * static_cast<double>(total);
  const auto units = static_cast<std::uint64_t>(share);
  const std::uint64_t wanted = static_cast<double>(units) < share ? units + 1 : units;
  return wanted < 1 ? 1 : wanted > total ? total : wanted;
}

}  // namespace sluice::program::sampler
