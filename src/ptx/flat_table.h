// A small hash table from 32-bit keys to plain values, by open addressing in one array: the detector has millions of tables of
// a few entries, and some of thousands. Nothing is ever removed but everything at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace sluice::ptx {

template <typename Value>
class FlatTable {
 public:
  static constexpr std::uint32_t kNoKey = ~std::uint32_t{0};
  struct Entry {
    std::uint32_t key = kNoKey;
    Value value;
  };

  bool empty() const { return used_ == 0; }
  Value* find(std::uint32_t key) {
    if (entries_.empty()) return nullptr;
    Entry& entry = entries_[slot_of(key)];
    return entry.key == key ? &entry.value : nullptr;
  }
  // The value of this key; a fresh one if there was none, which `added` tells.
  std::pair<Value*, bool> find_or_add(std::uint32_t key) {
    if ((used_ + 1) * 4 > entries_.size() * 3) grow();
    Entry& entry = entries_[slot_of(key)];
    const bool added = entry.key != key;
    if (added) {
      entry = {key, Value{}};
      ++used_;
    }
    return {&entry.value, added};
  }
  // A small table keeps the room that it has: it is used again and again.
  void clear() {
    if (entries_.size() > kFew) entries_.clear();
    for (Entry& entry : entries_) entry.key = kNoKey;
    used_ = 0;
  }
  template <typename Visit>
  void for_each(Visit visit) {
    for (Entry& entry : entries_) {
      if (entry.key != kNoKey) visit(entry.key, entry.value);
    }
  }

 private:
  static constexpr std::size_t kFew = 64;

  // Where the key is, or would be.
  std::size_t slot_of(std::uint32_t key) const {
    std::size_t slot = (key * 0x9e3779b9U >> 7U) & (entries_.size() - 1);
    while (entries_[slot].key != key && entries_[slot].key != kNoKey)
      slot = (slot + 1) & (entries_.size() - 1);
    return slot;
  }
  void grow() {
    std::vector<Entry> old(entries_.empty() ? 4 : entries_.size() * 2);
    old.swap(entries_);
    for (const Entry& entry : old) {
      if (entry.key != kNoKey) entries_[slot_of(entry.key)] = entry;
    }
  }

  std::vector<Entry> entries_;  // a power of two
  std::size_t used_ = 0;
};

}  // namespace sluice::ptx
