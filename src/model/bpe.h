// Byte-pair encoding with ranked merges (Sennrich et al., arXiv:1508.07909, over bytes).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace sluice::model {

class Bpe {
 public:
  struct Merge {
    std::int32_t left = 0;
    std::int32_t right = 0;
    std::int32_t result = 0;
  };

  // `byte_ids`: the token of each byte, -1 for bytes that will never be encoded. `merges` in order of rank,
  // the first goes first; a pair may not occur twice.
  Bpe(const std::array<std::int32_t, 256>& byte_ids, const std::vector<Merge>& merges);

  // Index of the first merge whose pair an earlier one has; merges.size() if there is none.
  static std::size_t first_duplicate(const std::vector<Merge>& merges);

  // Appends the tokens of `piece` to `ids`: its bytes, in which again and again the adjacent pair of the
  // lowest rank (of several, the leftmost) is merged. O(n log n). piece.size() < 2^32; every byte has a
  // token.
  void encode(std::string_view piece, std::vector<std::int32_t>& ids) const;

 private:
  static constexpr std::uint32_t kNoRank = 0xFFFFFFFF;

  struct Slot {
    std::int32_t left = -1;
    std::int32_t right = -1;
    std::uint32_t rank = kNoRank;
    std::int32_t result = -1;
  };
  struct Found {
    std::uint32_t rank;
    std::int32_t result;
  };

  Found find(std::int32_t left, std::int32_t right) const;
  std::uint32_t byte_pair_rank(char left, char right) const;
  void encode_short(std::string_view piece, std::vector<std::int32_t>& ids) const;
  void encode_long(std::string_view piece, std::vector<std::int32_t>& ids) const;

  std::uint64_t seed_;  // of the hashes: a file whose merges all hash alike would take quadratic time
  std::array<std::int32_t, 256> byte_ids_;
  std::vector<Slot> slots_;                     // open addressing; a power of two, at most half full
  std::vector<std::uint32_t> byte_pair_ranks_;  // [256, 256]: the first look-ups of every piece
};

}  // namespace sluice::model
