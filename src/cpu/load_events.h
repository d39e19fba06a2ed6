// What a backend tells while it loads a model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>

namespace sluice::cpu {

enum class LoadStage : std::uint8_t { kPack, kHash, kRead, kWrite };

struct LoadEvents {
  // On the calling thread, now and then. May throw: loading ends with that exception.
  std::function<void(LoadStage stage, std::size_t done, std::size_t total)> progress;
  // Something went wrong that loading goes on without.
  std::function<void(std::string_view what)> warn;
};

}  // namespace sluice::cpu
