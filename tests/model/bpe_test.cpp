// Byte-pair encoding against its definition, on random merge tables: both ways of encoding (short and long
// pieces), ties between equal pairs, and merges that could only apply out of order.
#include "model/bpe.h"

#include <array>
#include <map>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/seed.h"

namespace sluice::model {
namespace {

struct RandomBpe {
  std::array<std::int32_t, 256> byte_ids{};
  std::vector<Bpe::Merge> merges;
};

// Merges of random tokens over an alphabet of `n_letters` bytes, in random order: a merge may rank before
// those that make its parts.
RandomBpe random_bpe(std::mt19937& random, std::size_t n_letters, std::size_t n_merges) {
  RandomBpe made;
  for (std::size_t byte = 0; byte < 256; ++byte) made.byte_ids[byte] = static_cast<std::int32_t>(255 - byte);
  std::vector<std::int32_t> tokens;
  for (std::size_t i = 0; i < n_letters; ++i) tokens.push_back(made.byte_ids['a' + i]);
  std::map<std::pair<std::int32_t, std::int32_t>, bool> used;
  for (std::size_t i = 0; i < n_merges; ++i) {
    const std::int32_t left = tokens[random() % tokens.size()];
    const std::int32_t right = tokens[random() % tokens.size()];
    if (!used.emplace(std::pair(left, right), true).second) continue;
    const auto result = static_cast<std::int32_t>(256 + made.merges.size());
    made.merges.push_back({left, right, result});
    tokens.push_back(result);
  }
  std::shuffle(made.merges.begin(), made.merges.end(), random);
  return made;
}

// The definition: apply the pair of the lowest rank, leftmost first, until none is left.
std::vector<std::int32_t> by_definition(const RandomBpe& bpe, const std::string& piece) {
  std::map<std::pair<std::int32_t, std::int32_t>, std::size_t> rank_of;
  for (std::size_t rank = 0; rank < bpe.merges.size(); ++rank) {
    rank_of[{bpe.merges[rank].left, bpe.merges[rank].right}] = rank;
  }
  std::vector<std::int32_t> ids;
  for (const char byte : piece) ids.push_back(bpe.byte_ids[static_cast<unsigned char>(byte)]);
  while (true) {
    std::size_t best_rank = bpe.merges.size();
    std::size_t best = 0;
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto found = rank_of.find({ids[i], ids[i + 1]});
      if (found == rank_of.end() || found->second >= best_rank) continue;
      best_rank = found->second;
      best = i;
    }
    if (best_rank == bpe.merges.size()) return ids;
    ids[best] = bpe.merges[best_rank].result;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

TEST(Bpe, MergesAsDefined) {
  std::mt19937 random(static_cast<std::uint32_t>(test::seed_of_test()));
  for (int table = 0; table < 40; ++table) {
    const std::size_t n_letters = 1 + random() % 4;
    const RandomBpe made = random_bpe(random, n_letters, random() % 60);
    ASSERT_EQ(Bpe::first_duplicate(made.merges), made.merges.size());
    const Bpe bpe(made.byte_ids, made.merges);
    for (int i = 0; i < 60; ++i) {
      std::string piece(1 + random() % (i % 4 == 0 ? 200 : 20), 'a');
      for (char& byte : piece) byte = static_cast<char>('a' + random() % n_letters);
      std::vector<std::int32_t> ids{-7};  // what is there already stays
      bpe.encode(piece, ids);
      std::vector<std::int32_t> expected = by_definition(made, piece);
      expected.insert(expected.begin(), -7);
      ASSERT_EQ(ids, expected) << piece;
    }
  }
}

TEST(Bpe, SeesAPairThatOccursTwice) {
  EXPECT_EQ(Bpe::first_duplicate({{1, 2, 3}, {2, 1, 4}, {1, 2, 5}, {2, 1, 6}}), 2U);
  EXPECT_EQ(Bpe::first_duplicate({{1, 2, 3}, {2, 1, 3}}), 2U);
  EXPECT_EQ(Bpe::first_duplicate({}), 0U);
}

}  // namespace
}  // namespace sluice::model
