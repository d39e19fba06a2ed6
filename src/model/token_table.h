// A vocabulary: token text → id. A flat hash table over one block of text, because a vocabulary of 248,000
// tokens has to load in a fraction of a second.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::model {

// 64-bit hashes for tables in memory (not stable across machines). Who doesn't know `seed` can't make them collide.
std::uint64_t hash_of(std::string_view text, std::uint64_t seed);
std::uint64_t hash_of(std::uint64_t value, std::uint64_t seed);
std::uint64_t random_seed();

class TokenTable {
 public:
  struct Entry {
    std::uint32_t offset = 0;
    std::uint32_t size = 0;
    std::int32_t id = 0;
  };

  // False, and no change, if `text` is there already. All texts together must stay below 4 GiB.
  bool insert(std::string_view text, std::int32_t id);
  std::optional<std::int32_t> find(std::string_view text) const;

  std::size_t size() const { return entries_.size(); }
  const std::vector<Entry>& entries() const { return entries_; }  // in the order of insertion
  std::string_view text(const Entry& entry) const {
    return std::string_view(texts_).substr(entry.offset, entry.size);
  }

 private:
  struct Slot {
    Entry entry;
    std::uint32_t tag = 0;  // 31 bits of the hash and a bit that says taken; 0: empty
  };

  // The slot that has `text`, or the empty one where it belongs.
  std::size_t slot_of(std::string_view text, std::uint64_t hash) const;
  void grow();

  // Random: a file whose tokens all hash alike would take quadratic time.
  std::uint64_t seed_ = random_seed();
  std::string texts_;
  std::vector<Entry> entries_;
  std::vector<Slot> slots_;  // open addressing; a power of two, at most half full
};

}  // namespace sluice::model
