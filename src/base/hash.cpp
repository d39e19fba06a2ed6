#include "base/hash.h"

#include <fmt/format.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/error.h"

namespace sluice {

struct Hasher::State {
  XXH3_state_t xxh;
};

std::string Hash128::hex() const {
  return fmt::format("{:016x}{:016x}", high, low);
}

Hash128 hash128(std::span<const std::byte> bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {.low = hash.low64, .high = hash.high64};
}

Hasher::Hasher() : state_(std::make_unique<State>()) {
  SLUICE_CHECK(XXH3_128bits_reset(&state_->xxh) == XXH_OK);
}

Hasher::~Hasher() = default;

void Hasher::add(std::span<const std::byte> bytes) {
  if (!bytes.empty()) SLUICE_CHECK(XXH3_128bits_update(&state_->xxh, bytes.data(), bytes.size()) == XXH_OK);
}

void Hasher::add(std::string_view text) {
  add(text.size());
  add(std::as_bytes(std::span(text)));
}

Hash128 Hasher::digest() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(&state_->xxh);
  return {.low = hash.low64, .high = hash.high64};
}

}  // namespace sluice
