#include "model/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "base/error.h"
#include "model/token_table.h"

namespace sluice::model {
namespace {

// Up to here the quadratic scan over an array in registers and L1 beats a heap. Words of text are nearly all
// shorter.
constexpr std::size_t kShort = 48;

std::size_t hash_of_pair(std::int32_t left, std::int32_t right, std::uint64_t seed) {
  const std::uint64_t pair =
      (std::uint64_t{static_cast<std::uint32_t>(left)} << 32U) | static_cast<std::uint32_t>(right);
  return static_cast<std::size_t>(hash_of(pair, seed));
}

std::size_t slot_count(std::size_t n_merges) {
  return std::bit_ceil(std::max<std::size_t>(16, 2 * n_merges));
}

// Candidates of merges that a piece of `n` bytes keeps at a time.
std::size_t long_piece_candidates(std::size_t n) {
  return n + n / 4;
}

unsigned value_of(char byte) {
  return static_cast<unsigned char>(byte);
}

}  // namespace

Bpe::Bpe(const std::array<std::int32_t, 256>& byte_ids, const std::vector<Merge>& merges)
    : seed_(random_seed()),
      byte_ids_(byte_ids),
      slots_(slot_count(merges.size())),
      byte_pair_ranks_(std::size_t{256} * 256, kNoRank) {
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const Merge& merge = merges[rank];
    std::size_t slot = hash_of_pair(merge.left, merge.right, seed_) & mask;
    while (slots_[slot].rank != kNoRank) slot = (slot + 1) & mask;
    slots_[slot] = {merge.left, merge.right, static_cast<std::uint32_t>(rank), merge.result};
  }
  for (std::size_t left = 0; left < 256; ++left) {
    for (std::size_t right = 0; right < 256; ++right) {
      if (byte_ids[left] < 0 || byte_ids[right] < 0) continue;
      byte_pair_ranks_[left * 256 + right] = find(byte_ids[left], byte_ids[right]).rank;
    }
  }
}

std::size_t Bpe::first_duplicate(const std::vector<Merge>& merges) {
  const std::size_t mask = slot_count(merges.size()) - 1;
  const std::uint64_t seed = random_seed();
  std::vector<std::uint32_t> seen(mask + 1, 0);  // merge + 1
  for (std::size_t i = 0; i < merges.size(); ++i) {
    std::size_t slot = hash_of_pair(merges[i].left, merges[i].right, seed) & mask;
    for (; seen[slot] != 0; slot = (slot + 1) & mask) {
      const Merge& other = merges[seen[slot] - 1];
      if (other.left == merges[i].left && other.right == merges[i].right) return i;
    }
    seen[slot] = static_cast<std::uint32_t>(i + 1);
  }
  return merges.size();
}

Bpe::Found Bpe::find(std::int32_t left, std::int32_t right) const {
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t slot = hash_of_pair(left, right, seed_) & mask;; slot = (slot + 1) & mask) {
    const Slot& entry = slots_[slot];
    if (entry.rank == kNoRank || (entry.left == left && entry.right == right))
      return {entry.rank, entry.result};
  }
}

std::uint32_t Bpe::byte_pair_rank(char left, char right) const {
  return byte_pair_ranks_[value_of(left) * std::size_t{256} + value_of(right)];
}

void Bpe::encode(std::string_view piece, std::vector<std::int32_t>& ids) const {
  if (piece.size() <= kShort) {
    encode_short(piece, ids);
  } else {
    encode_long(piece, ids);
  }
}

void Bpe::encode_short(std::string_view piece, std::vector<std::int32_t>& ids) const {
  // symbols[i] and its rank with symbols[i + 1]; the last has none.
  std::array<std::int32_t, kShort> symbols;
  std::array<std::uint32_t, kShort> ranks;
  std::size_t n = piece.size();
  for (std::size_t i = 0; i < n; ++i) {
    symbols[i] = byte_ids_[value_of(piece[i])];
    ranks[i] = i + 1 < n ? byte_pair_rank(piece[i], piece[i + 1]) : kNoRank;
  }
  while (n > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i < n; ++i) {
      if (ranks[i] < ranks[best]) best = i;
    }
    if (ranks[best] == kNoRank) break;
    symbols[best] = find(symbols[best], symbols[best + 1]).result;
    for (std::size_t i = best + 1; i + 1 < n; ++i) {
      symbols[i] = symbols[i + 1];
      ranks[i] = ranks[i + 1];
    }
    --n;
    ranks[best] = best + 1 < n ? find(symbols[best], symbols[best + 1]).rank : kNoRank;
    if (best > 0) ranks[best - 1] = find(symbols[best - 1], symbols[best]).rank;
  }
  ids.insert(ids.end(), symbols.begin(), symbols.begin() + static_cast<std::ptrdiff_t>(n));
}

void Bpe::encode_long(std::string_view piece, std::vector<std::int32_t>& ids) const {
  SLUICE_CHECK(piece.size() < kNoRank);
  const auto n = static_cast<std::uint32_t>(piece.size());
  std::vector<std::int32_t> symbols(n);      // where one begins; -1 inside of one
  std::vector<std::uint32_t> lengths(n, 1);  // of the symbol that begins or ends there
  for (std::uint32_t i = 0; i < n; ++i) symbols[i] = byte_ids_[value_of(piece[i])];
  const auto rank_at = [&](std::uint32_t at) {
    const std::uint32_t next = at + lengths[at];
    return next == n ? kNoRank : find(symbols[at], symbols[next]).rank;
  };

  // Candidates as rank << 32 | position, the least first. One is stale unless the pair that now stands at its
  // position has its rank: a rank belongs to one pair.
  std::vector<std::uint64_t> queue;
  queue.reserve(long_piece_candidates(n));
  for (std::uint32_t i = 0; i + 1 < n; ++i) {
    const std::uint32_t rank = byte_pair_rank(piece[i], piece[i + 1]);
    if (rank != kNoRank) queue.push_back((std::uint64_t{rank} << 32U) | i);
  }
  std::make_heap(queue.begin(), queue.end(), std::greater<>{});
  const auto is_stale = [&](std::uint64_t candidate) {
    const auto at = static_cast<std::uint32_t>(candidate);
    return symbols[at] < 0 || rank_at(at) != candidate >> 32U;
  };
  const auto consider = [&](std::uint32_t at) {
    const std::uint32_t rank = rank_at(at);
    if (rank == kNoRank) return;
    if (queue.size() == queue.capacity()) {
      // It takes n / 4 merges to get here, so a quarter of it at least is stale.
      std::erase_if(queue, is_stale);
      std::make_heap(queue.begin(), queue.end(), std::greater<>{});
    }
    queue.push_back((std::uint64_t{rank} << 32U) | at);
    std::push_heap(queue.begin(), queue.end(), std::greater<>{});
  };
  while (!queue.empty()) {
    std::pop_heap(queue.begin(), queue.end(), std::greater<>{});
    const std::uint64_t candidate = queue.back();
    queue.pop_back();
    if (is_stale(candidate)) continue;
    const auto at = static_cast<std::uint32_t>(candidate);
    const std::uint32_t right = at + lengths[at];
    const std::uint32_t length = lengths[at] + lengths[right];
    symbols[at] = find(symbols[at], symbols[right]).result;
    symbols[right] = -1;
    lengths[at] = length;
    lengths[at + length - 1] = length;
    consider(at);
    if (at != 0) consider(at - lengths[at - 1]);
  }
  for (std::uint32_t at = 0; at < n; at += lengths[at]) ids.push_back(symbols[at]);
}

}  // namespace sluice::model
