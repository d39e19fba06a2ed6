// How much memory is left, as the kernel tells it.
#pragma once

#include <cstddef>
#include <optional>

namespace sluice {

// Bytes that this process may still take; nothing where that is not limited or not known.
struct FreeMemory {
  std::optional<std::size_t> memory;  // what the kernel calls available, and what the control groups leave
  std::optional<std::size_t> data;    // RLIMIT_DATA: writable private pages, reserved
  std::optional<std::size_t> address_space;  // RLIMIT_AS: everything mapped, files too
};

FreeMemory free_memory();

}  // namespace sluice
