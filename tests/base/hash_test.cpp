#include "base/hash.h"

#include <algorithm>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/seed.h"

namespace sluice {
namespace {

std::vector<std::byte> random_bytes(test::Random& random, std::size_t n) {
  std::vector<std::byte> bytes(n);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

TEST(Hash, PiecesGiveWhatTheWholeGives) {
  test::Random random(test::seed_of_test());
  for (const std::size_t size : {0U, 1U, 17U, 240U, 241U, 1024U, 100000U}) {
    const std::vector<std::byte> bytes = random_bytes(random, size);
    Hasher hasher;
    for (std::size_t begin = 0; begin < size;) {
      const std::size_t n = std::min<std::size_t>(size - begin, test::pick(random, 0, 5000));
      hasher.add(std::span(bytes).subspan(begin, n));
      begin += n;
    }
    EXPECT_EQ(hasher.digest(), hash128(bytes)) << size;
  }
}

// What xxhsum -H2 prints of an empty file.
TEST(Hash, IsXxh3) {
  EXPECT_EQ(hash128({}).hex(), "99aa06d3014798d86001c324468d497f");
}

TEST(Hash, EveryBitCounts) {
  test::Random random(test::seed_of_test());
  std::vector<std::byte> bytes = random_bytes(random, 300);
  std::set<std::string> seen = {hash128(bytes).hex()};
  for (std::byte& byte : bytes) {
    byte ^= std::byte{1};
    seen.insert(hash128(bytes).hex());
    byte ^= std::byte{1};
  }
  EXPECT_EQ(seen.size(), 301U);
}

TEST(Hash, TextsAreKeptApart) {
  Hasher a;
  a.add(std::string_view("ab"));
  a.add(std::string_view("c"));
  Hasher b;
  b.add(std::string_view("a"));
  b.add(std::string_view("bc"));
  EXPECT_NE(a.digest(), b.digest());
}

}  // namespace
}  // namespace sluice
