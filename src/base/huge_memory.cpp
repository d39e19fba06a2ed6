#include "base/huge_memory.h"

#include <cstdint>

#include <sys/mman.h>
#include <unistd.h>

namespace sluice {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20U;

}  // namespace

HugeMemory::HugeMemory(std::size_t n) : memory_(n < kHugePage ? n : n + kHugePage) {
  if (n == 0) return;
  std::byte* data = memory_.data();
  if (n >= kHugePage) {
    data += (kHugePage - reinterpret_cast<std::uintptr_t>(data) % kHugePage) % kHugePage;
    // Whole huge pages only: the last one would take memory that nobody uses. A system without them says no.
    static_cast<void>(::madvise(data, n / kHugePage * kHugePage, MADV_HUGEPAGE));
  }
  bytes_ = {data, n};
}

void give_back_pages(std::span<std::byte> bytes) {
  static const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t before = (page - reinterpret_cast<std::uintptr_t>(bytes.data()) % page) % page;
  if (bytes.size() < before + page) return;
  // Refused (locked pages), it costs memory and no more.
  static_cast<void>(::madvise(bytes.data() + before, (bytes.size() - before) / page * page, MADV_DONTNEED));
}

}  // namespace sluice
