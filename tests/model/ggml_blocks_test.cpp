// Quantized blocks against the `gguf` Python package, bit for bit (tools/gguf_blocks_golden.py).
#include "model/ggml_blocks.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "base/mapped_file.h"
#include "model/gguf.h"
#include "model/tensor.h"
#include "tests/support/seed.h"

namespace sluice::model {
namespace {

const std::filesystem::path kFolder = std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/golden-gguf";

// Each type with ggml's number, which seeds its hashed blocks.
struct Quantized {
  DType type;
  std::uint64_t number;
};
constexpr std::array<Quantized, 10> kQuantized = {{
    {DType::kQ8_0, 8},
    {DType::kQ4_0, 2},
    {DType::kQ4_1, 3},
    {DType::kQ5_0, 6},
    {DType::kQ5_1, 7},
    {DType::kQ4_K, 12},
    {DType::kQ5_K, 13},
    {DType::kQ6_K, 14},
    {DType::kIQ4_NL, 20},
    {DType::kIQ4_XS, 23},
}};

// SplitMix64, as the tool has it.
std::vector<std::byte> stream(std::uint64_t seed, std::size_t n) {
  std::vector<std::byte> bytes(n);
  for (std::size_t at = 0; at < n; at += 8) {
    seed += 0x9E3779B97F4A7C15U;
    std::uint64_t z = (seed ^ (seed >> 30U)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27U)) * 0x94D049BB133111EBU;
    z ^= z >> 31U;
    std::memcpy(bytes.data() + at, &z, std::min<std::size_t>(8, n - at));
  }
  return bytes;
}

// The bits of `value`; of every NaN the same, for which one a sum of two gives is the machine's choice.
std::uint32_t bits_of(float value) {
  return std::isnan(value) ? 0x7FC00000U : std::bit_cast<std::uint32_t>(value);
}

// `value` in place of what a conversion must overwrite.
constexpr float kPoison = -777.0F;

// Zero, negative, subnormal, greatest, infinite and NaN scales, in pairs; every value in clear.
TEST(GgmlBlocks, EdgesAreTheReferencesBits) {
  const Gguf file(kFolder / "blocks.gguf");
  for (const auto& [type, number] : kQuantized) {
    SCOPED_TRACE(name_of(type));
    const TensorView& blocks = file.tensor(name_of(type));
    const TensorView& reference = file.tensor(std::string(name_of(type)) + ".f32");
    ASSERT_EQ(blocks.dtype, type);
    ASSERT_EQ(blocks.shape, reference.shape);
    std::vector<float> expected(reference.size());
    to_float(DType::kF32, reference.data, 0, expected);
    std::vector<float> actual(blocks.size(), kPoison);
    to_float(type, blocks.data, 0, actual);
    for (std::size_t e = 0; e < expected.size(); ++e)
      ASSERT_EQ(bits_of(actual[e]), bits_of(expected[e])) << e << ": " << actual[e] << ", " << expected[e];
  }
}

TEST(GgmlBlocks, ThousandsOfBlocksHaveTheReferencesHash) {
  const Json golden =
      parse_json(read_text_file(kFolder / "hashes.json", 10'000), (kFolder / "hashes.json").string());
  const auto n_blocks = golden.at("blocks").get<std::size_t>();
  for (const auto& [type, number] : kQuantized) {
    SCOPED_TRACE(name_of(type));
    std::vector<float> values(n_blocks * block_size(type), kPoison);
    to_float(type, stream(number, bytes_of(type, values.size())), 0, values);
    std::uint64_t hash = 0xCBF29CE484222325U;
    for (const float value : values) hash = (hash ^ bits_of(value)) * 0x100000001B3U;
    EXPECT_EQ(fmt::format("{:016x}", hash), golden.at("fnv1a").at(name_of(type)).get<std::string>());
  }
}

// Any run of blocks, at any alignment, is the same part of the whole; nothing around it is touched.
TEST(GgmlBlocks, AnyRunOfBlocksIsThatPartOfTheWhole) {
  test::Random random(test::seed_of_test());
  for (const auto& [type, number] : kQuantized) {
    SCOPED_TRACE(name_of(type));
    const std::size_t block = block_size(type);
    const std::size_t n_blocks = 9;
    const std::vector<std::byte> bytes = stream(random(), bytes_of(type, n_blocks * block));
    std::vector<float> whole(n_blocks * block, kPoison);
    to_float(type, bytes, 0, whole);
    for (int round = 0; round < 20; ++round) {
      const std::size_t shift = test::pick(random, 0, 7);
      std::vector<std::byte> shifted(shift + bytes.size());
      std::copy(bytes.begin(), bytes.end(), shifted.begin() + static_cast<std::ptrdiff_t>(shift));
      const std::size_t first = test::pick(random, 0, n_blocks);
      const std::size_t count = test::pick(random, 0, n_blocks - first);
      std::vector<float> part(count * block + 2, kPoison);
      to_float(type, std::span<const std::byte>(shifted).subspan(shift), first * block,
               std::span(part).subspan(1, count * block));
      EXPECT_EQ(part.front(), kPoison);
      EXPECT_EQ(part.back(), kPoison);
      for (std::size_t e = 0; e < count * block; ++e)
        ASSERT_EQ(bits_of(part[1 + e]), bits_of(whole[first * block + e])) << e;
    }
  }
}

}  // namespace
}  // namespace sluice::model
