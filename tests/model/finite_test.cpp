// Risk: a NaN or an infinity in a weight is overlooked, in one place of a chunk or one type, or a large number is
// taken for one.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/weights.h"
#include "tests/support/errors.h"
#include "tests/support/seed.h"

namespace sluice::model {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// Where a type's floating-point numbers stand in a block (ggml-common.h), and their format.
struct Floats {
  DType type;
  std::size_t elements;
  std::size_t bytes;
  std::vector<std::size_t> at;
  std::size_t float_bytes;
  std::uint32_t exponent;  // all bits set: not finite
  std::uint32_t sign;
};

const std::vector<Floats>& types() {
  static const std::vector<Floats> kTypes = {{DType::kF32, 1, 4, {0}, 4, 0x7F800000U, 0x80000000U},
                                             {DType::kF16, 1, 2, {0}, 2, 0x7C00U, 0x8000U},
                                             {DType::kBF16, 1, 2, {0}, 2, 0x7F80U, 0x8000U},
                                             {DType::kQ8_0, 32, 34, {0}, 2, 0x7C00U, 0x8000U},
                                             {DType::kQ4_0, 32, 18, {0}, 2, 0x7C00U, 0x8000U},
                                             {DType::kQ4_1, 32, 20, {0, 2}, 2, 0x7C00U, 0x8000U},
                                             {DType::kQ5_0, 32, 22, {0}, 2, 0x7C00U, 0x8000U},
                                             {DType::kQ5_1, 32, 24, {0, 2}, 2, 0x7C00U, 0x8000U},
                                             {DType::kQ4_K, 256, 144, {0, 2}, 2, 0x7C00U, 0x8000U},
                                             {DType::kQ5_K, 256, 176, {0, 2}, 2, 0x7C00U, 0x8000U},
                                             {DType::kQ6_K, 256, 210, {208}, 2, 0x7C00U, 0x8000U},
                                             {DType::kIQ4_NL, 32, 18, {0}, 2, 0x7C00U, 0x8000U},
                                             {DType::kIQ4_XS, 256, 136, {0}, 2, 0x7C00U, 0x8000U}};
  return kTypes;
}

void store(std::vector<std::byte>& data, std::size_t at, std::uint32_t bits, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i) data[at + i] = static_cast<std::byte>(bits >> (8 * i));
}

// A finite number of any size: zeros, subnormals and the largest ones among them.
std::uint32_t finite_bits(test::Random& random, const Floats& type) {
  auto bits = static_cast<std::uint32_t>(random()) & (type.sign | (type.sign - 1));
  const std::uint32_t lowest = type.exponent & ~(type.exponent << 1U);
  if (random() % 4 == 0) bits |= type.exponent - lowest;  // the largest exponent that is finite, or above
  if ((bits & type.exponent) == type.exponent) bits ^= lowest;
  return bits;
}

// A model of one tensor of `n_blocks`, at an address that is a multiple of nothing.
struct OneTensor {
  OneTensor(test::Random& random, const Floats& floats, std::size_t n_blocks)
      : type(floats), storage(1 + n_blocks * floats.bytes) {
    for (std::byte& byte : storage) byte = static_cast<std::byte>(random());
    for (std::size_t block = 0; block < n_blocks; ++block)
      for (const std::size_t at : type.at) put(block, at, finite_bits(random, type));
    ModelTensor tensor;
    tensor.name = "the.tensor";
    tensor.dtype = type.type;
    tensor.shape = {n_blocks, type.elements};
    tensor.data = std::span<const std::byte>(storage).subspan(1);
    tensor.file = "some/file";
    model.tensors = {tensor};
  }
  void put(std::size_t block, std::size_t at, std::uint32_t bits) {
    store(storage, 1 + block * type.bytes + at, bits, type.float_bytes);
  }
  std::uint32_t get(std::size_t block, std::size_t at) const {
    std::uint32_t bits = 0;
    for (std::size_t i = type.float_bytes; i-- > 0;)
      bits = bits << 8U | std::to_integer<std::uint32_t>(storage[1 + block * type.bytes + at + i]);
    return bits;
  }

  Floats type;
  std::vector<std::byte> storage;
  Model model;
};

// Sizes around words and chunks; each place in turn or at random.
TEST(CheckFinite, FindsOneBadNumberAmongAnyFiniteOnes) {
  test::Random random(test::seed_of_test());
  for (const Floats& type : types()) {
    for (const std::size_t n : {1U, 2U, 3U, 4U, 5U, 7U, 9U, 100U, 8191U, 8193U, 20001U}) {
      OneTensor tensor(random, type, n);
      ASSERT_NO_THROW(check_finite(tensor.model)) << name_of(type.type);
      for (int round = 0; round < 8; ++round) {
        const std::size_t block = test::pick(random, 0, n - 1);
        const std::size_t at = type.at[test::pick(random, 0, type.at.size() - 1)];
        const std::uint32_t before = tensor.get(block, at);
        const std::uint32_t mantissa = round % 2 == 0 ? 0 : before & ~type.exponent;
        tensor.put(block, at, type.exponent | mantissa | (round % 4 < 2 ? type.sign : 0));
        ASSERT_THAT(test::error_of([&] { check_finite(tensor.model); }),
                    AllOf(HasSubstr("tensor the.tensor "), HasSubstr("some/file"),
                          HasSubstr("at index " + std::to_string(block * type.elements) + " ")))
            << name_of(type.type);
        tensor.put(block, at, before);
      }
    }
  }
}

// 40 MB: several reports, whose borders don't cut a block, and the index counts from the tensor's beginning.
TEST(CheckFinite, ReportsProgressByTheByte) {
  test::Random random(test::seed_of_test());
  const Floats& type = types()[10];  // blocks of 210 bytes
  ASSERT_EQ(type.type, DType::kQ6_K);
  const std::size_t n = 200'000;
  OneTensor tensor(random, type, n);
  std::vector<std::size_t> calls;
  check_finite(tensor.model, [&](std::size_t done, std::size_t total) {
    EXPECT_EQ(total, n * type.bytes);
    calls.push_back(done);
  });
  EXPECT_GT(calls.size(), 2U);
  EXPECT_TRUE(std::is_sorted(calls.begin(), calls.end()));
  EXPECT_EQ(calls.back(), n * type.bytes);
  tensor.put(n - 1, 208, 0x7C00U);
  EXPECT_THAT(test::error_of([&] { check_finite(tensor.model); }),
              HasSubstr("at index " + std::to_string((n - 1) * 256) + " "));
}

// A file that is written to while it is mapped. What counts is that nothing behind the tensor is read: the sanitizer sees that.
TEST(CheckFinite, ANumberThatComesAndGoesIsSearchedForInItsTensorOnly) {
  test::Random random(test::seed_of_test());
  const Floats& type = types()[0];
  ASSERT_EQ(type.type, DType::kF32);
  constexpr std::size_t kOneChunk = 4096;
  OneTensor tensor(random, type, kOneChunk);
  tensor.put(kOneChunk / 2, 0, 0x7F800000U);
  std::byte& flickering = tensor.storage[1 + kOneChunk / 2 * type.bytes + 2];
  std::atomic<bool> is_over = false;
  std::thread writer([&] {
    for (unsigned i = 0; !is_over; ++i)
      std::atomic_ref(flickering)
          .store(i % 2 == 0 ? std::byte{0} : std::byte{0x80}, std::memory_order_relaxed);
  });
  // Often enough that it has come and gone between two looks; a machine that never lets the writer run ends it, too.
  std::array<std::size_t, 2> seen{};
  for (std::size_t i = 0; i < 200'000 && std::ranges::min(seen) < 2'000; ++i) {
    try {
      check_finite(tensor.model);
      ++seen[0];
    } catch (const Error&) {
      ++seen[1];
    }
  }
  is_over = true;
  writer.join();
}

}  // namespace
}  // namespace sluice::model
