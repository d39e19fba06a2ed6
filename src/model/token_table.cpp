#include "model/token_table.h"

#include <cstring>
#include <limits>

#include "base/error.h"

namespace sluice::model {

std::uint64_t hash_of(std::string_view text) {
  // Eight bytes at a time; odd 64-bit constants (the golden ratio's and splitmix64's).
  std::uint64_t hash = 0x9E3779B97F4A7C15U ^ text.size();
  std::size_t at = 0;
  for (; at + 8 <= text.size(); at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data() + at, 8);
    hash = (hash ^ word) * 0xBF58476D1CE4E5B9U;
    hash ^= hash >> 32U;
  }
  std::uint64_t rest = 0;
  if (at < text.size()) std::memcpy(&rest, text.data() + at, text.size() - at);
  hash = (hash ^ rest) * 0x94D049BB133111EBU;
  return hash ^ (hash >> 29U);
}

namespace {

std::uint32_t tag_of(std::uint64_t hash) {
  return static_cast<std::uint32_t>(hash >> 32U) | 1U;
}

}  // namespace

std::size_t TokenTable::slot_of(std::string_view text, std::uint64_t hash) const {
  const std::size_t mask = slots_.size() - 1;
  const std::uint32_t tag = tag_of(hash);
  std::size_t slot = static_cast<std::size_t>(hash) & mask;
  while (slots_[slot].tag != 0 && !(slots_[slot].tag == tag && this->text(slots_[slot].entry) == text)) {
    slot = (slot + 1) & mask;
  }
  return slot;
}

void TokenTable::grow() {
  slots_.assign(slots_.empty() ? 512 : slots_.size() * 4, {});
  for (const Entry& entry : entries_) {
    const std::uint64_t hash = hash_of(text(entry));
    slots_[slot_of(text(entry), hash)] = {entry, tag_of(hash)};
  }
}

bool TokenTable::insert(std::string_view text, std::int32_t id) {
  if (2 * (entries_.size() + 1) > slots_.size()) grow();
  const std::uint64_t hash = hash_of(text);
  Slot& slot = slots_[slot_of(text, hash)];
  if (slot.tag != 0) return false;
  SLUICE_CHECK(texts_.size() + text.size() <= std::numeric_limits<std::uint32_t>::max());
  slot.tag = tag_of(hash);
  slot.entry = {static_cast<std::uint32_t>(texts_.size()), static_cast<std::uint32_t>(text.size()), id};
  entries_.push_back(slot.entry);
  texts_ += text;
  return true;
}

std::optional<std::int32_t> TokenTable::find(std::string_view text) const {
  if (slots_.empty()) return std::nullopt;
  const Slot& slot = slots_[slot_of(text, hash_of(text))];
  if (slot.tag == 0) return std::nullopt;
  return slot.entry.id;
}

}  // namespace sluice::model
