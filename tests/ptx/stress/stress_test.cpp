// Ordinary CUDA, compiled by nvcc for compute_75 and compute_80: right for every seed and grid, without a finding of any check.
// The expected values are computed here, in plain loops or with the host's arithmetic.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/bf16.h"
#include "tests/ptx/stress/runner.h"
#include "tests/support/seed.h"

namespace sluice::ptx::test {
namespace {

namespace fs = std::filesystem;

using Words = std::vector<std::uint32_t>;

// The architecture of the PTX and the GPU that runs it.
struct Target {
  int architecture;
  const char* gpu;
};

class Stress : public testing::TestWithParam<Target> {
 protected:
  void SetUp() override {
    std::ifstream unavailable(folder_ / "unavailable.txt");
    std::string reason;
    if (std::getline(unavailable, reason)) GTEST_SKIP() << reason;
  }

  // Null, and the test is done, if the source needs a newer architecture.
  std::unique_ptr<Runner> runner(const std::string& source) const {
    const fs::path file = folder_ / (source + "." + std::to_string(GetParam().architecture) + ".ptx");
    return std::make_unique<Runner>(file.string(), GetParam().gpu);
  }

  // Calls `body` with seeds of the test's own.
  void for_seeds(const std::function<void(LaunchOptions)>& body) {
    constexpr int kSeeds = 3;
    for (int i = 0; i < kSeeds; ++i) {
      LaunchOptions options;
      options.seed = random_();
      SCOPED_TRACE("seed " + std::to_string(options.seed));
      body(options);
    }
  }

  Words words(std::size_t count, std::uint32_t below = std::numeric_limits<std::uint32_t>::max()) {
    Words values(count);
    for (std::uint32_t& value : values) value = static_cast<std::uint32_t>(random_() % below);
    return values;
  }
  // Whole numbers from -limit to limit: their products and sums are exact.
  std::vector<float> whole_floats(std::size_t count, int limit) {
    std::vector<float> values(count);
    for (float& value : values)
      value =
          static_cast<float>(static_cast<int>(random_() % (2 * static_cast<unsigned>(limit) + 1)) - limit);
    return values;
  }

  sluice::test::Random random_{sluice::test::seed_of_test()};
  fs::path folder_ = SLUICE_PTX_FOLDER;
};

std::vector<std::uint16_t> bf16_of(const std::vector<float>& values) {
  std::vector<std::uint16_t> bits;
  for (const float value : values)
    bits.push_back(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16U));
  return bits;  // exact: the values are small whole numbers
}

// Small whole numbers only.
std::vector<std::uint16_t> fp16_of(const std::vector<float>& values) {
  std::vector<std::uint16_t> bits;
  for (const float value : values) {
    int exponent = 0;
    const float fraction = std::frexp(std::fabs(value), &exponent);  // 0.5 <= fraction < 1
    const auto sign = static_cast<std::uint16_t>(std::signbit(value) ? 0x8000 : 0);
    const auto magnitude = static_cast<std::uint16_t>(
        value == 0 ? 0 : (exponent + 14) * 1024 + static_cast<int>((fraction * 2 - 1) * 1024));
    bits.push_back(static_cast<std::uint16_t>(sign | magnitude));
  }
  return bits;
}

// C = A B with A of rows x k and B of columns x k.
std::vector<float> product_transposed(const std::vector<float>& a, const std::vector<float>& b, int rows,
                                      int columns, int k) {
  std::vector<float> c;
  for (int row = 0; row < rows; ++row)
    for (int column = 0; column < columns; ++column)
      c.push_back(
          std::inner_product(a.begin() + row * k, a.begin() + (row + 1) * k, b.begin() + column * k, 0.0F));
  return c;
}

TEST_P(Stress, Reductions) {
  const auto machine = runner("reduce");
  for (const unsigned count : {1U, 31U, 1000U, 20'011U}) {
    const Words in = words(count);
    const Buffer<std::uint32_t> values(machine->memory(), in);
    const std::uint32_t expected = std::accumulate(in.begin(), in.end(), 0U);
    const std::vector<float> whole = whole_floats(count, 50);
    const Buffer<float> floats(machine->memory(), whole);
    for (const std::uint32_t blocks : {1U, 3U, 16U})
      for_seeds([&](const LaunchOptions& options) {
        const Buffer<std::uint32_t> out(machine->memory(), Words{0});
        machine->run("reduce_atomic", {blocks, 1, 1}, {96, 1, 1}, options, values, count, out);
        EXPECT_EQ(out.values(), Words{expected});

        const Buffer<float> parts(machine->memory(), std::vector<float>(blocks));
        const Buffer<float> sum(machine->memory(), std::vector<float>(1));
        const Buffer<std::uint32_t> arrived(machine->memory(), Words{0});
        LaunchOptions shared = options;
        shared.dynamic_shared = 64 * sizeof(float);
        machine->run("reduce_last_block", {blocks, 1, 1}, {64, 1, 1}, shared, floats, count, parts, arrived,
                     sum);
        EXPECT_EQ(sum.values()[0], std::accumulate(whole.begin(), whole.end(), 0.0F));
        EXPECT_EQ(arrived.values(), Words{0});
      });
  }
}

TEST_P(Stress, ScanWithLookBack) {
  const auto machine = runner("reduce");
  for (const unsigned count : {5U, 256U, 5'003U}) {
    const Words in = words(count);
    Words expected(count);
    std::partial_sum(in.begin(), in.end(), expected.begin());
    const Buffer<std::uint32_t> values(machine->memory(), in);
    for (const std::uint32_t blocks : {1U, 2U, 11U})
      for_seeds([&](const LaunchOptions& options) {
        const Buffer<std::uint32_t> out(machine->memory(), Words(count));
        const Buffer<std::uint64_t> states(machine->memory(), std::vector<std::uint64_t>(count / 64 + 1));
        const Buffer<std::uint32_t> ticket(machine->memory(), Words{0});
        machine->run("scan_look_back", {blocks, 1, 1}, {64, 1, 1}, options, values, out, count, states,
                     ticket);
        EXPECT_EQ(out.values(), expected);
      });
  }
}

TEST_P(Stress, Histogram) {
  const auto machine = runner("reduce");
  constexpr unsigned kCount = 10'007;
  std::vector<std::uint8_t> in;
  for (const std::uint32_t value : words(kCount, 100))
    in.push_back(static_cast<std::uint8_t>(value * value / 40));
  Words expected(256);
  for (const std::uint8_t value : in) ++expected[value];
  const Buffer<std::uint8_t> values(machine->memory(), in);
  for (const std::uint32_t blocks : {1U, 7U})
    for_seeds([&](const LaunchOptions& options) {
      const Buffer<std::uint32_t> bins(machine->memory(), Words(256));
      machine->run("histogram", {blocks, 1, 1}, {128, 1, 1}, options, values, kCount, bins);
      EXPECT_EQ(bins.values(), expected);
    });
}

TEST_P(Stress, Compaction) {
  const auto machine = runner("reduce");
  constexpr unsigned kCount = 3'001;
  const Words in = words(kCount);
  Words expected;
  std::copy_if(in.begin(), in.end(), std::back_inserter(expected),
               [](std::uint32_t value) { return value % 2 == 1; });
  std::sort(expected.begin(), expected.end());
  const Buffer<std::uint32_t> values(machine->memory(), in);
  for (const std::uint32_t blocks : {1U, 5U})
    for_seeds([&](const LaunchOptions& options) {
      const Buffer<std::uint32_t> out(machine->memory(), Words(kCount));
      const Buffer<std::uint32_t> kept(machine->memory(), Words{0});
      machine->run("compact_odd", {blocks, 1, 1}, {64, 1, 1}, options, values, kCount, out, kept);
      ASSERT_EQ(kept.values()[0], expected.size());
      Words found = out.values();
      found.resize(expected.size());
      std::sort(found.begin(), found.end());
      EXPECT_EQ(found, expected);
    });
}

TEST_P(Stress, Sort) {
  const auto machine = runner("reduce");
  for (const unsigned per_block : {2U, 256U}) {
    constexpr std::uint32_t kBlocks = 3;
    const Words in = words(kBlocks * per_block, 1000);
    Words expected = in;
    for (auto block = expected.begin(); block != expected.end(); block += per_block)
      std::sort(block, block + per_block);
    for_seeds([&](LaunchOptions options) {
      const Buffer<std::uint32_t> keys(machine->memory(), in);
      options.dynamic_shared = per_block * static_cast<unsigned>(sizeof(std::uint32_t));
      machine->run("bitonic_sort", {kBlocks, 1, 1}, {64, 1, 1}, options, keys, per_block);
      EXPECT_EQ(keys.values(), expected);
    });
  }
}

TEST_P(Stress, Transpose) {
  const auto machine = runner("matrix");
  for (const auto& [rows, columns] : {std::pair{40U, 70U}, std::pair{33U, 31U}}) {
    const std::vector<float> in = whole_floats(std::size_t{rows} * columns, 10000);
    std::vector<float> expected(in.size());
    for (unsigned row = 0; row < rows; ++row)
      for (unsigned column = 0; column < columns; ++column)
        expected[column * rows + row] = in[row * columns + column];
    const Buffer<float> values(machine->memory(), in);
    for (const std::uint32_t height : {8U, 32U})
      for_seeds([&](const LaunchOptions& options) {
        const Buffer<float> out(machine->memory(), std::vector<float>(in.size()));
        machine->run("transpose", {(columns + 31) / 32, (rows + 31) / 32, 1}, {32, height, 1}, options,
                     values, out, rows, columns);
        EXPECT_EQ(out.values(), expected);
      });
  }
}

TEST_P(Stress, MatrixProducts) {
  const auto machine = runner("matrix");
  constexpr int kRows = 37;
  constexpr int kColumns = 29;
  constexpr int kInner = 45;
  const std::vector<float> a = whole_floats(kRows * kInner, 20);
  const std::vector<float> b = whole_floats(kColumns * kInner, 20);
  std::vector<float> turned(b.size());
  for (std::size_t column = 0; column < kColumns; ++column)
    for (std::size_t i = 0; i < kInner; ++i) turned[i * kColumns + column] = b[column * kInner + i];
  const std::vector<float> expected = product_transposed(a, b, kRows, kColumns, kInner);
  const Buffer<float> left(machine->memory(), a);
  const Buffer<float> right(machine->memory(), turned);
  for_seeds([&](const LaunchOptions& options) {
    for (const std::string name : {"product_plain", "product_shared"}) {
      const Buffer<float> out(machine->memory(), std::vector<float>(expected.size()));
      machine->run(name, {(kColumns + 15) / 16, (kRows + 15) / 16, 1}, {16, 16, 1}, options, left, right, out,
                   kRows, kColumns, kInner);
      EXPECT_EQ(out.values(), expected) << name;
    }
  });
}

TEST_P(Stress, TensorCoreProduct) {
  const auto machine = runner("matrix");
  constexpr int kRows = 48;
  constexpr int kColumns = 24;
  constexpr int kInner = 40;
  const std::vector<float> a = whole_floats(kRows * kInner, 30);
  const std::vector<float> b = whole_floats(kColumns * kInner, 30);
  const std::vector<float> expected = product_transposed(a, b, kRows, kColumns, kInner);
  const Buffer<std::uint16_t> left(machine->memory(), fp16_of(a));
  const Buffer<std::uint16_t> right(machine->memory(), fp16_of(b));
  for_seeds([&](const LaunchOptions& options) {
    const Buffer<float> out(machine->memory(), std::vector<float>(expected.size()));
    machine->run("product_mma", {kColumns / 8, kRows / 16, 1}, {32, 1, 1}, options, left, right, out,
                 kColumns, kInner);
    EXPECT_EQ(out.values(), expected);
  });
}

TEST_P(Stress, SpinningBarrier) {
  const auto machine = runner("grid");
  constexpr unsigned kCount = 500;
  for (const auto& [blocks, rounds] : {std::pair{1U, 3U}, std::pair{5U, 6U}, std::pair{24U, 4U}}) {
    const Words in = words(kCount);
    Words expected(kCount);
    for (unsigned i = 0; i < kCount; ++i) expected[i] = in[(i + rounds) % kCount] + rounds;
    for_seeds([&](LaunchOptions options) {
      for (const bool cooperative : {false, true}) {
        const Buffer<std::uint32_t> a(machine->memory(), in);
        const Buffer<std::uint32_t> b(machine->memory(), Words(kCount));
        if (cooperative) {
          options.cooperative = true;
          machine->run("shift_cooperative", {blocks, 1, 1}, {64, 1, 1}, options, a, b, kCount, rounds);
        } else {
          const Buffer<std::uint32_t> counters(machine->memory(), Words(2));
          machine->run("shift_spinning", {blocks, 1, 1}, {64, 1, 1}, options, a, b, kCount, rounds, counters);
          EXPECT_EQ(counters.values(), (Words{0, rounds}));
        }
        EXPECT_EQ((rounds % 2 == 0 ? a : b).values(), expected);
      }
    });
  }
}

TEST_P(Stress, RelayOfBlocks) {
  const auto machine = runner("grid");
  constexpr std::uint32_t kBlocks = 6;
  constexpr unsigned kLaps = 3;
  Words expected;
  for (unsigned turn = 0; turn < kBlocks * kLaps; ++turn)  // thread 0's tile: ranks 0 to 7
    expected.push_back((28 + 8 * (turn == 0 ? 0 : expected[turn - 1])) % 1000);
  for_seeds([&](const LaunchOptions& options) {
    const Buffer<std::uint32_t> token(machine->memory(), Words{0});
    const Buffer<std::uint32_t> log(machine->memory(), Words(expected.size()));
    machine->run("relay", {kBlocks, 1, 1}, {32, 1, 1}, options, token, log, kLaps);
    EXPECT_EQ(log.values(), expected);
  });
}

std::uint32_t rotate(std::uint32_t high, std::uint32_t low, std::uint32_t by) {  // __funnelshift_l
  return static_cast<std::uint32_t>(((std::uint64_t{high} << 32U | low) << (by & 31U)) >> 32U);
}

std::uint32_t reversed(std::uint32_t value) {
  std::uint32_t result = 0;
  for (unsigned bit = 0; bit < 32; ++bit) result |= (value >> bit & 1U) << (31 - bit);
  return result;
}

std::uint32_t permuted(std::uint32_t a, std::uint32_t b, std::uint32_t selector) {
  const std::uint64_t bytes = std::uint64_t{b} << 32U | a;
  std::uint32_t result = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned which = selector >> (4 * i) & 15U;
    auto byte = static_cast<std::uint32_t>(bytes >> (8 * (which & 7U)) & 255U);
    if ((which & 8U) != 0) byte = (byte & 128U) != 0 ? 255 : 0;
    result |= byte << (8 * i);
  }
  return result;
}

std::uint32_t interpreted(const std::vector<std::uint8_t>& code, std::uint32_t i) {
  constexpr std::array<std::uint32_t, 16> kPrimes = {2,  3,  5,  7,  11, 13, 17, 19,
                                                     23, 29, 31, 37, 41, 43, 47, 53};
  Words stack = {i, 12345, 7, 1, 2, 3, 4, 5};
  unsigned top = i % 3;
  for (unsigned at = 0; at < code.size(); ++at) {
    const std::uint32_t a = stack[top & 7U];
    const std::uint32_t b = stack[(top + 1) & 7U];
    const std::function<std::uint32_t()> operations[] = {
        [&] { return a + b; },
        [&] { return a * b; },
        [&] { return a ^ (b << (a & 31U)); },
        [&] { return a / (b | 1U); },
        [&] { return a % (b | 1U); },
        [&] { return static_cast<std::uint32_t>(std::popcount(a) + std::countl_zero(b)); },
        [&] { return reversed(a) - b; },
        [&] { return permuted(a, b, 0x5140 + (at & 7U)); },
        [&] { return kPrimes[(a + b) & 15U]; },
        [&] { return rotate(b, a, at); },
        [&] { return static_cast<std::uint32_t>(static_cast<std::int32_t>(a) >> (b & 31U)); },
        [&] { return static_cast<std::uint32_t>(std::uint64_t{a} * b >> 32U); }};
    stack[top & 7U] = operations[(code[at] + i) % 12]();
    top += code[at] & 3U;
  }
  return std::accumulate(stack.begin(), stack.end(), 0U, std::bit_xor<>());
}

TEST_P(Stress, Interpreter) {
  const auto machine = runner("programs");
  constexpr unsigned kCount = 300;
  std::vector<std::uint8_t> code;
  for (const std::uint32_t byte : words(60, 256)) code.push_back(static_cast<std::uint8_t>(byte));
  Words expected;
  for (unsigned i = 0; i < kCount; ++i) expected.push_back(interpreted(code, i));
  const Buffer<std::uint8_t> program(machine->memory(), code);
  for_seeds([&](const LaunchOptions& options) {
    const Buffer<std::uint32_t> out(machine->memory(), Words(kCount));
    machine->run("interpreter", {3, 1, 1}, {128, 1, 1}, options, program, static_cast<unsigned>(code.size()),
                 out, kCount);
    EXPECT_EQ(out.values(), expected);
  });
}

std::uint32_t collatz(std::uint64_t value) {
  std::uint32_t steps = 0;
  for (; value != 1; ++steps) value = value % 2 == 0 ? value / 2 : 3 * value + 1;
  return steps;
}

std::uint32_t digits(std::uint64_t value) {
  std::uint32_t sum = 0;
  for (; value != 0; value /= 10) sum += static_cast<std::uint32_t>(value % 10);
  return sum;
}

TEST_P(Stress, Calls) {
  const auto machine = runner("programs");
  constexpr unsigned kCount = 100;
  Words expected;
  for (unsigned i = 0; i < kCount; ++i) {
    const auto both = [](std::uint64_t value) { return collatz(value) + digits(value); };
    const std::uint32_t other = i % 3 == 0 ? collatz(i + 7) : i % 3 == 1 ? digits(i + 7) : both(i + 7);
    expected.push_back(both(i + 1) * 1000 + other);
  }
  for_seeds([&](const LaunchOptions& options) {
    const Buffer<std::uint32_t> out(machine->memory(), Words(kCount));
    machine->run("calls", {4, 1, 1}, {32, 1, 1}, options, out, kCount);
    EXPECT_EQ(out.values(), expected);
  });
}

// Round to nearest, ties to even, to `bits` bits of fraction. For normal numbers.
float rounded_to(float value, int bits) {
  int exponent = 0;
  const double fraction = std::frexp(static_cast<double>(value), &exponent);
  return static_cast<float>(std::ldexp(std::nearbyint(std::ldexp(fraction, bits + 1)), exponent - bits - 1));
}

TEST_P(Stress, WideDivision) {
  __extension__ using Wide = unsigned __int128;
  const auto machine = runner("programs");
  constexpr unsigned kCount = 1000;
  std::vector<std::uint64_t> x(2 * kCount);
  for (std::uint64_t& value : x) value = random_() >> random_() % 64;
  const Buffer<std::uint64_t> given(machine->memory(), x);
  const Buffer<std::uint64_t> out(machine->memory(), std::vector<std::uint64_t>(4 * kCount));
  const Buffer<std::uint16_t> halves(machine->memory(), std::vector<std::uint16_t>(2 * kCount));
  machine->run("wide_division", {8, 1, 1}, {128, 1, 1}, {}, given, out, halves, kCount);
  const std::vector<std::uint64_t> results = out.values();
  const std::vector<std::uint16_t> rounded = halves.values();
  for (unsigned i = 0; i < kCount; ++i) {
    const std::uint64_t high = x[2 * i];
    const std::uint64_t low = x[2 * i + 1];
    const Wide a = Wide{high} << 64U | low;
    const Wide b = Wide{low >> (high & 63U)} * high / 32 + 1;
    const auto wide = [&](unsigned at) { return Wide{results[4 * i + at]} << 64U | results[4 * i + at + 1]; };
    EXPECT_TRUE(wide(0) == a / b && wide(2) == a % b) << high << " " << low;
    const float third = static_cast<float>(static_cast<int>(high % 100000) - 50000) / 3;
    const float below = f16_to_float(rounded[2 * i]);
    const float above = f16_to_float(rounded[2 * i + 1]);
    EXPECT_LE(below, third);
    EXPECT_GE(above, third);
    EXPECT_LE(above - below, std::max(std::abs(third) * 0x1p-10F, 0x1p-24F)) << third;
  }
}

TEST_P(Stress, ExactArithmetic) {
  const auto machine = runner("programs");
  constexpr unsigned kCount = 257;
  std::vector<float> x;
  std::vector<float> y;
  for (unsigned i = 0; i < kCount; ++i) {
    x.push_back(std::ldexp(static_cast<float>(random_() % 0xffffff) - 8e6F, -18));
    y.push_back(std::ldexp(static_cast<float>(random_() % 0xffffff) - 8e6F, -16) + 0.001F);
  }
  const Buffer<float> left(machine->memory(), x);
  const Buffer<float> right(machine->memory(), y);
  const Buffer<float> out(machine->memory(), std::vector<float>(kCount * 10));
  const Buffer<double> wide(machine->memory(), std::vector<double>(kCount * 3));
  const Buffer<std::int64_t> whole(machine->memory(), std::vector<std::int64_t>(kCount * 3));
  machine->run("exact", {5, 1, 1}, {64, 1, 1}, LaunchOptions{}, left, right, out, wide, whole, kCount);
  const std::vector<float> found = out.values();
  const std::vector<double> found_wide = wide.values();
  const std::vector<std::int64_t> found_whole = whole.values();
  for (unsigned i = 0; i < kCount; ++i) {
    SCOPED_TRACE(i);
    const float a = x[i];
    const float b = y[i];
    const std::array<float, 10> expected = {a + b,
                                            a * b,
                                            std::fma(a, b, 1.0F),
                                            a / b,
                                            std::sqrt(std::fabs(a)),
                                            std::fmin(a, b),
                                            rounded_to(a, 10),
                                            rounded_to(a, 7),
                                            std::nearbyint(a),
                                            std::trunc(b)};
    for (unsigned j = 0; j < expected.size(); ++j)
      EXPECT_EQ(found[i * 10 + j], expected[j]) << j << ": " << a << ' ' << b;
    EXPECT_EQ(found_wide[i * 3], double{a} / double{b});
    EXPECT_EQ(found_wide[i * 3 + 1], std::fma(double{a}, double{b}, -1.0));
    EXPECT_EQ(found_wide[i * 3 + 2], std::sqrt(std::fabs(double{a})));
    EXPECT_EQ(found_whole[i * 3], std::llrint(a));
    EXPECT_EQ(found_whole[i * 3 + 1], static_cast<std::int64_t>(b));
    EXPECT_EQ(found_whole[i * 3 + 2], static_cast<std::int64_t>(std::floor(double{a} * 1000.0)));
  }
}

TEST_P(Stress, MathsLibrary) {
  const auto machine = runner("programs");
  constexpr unsigned kCount = 400;
  std::vector<float> x;
  for (unsigned i = 0; i < kCount; ++i) x.push_back(static_cast<float>(i) / 20.0F - 9.987F);
  const Buffer<float> in(machine->memory(), x);
  const Buffer<float> out(machine->memory(), std::vector<float>(kCount * 6));
  machine->run("functions", {kCount / 100, 1, 1}, {100, 1, 1}, LaunchOptions{}, in, out, kCount);
  const std::vector<float> found = out.values();
  for (unsigned i = 0; i < kCount; ++i) {
    const double a = x[i];
    const std::array<double, 6> expected = {
        std::exp(a),  std::log(std::fabs(a)),      std::sin(a),
        std::tanh(a), 1 / std::sqrt(std::fabs(a)), std::pow(std::fabs(a), 1.5)};
    // Units in the last place: CUDA C++ Programming Guide, "Mathematical Functions", single precision.
    const std::array<double, 6> bounds = {2, 1, 2, 2, 2, 4};
    for (unsigned j = 0; j < expected.size(); ++j) {
      const double ulp = std::ldexp(1.0, std::ilogb(expected[j]) - 23);
      EXPECT_LE(std::fabs(double{found[i * 6 + j]} - expected[j]), (bounds[j] + 0.5) * ulp)
          << j << " of " << a;
    }
  }
}

TEST_P(Stress, Halves) {
  const auto machine = runner("programs");
  constexpr unsigned kCount = 200;
  const std::vector<float> x = whole_floats(kCount * 2, 40);
  const std::vector<float> y = whole_floats(kCount * 2, 40);
  std::vector<float> expected;
  for (unsigned i = 0; i < kCount; ++i)
    expected.push_back((2 * x[2 * i] + 1) + 4 * (2 * x[2 * i + 1] + 1) + 16 * (2 * y[2 * i] + 1) +
                       64 * (2 * y[2 * i + 1] + 1));
  const Buffer<std::uint16_t> in(machine->memory(), fp16_of(x));
  const Buffer<std::uint16_t> other(machine->memory(), bf16_of(y));
  const Buffer<float> out(machine->memory(), std::vector<float>(kCount));
  machine->run("halves", {2, 1, 1}, {128, 1, 1}, LaunchOptions{}, in, other, out, kCount);
  EXPECT_EQ(out.values(), expected);
}

TEST_P(Stress, Matches) {
  const auto machine = runner("programs");
  constexpr unsigned kCount = 128;
  Words keys = words(kCount, 9);
  std::fill(keys.begin() + 32, keys.begin() + 64, 5);
  Words expected;
  for (unsigned i = 0; i < kCount; ++i) {
    const auto warp = keys.begin() + i / 32 * 32;
    const auto same = static_cast<std::uint32_t>(std::count(warp, warp + 32, keys[i]));
    expected.push_back(same * 2 + (same == 32 ? 1 : 0));
  }
  const Buffer<std::uint32_t> in(machine->memory(), keys);
  for_seeds([&](const LaunchOptions& options) {
    const Buffer<std::uint32_t> out(machine->memory(), Words(kCount));
    machine->run("match", {1, 1, 1}, {kCount, 1, 1}, options, in, out, kCount);
    EXPECT_EQ(out.values(), expected);
  });
}

INSTANTIATE_TEST_SUITE_P(Targets, Stress, testing::Values(Target{75, "t4"}, Target{80, "a100"}),
                         [](const auto& info) {
                           return "Compute" + std::to_string(info.param.architecture);
                         });

// What compute_75 lacks: asynchronous copies, bf16 in tensor cores, redux.
class StressFrom80 : public Stress {};

TEST_P(StressFrom80, RingsOfAsynchronousCopies) {
  const auto machine = runner("pipeline");
  for (const auto& [rows, columns] : {std::pair{1U, 128U}, std::pair{37U, 384U}}) {
    const std::vector<float> matrix = whole_floats(std::size_t{rows} * columns, 8);
    const std::vector<float> vector = whole_floats(columns, 8);
    const std::vector<float> expected =
        product_transposed(matrix, vector, static_cast<int>(rows), 1, static_cast<int>(columns));
    const Buffer<float> left(machine->memory(), matrix);
    const Buffer<float> right(machine->memory(), vector);
    for (const std::uint32_t blocks : {1U, 3U})
      for_seeds([&](const LaunchOptions& options) {
        const Buffer<float> out(machine->memory(), std::vector<float>(rows));
        machine->run("matrix_vector_ring", {blocks, 1, 1}, {128, 1, 1}, options, left, right, out, rows,
                     columns);
        EXPECT_EQ(out.values(), expected);
      });
  }
}

TEST_P(StressFrom80, PipelinedTensorCoreProduct) {
  const auto machine = runner("pipeline");
  constexpr int kRows = 128;
  constexpr int kColumns = 16;
  constexpr int kInner = 80;
  const std::vector<float> a = whole_floats(kRows * kInner, 15);
  const std::vector<float> b = whole_floats(kColumns * kInner, 15);
  const std::vector<float> expected = product_transposed(a, b, kRows, kColumns, kInner);
  const Buffer<std::uint16_t> left(machine->memory(), bf16_of(a));
  const Buffer<std::uint16_t> right(machine->memory(), bf16_of(b));
  for_seeds([&](const LaunchOptions& options) {
    const Buffer<float> out(machine->memory(), std::vector<float>(expected.size()));
    machine->run("product_pipeline", {kColumns / 8, kRows / 64, 1}, {128, 1, 1}, options, left, right, out,
                 kColumns, kInner);
    EXPECT_EQ(out.values(), expected);
  });
}

TEST_P(StressFrom80, WarpsOfTwoKinds) {
  const auto machine = runner("pipeline");
  for (const std::uint32_t blocks : {1U, 4U})
    for (const unsigned chunks : {1U, 7U}) {
      const Words in = words(std::size_t{blocks} * chunks * 96);
      Words expected;
      for (const std::uint32_t value : in) expected.push_back(value * 3 + 1);
      const Buffer<std::uint32_t> from(machine->memory(), in);
      for_seeds([&](const LaunchOptions& options) {
        const Buffer<std::uint32_t> out(machine->memory(), Words(in.size()));
        machine->run("warp_specialised", {blocks, 1, 1}, {128, 1, 1}, options, from, out, chunks);
        EXPECT_EQ(out.values(), expected);
      });
    }
}

TEST_P(StressFrom80, WarpReductions) {
  const auto machine = runner("pipeline");
  constexpr unsigned kCount = 1'003;
  std::vector<std::int32_t> in;
  for (const std::uint32_t value : words(kCount))
    in.push_back(static_cast<std::int32_t>(value | 0x40U) / 3 | 0x100);
  std::uint32_t sum = 0;
  for (const std::int32_t value : in) sum += static_cast<std::uint32_t>(value);
  std::uint32_t common = 0xffffffff;
  for (const std::int32_t value : in) common &= static_cast<std::uint32_t>(value);
  const Buffer<std::int32_t> values(machine->memory(), in);
  for_seeds([&](const LaunchOptions& options) {
    const Buffer<std::uint32_t> total(machine->memory(), Words{0});
    const Buffer<std::int32_t> least(machine->memory(),
                                     std::vector<std::int32_t>{std::numeric_limits<std::int32_t>::max()});
    const Buffer<std::uint32_t> all(machine->memory(), Words{0xffffffff});
    machine->run("reduce_redux", {3, 1, 1}, {64, 1, 1}, options, values, kCount, total, least, all);
    EXPECT_EQ(total.values(), Words{sum});
    EXPECT_EQ(least.values()[0], *std::min_element(in.begin(), in.end()));
    EXPECT_EQ(all.values(), Words{common});
  });
}

INSTANTIATE_TEST_SUITE_P(Targets, StressFrom80, testing::Values(Target{80, "a100"}), [](const auto& info) {
  return "Compute" + std::to_string(info.param.architecture);
});

}  // namespace
}  // namespace sluice::ptx::test
