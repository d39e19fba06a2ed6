// Memory for vectors that kernels go through: begins at a cache line; if it is large, at a page of 2 MB, which the system is asked
// for (huge_memory.h), so that rows that lie far apart don't cost a translation of addresses each.
#pragma once

#include <cstddef>
#include <new>

#include <sys/mman.h>

namespace sluice {

template <typename T>
struct AlignedAllocator {
  using value_type = T;

  AlignedAllocator() = default;
  template <typename U>
  explicit(false) AlignedAllocator(const AlignedAllocator<U>& /*other*/) {}

  T* allocate(std::size_t n) {
    const std::size_t bytes = n * sizeof(T);
    void* data = ::operator new(bytes, alignment(bytes));
    // A refusal is no error: the pages are then small.
    if (bytes >= kLarge) static_cast<void>(::madvise(data, bytes / kHugePage * kHugePage, MADV_HUGEPAGE));
    return static_cast<T*>(data);
  }
  void deallocate(T* data, std::size_t n) { ::operator delete(data, alignment(n * sizeof(T))); }
  bool operator==(const AlignedAllocator&) const = default;

 private:
  static constexpr std::size_t kLine = 64;
  static constexpr std::size_t kHugePage = std::size_t{2} << 20U;
  static constexpr std::size_t kLarge = 2 * kHugePage;

  static std::align_val_t alignment(std::size_t bytes) {
    return std::align_val_t{bytes >= kLarge ? kHugePage : kLine};
  }
};

}  // namespace sluice
