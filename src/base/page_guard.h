// Pages of a mapped file that vanish: when a file shrinks, or its disk fails, touching what is gone raises SIGBUS, which
// would end the process. A guarded range reads as zeros there instead, and remembers that it did.
#pragma once

#include <cstddef>
#include <span>

namespace sluice {

// Guards one mapping from construction to destruction; it must outlive the guard. Ranges of any number of threads may
// be guarded at once. The first guard installs the process's SIGBUS handler; faults elsewhere go to the handler that
// was there before.
class PageGuard {
 public:
  // `mapping`: as mmap gave it; empty: nothing is guarded. Throws Error if too many ranges are guarded already.
  explicit PageGuard(std::span<const std::byte> mapping);
  ~PageGuard();
  PageGuard(const PageGuard&) = delete;
  PageGuard& operator=(const PageGuard&) = delete;

  // True once something was read that wasn't there: whatever was computed since then is worthless.
  bool lost() const;

 private:
  std::size_t slot_;
};

}  // namespace sluice
