// Random inputs are the same in every run, so that a failure is the change's and not the draw's. SLUICE_TEST_SEED=fresh
// draws new ones, as `make soak` does; the seed is printed, and SLUICE_TEST_SEED=<number> repeats a run.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <random>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

namespace sluice::test {

// The seed of the running test, another one for every test (FNV-1a of its name); prints it.
inline std::uint64_t seed_of_test() {
  const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
  const std::string name =
      test == nullptr ? "test" : std::string(test->test_suite_name()) + '.' + test->name();
  std::uint64_t seed = 0xcbf29ce484222325;
  for (const char c : name) seed = (seed ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  if (const char* given = std::getenv("SLUICE_TEST_SEED")) {
    seed = given == std::string_view("fresh")
               ? (std::uint64_t{std::random_device{}()} << 32U) | std::random_device{}()
               : std::strtoull(given, nullptr, 10);
  }
  std::cout << name << ": SLUICE_TEST_SEED=" << seed << '\n';
  return seed;
}

using Random = std::mt19937_64;

// A number from `low` to `high`, both included.
inline std::size_t pick(Random& random, std::size_t low, std::size_t high) {
  return std::uniform_int_distribution<std::size_t>(low, high)(random);
}

}  // namespace sluice::test
