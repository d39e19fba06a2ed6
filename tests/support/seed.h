// Random inputs are drawn fresh on every run; the seed is printed, and SLUICE_TEST_SEED repeats a run.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <random>
#include <string>

#include <gtest/gtest.h>

namespace sluice::test {

// The seed of the running test; prints it.
inline std::uint64_t fresh_seed() {
  std::uint64_t seed = (std::uint64_t{std::random_device{}()} << 32U) | std::random_device{}();
  if (const char* given = std::getenv("SLUICE_TEST_SEED")) seed = std::strtoull(given, nullptr, 10);
  const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
  std::cout << (test != nullptr ? test->name() : "test") << ": SLUICE_TEST_SEED=" << seed << '\n';
  return seed;
}

using Random = std::mt19937_64;

// A number from `low` to `high`, both included.
inline std::size_t pick(Random& random, std::size_t low, std::size_t high) {
  return std::uniform_int_distribution<std::size_t>(low, high)(random);
}

}  // namespace sluice::test
