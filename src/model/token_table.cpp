#include "model/token_table.h"

#include <cstring>
#include <limits>
#include <random>

#include "base/error.h"

namespace sluice::model {

namespace {

// The 128-bit product of two numbers, folded: every bit of either moves bits everywhere (as in wyhash).
std::uint64_t mixed(std::uint64_t a, std::uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64U);
}

// Odd, about half of the bits set: the golden ratio's and splitmix64's.
constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15U;
constexpr std::uint64_t kSplitmix = 0xBF58476D1CE4E5B9U;

}  // namespace

std::uint64_t hash_of(std::uint64_t value, std::uint64_t seed) {
  return mixed(value ^ seed, kSplitmix ^ (seed >> 32U));
}

std::uint64_t hash_of(std::string_view text, std::uint64_t seed) {
  std::uint64_t hash = seed ^ (text.size() * kGolden);
  std::size_t at = 0;
  for (; at + 8 <= text.size(); at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data() + at, 8);
    hash = mixed(hash ^ word, kSplitmix);
  }
  std::uint64_t rest = 0;
  if (at < text.size()) std::memcpy(&rest, text.data() + at, text.size() - at);
  return hash_of(hash ^ rest, seed);
}

std::uint64_t random_seed() {
  std::random_device random;
  return (std::uint64_t{random()} << 32U) | random();
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
    const std::uint64_t hash = hash_of(text(entry), seed_);
    slots_[slot_of(text(entry), hash)] = {entry, tag_of(hash)};
  }
}

bool TokenTable::insert(std::string_view text, std::int32_t id) {
  if (2 * (entries_.size() + 1) > slots_.size()) grow();
  const std::uint64_t hash = hash_of(text, seed_);
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
  const Slot& slot = slots_[slot_of(text, hash_of(text, seed_))];
  if (slot.tag == 0) return std::nullopt;
  return slot.entry.id;
}

}  // namespace sluice::model
