// ggml's block formats (ggml-org/ggml, src/ggml-common.h and ggml-quants.c; gguf-py, gguf/quants.py).
//
// A block holds 32 or 256 neighbours of a row. Little-endian; d, m and dmin are fp16; fields in the order given. Every
// product and difference below is one fp32 operation, rounded; what is in parentheses first.
//
//            bytes  fields                                                   element e of the block
//   Q8_0      34/32  d, q int8[32]                                            d · q[e]
//   Q4_0      18/32  d, nibbles[16]                                           d · (n[e] − 8)
//   Q4_1      20/32  d, m, nibbles[16]                                        (d · n[e]) + m
//   Q5_0      22/32  d, high u32, nibbles[16]                                 d · (n[e] + 16 h[e] − 16)
//   Q5_1      24/32  d, m, high u32, nibbles[16]                              (d · (n[e] + 16 h[e])) + m
//   IQ4_NL    18/32  d, nibbles[16]                                           d · K[n[e]]
//   Q4_K    144/256  d, dmin, scales[12], nibbles[128]                        ((d · s) · n[e]) − (dmin · t)
//   Q5_K    176/256  d, dmin, scales[12], high[32], nibbles[128]              ((d · s) · (n[e] + 16 h[e])) − (dmin · t)
//   Q6_K    210/256  low[128], high[64], s int8[16], d                        (d · s[e/16]) · (l[e] + 16 h[e] − 32)
//   IQ4_XS  136/256  d, scale_high u16, scale_low[4], nibbles[128]            (d · (s − 32)) · K[n[e]]
//
// Nibbles lie in runs: a run of r bytes holds 2r elements, the low nibbles the first r, the high nibbles the others. r = 16 in
// blocks of 32 and in IQ4_XS, 32 in Q4_K and Q5_K, 64 in Q6_K.
// Bits h: bit e of `high` in Q5_0 and Q5_1; bit g of high[e mod 32], g = e/32, in Q5_K; in Q6_K, in the half i = e/128
// of the block, the two bits from 2·((e mod 128)/32) of high[32 i + e mod 32].
// Scales s and minima t of Q4_K and Q5_K, six bits each, one pair per g = e/32: for g < 4 the low six bits of scales[g] and
// scales[g + 4]; for the others the nibbles of scales[g + 4] (s the low one), their top two bits from scales[g − 4] and
// scales[g]. Of IQ4_XS, one per g = e/32: nibble g of scale_low, its top two bits from bit 2g of scale_high.
// K is a table of 16 values, finer near zero.
#include "model/ggml_blocks.h"

#include <array>
#include <cstdint>

#include "base/bf16.h"
#include "base/error.h"

namespace sluice::model {
namespace {

using Bytes = const std::uint8_t*;

constexpr std::array<float, 16> kNonlinear = {-127, -104, -83, -65, -49, -35, -22, -10,
                                              1,    13,   25,  38,  53,  69,  89,  113};

unsigned u16_at(Bytes at) {
  return at[0] | (static_cast<unsigned>(at[1]) << 8U);
}

std::uint32_t u32_at(Bytes at) {
  return u16_at(at) | (static_cast<std::uint32_t>(u16_at(at + 2)) << 16U);
}

float f16_at(Bytes at) {
  return f16_to_float(static_cast<std::uint16_t>(u16_at(at)));
}

float signed_at(Bytes at) {
  return static_cast<float>(static_cast<std::int8_t>(*at));
}

// out[e] = value(n[e], e) for a run of `bytes` bytes of nibbles.
template <typename Value>
void each_nibble(Bytes run, std::size_t bytes, float* out, Value value) {
  for (std::size_t j = 0; j < bytes; ++j) {
    out[j] = value(run[j] & 15U, j);
    out[j + bytes] = value(run[j] >> 4U, j + bytes);
  }
}

void q8_0(Bytes block, float* out) {
  const float d = f16_at(block);
  for (std::size_t e = 0; e < 32; ++e) out[e] = d * signed_at(block + 2 + e);
}

void q4_0(Bytes block, float* out) {
  const float d = f16_at(block);
  each_nibble(block + 2, 16, out, [d](unsigned n, std::size_t) { return d * (static_cast<float>(n) - 8); });
}

void q4_1(Bytes block, float* out) {
  const float d = f16_at(block);
  const float m = f16_at(block + 2);
  each_nibble(block + 4, 16, out, [d, m](unsigned n, std::size_t) { return d * static_cast<float>(n) + m; });
}

// A nibble with a fifth bit, bit e of `high`.
float with_fifth_bit(unsigned nibble, std::uint32_t high, std::size_t e) {
  return static_cast<float>(nibble | (((high >> e) & 1U) << 4U));
}

void q5_0(Bytes block, float* out) {
  const float d = f16_at(block);
  const std::uint32_t high = u32_at(block + 2);
  each_nibble(block + 6, 16, out,
              [=](unsigned n, std::size_t e) { return d * (with_fifth_bit(n, high, e) - 16); });
}

void q5_1(Bytes block, float* out) {
  const float d = f16_at(block);
  const float m = f16_at(block + 2);
  const std::uint32_t high = u32_at(block + 4);
  each_nibble(block + 8, 16, out,
              [=](unsigned n, std::size_t e) { return d * with_fifth_bit(n, high, e) + m; });
}

void iq4_nl(Bytes block, float* out) {
  const float d = f16_at(block);
  each_nibble(block + 2, 16, out, [d](unsigned n, std::size_t) { return d * kNonlinear[n]; });
}

struct ScaleAndMinimum {
  float scale;
  float minimum;
};

// Of 32 elements of a Q4_K or Q5_K block, without d and dmin. `scales`: 12 bytes; g < 8.
ScaleAndMinimum scale_and_minimum(Bytes scales, std::size_t g) {
  const auto byte = [scales](std::size_t i) -> unsigned { return scales[i]; };
  unsigned scale = byte(g) & 63U;
  unsigned minimum = byte(g + 4) & 63U;
  if (g >= 4) {
    scale = (byte(g + 4) & 15U) | ((byte(g - 4) >> 6U) << 4U);
    minimum = (byte(g + 4) >> 4U) | ((byte(g) >> 6U) << 4U);
  }
  return {.scale = static_cast<float>(scale), .minimum = static_cast<float>(minimum)};
}

// Q4_K and Q5_K. quant(nibble, g, j): the integer of element 32 g + j.
template <typename Quant>
void k_block(Bytes block, Bytes nibbles, float* out, Quant quant) {
  const float d = f16_at(block);
  const float dmin = f16_at(block + 2);
  for (std::size_t g = 0; g < 8; ++g) {
    const ScaleAndMinimum packed = scale_and_minimum(block + 4, g);
    const float scale = d * packed.scale;
    const float minimum = dmin * packed.minimum;
    const Bytes run = nibbles + 32 * (g / 2);
    const unsigned shift = g % 2 == 0 ? 0 : 4;
    for (std::size_t j = 0; j < 32; ++j)
      out[32 * g + j] = scale * static_cast<float>(quant((run[j] >> shift) & 15U, g, j)) - minimum;
  }
}

void q4_k(Bytes block, float* out) {
  k_block(block, block + 16, out, [](unsigned nibble, std::size_t, std::size_t) { return nibble; });
}

void q5_k(Bytes block, float* out) {
  const Bytes high = block + 16;
  k_block(block, block + 48, out, [high](unsigned nibble, std::size_t g, std::size_t j) {
    return nibble | (((static_cast<unsigned>(high[j]) >> g) & 1U) << 4U);
  });
}

void q6_k(Bytes block, float* out) {
  const float d = f16_at(block + 208);
  for (std::size_t g = 0; g < 8; ++g) {  // 32 elements: of half g / 4
    const Bytes low = block + 64 * (g / 4) + 32 * (g % 2);
    const Bytes high = block + 128 + 32 * (g / 4);
    const unsigned low_shift = g % 4 < 2 ? 0 : 4;
    const unsigned high_shift = 2 * static_cast<unsigned>(g % 4);
    const std::array<float, 2> scale = {d * signed_at(block + 192 + 2 * g),
                                        d * signed_at(block + 193 + 2 * g)};
    for (std::size_t j = 0; j < 32; ++j) {
      const unsigned quant = ((low[j] >> low_shift) & 15U) | (((high[j] >> high_shift) & 3U) << 4U);
      out[32 * g + j] = scale[j / 16] * (static_cast<float>(quant) - 32);
    }
  }
}

void iq4_xs(Bytes block, float* out) {
  const float d = f16_at(block);
  const unsigned scale_high = u16_at(block + 2);
  for (std::size_t g = 0; g < 8; ++g) {
    const unsigned low = (block[4 + g / 2] >> (g % 2 == 0 ? 0U : 4U)) & 15U;
    const unsigned high = (scale_high >> (2 * g)) & 3U;
    const float scale = d * (static_cast<float>(low | (high << 4U)) - 32);
    each_nibble(block + 8 + 16 * g, 16, out + 32 * g,
                [scale](unsigned n, std::size_t) { return scale * kNonlinear[n]; });
  }
}

template <void (*Block)(Bytes, float*)>
void each_block(DType type, Bytes blocks, std::span<float> out) {
  const std::size_t elements = block_size(type);
  const std::size_t bytes = bytes_of(type, elements);
  for (std::size_t e = 0; e < out.size(); e += elements, blocks += bytes) Block(blocks, out.data() + e);
}

}  // namespace

void dequantize(DType type, std::span<const std::byte> blocks, std::span<float> out) {
  SLUICE_CHECK(block_size(type) > 1);
  SLUICE_CHECK(out.size() % block_size(type) == 0);
  SLUICE_CHECK(blocks.size() == bytes_of(type, out.size()));
  const Bytes from = reinterpret_cast<Bytes>(blocks.data());
  switch (type) {
    case DType::kQ8_0:
      each_block<q8_0>(type, from, out);
      return;
    case DType::kQ4_0:
      each_block<q4_0>(type, from, out);
      return;
    case DType::kQ4_1:
      each_block<q4_1>(type, from, out);
      return;
    case DType::kQ5_0:
      each_block<q5_0>(type, from, out);
      return;
    case DType::kQ5_1:
      each_block<q5_1>(type, from, out);
      return;
    case DType::kQ4_K:
      each_block<q4_k>(type, from, out);
      return;
    case DType::kQ5_K:
      each_block<q5_k>(type, from, out);
      return;
    case DType::kQ6_K:
      each_block<q6_k>(type, from, out);
      return;
    case DType::kIQ4_NL:
      each_block<iq4_nl>(type, from, out);
      return;
    case DType::kIQ4_XS:
      each_block<iq4_xs>(type, from, out);
      return;
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
      break;
  }
}

}  // namespace sluice::model
