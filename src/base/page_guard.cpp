#include "base/page_guard.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <string>

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error.h"

namespace sluice {
namespace {

// The largest checkpoints have a few hundred shards.
constexpr std::size_t kMaxRanges = 4096;
constexpr std::size_t kNoSlot = kMaxRanges;

// A guarded range, as the signal handler sees it. `end` is 0 while the slot is free, 1 while it is being filled.
struct Range {
  std::atomic<std::uintptr_t> begin = 0;
  std::atomic<std::uintptr_t> end = 0;
  std::atomic<bool> lost = false;
};
static_assert(std::atomic<std::uintptr_t>::is_always_lock_free && std::atomic<bool>::is_always_lock_free,
              "a signal handler may not wait for a lock");

struct Registry {
  std::array<Range, kMaxRanges> ranges;
  std::uintptr_t page_size = 0;
  struct sigaction previous{};
};

// A signal handler has no other way to its data than through something that is global.
Registry& registry() {
  static constinit Registry instance;
  return instance;
}

// Puts zeros where `address` and everything behind it in the range was; a file that lost a page has lost the pages
// behind it, and each would cost a fault of its own. A raw system call: mmap itself may be a sanitizer's.
bool replace_pages(const Range& range, std::uintptr_t address, std::uintptr_t page_size) {
  const std::uintptr_t from = address / page_size * page_size;
  return ::syscall(SYS_mmap, from, range.end.load() - from, PROT_READ,
                   MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != -1;
}

// True if the fault is ours and the instruction can be tried again.
bool repair(const siginfo_t& info) {
  if (info.si_code != BUS_ADRERR) return false;
  const auto address = reinterpret_cast<std::uintptr_t>(info.si_addr);
  for (Range& range : registry().ranges) {
    const std::uintptr_t end = range.end.load();
    if (address >= end || address < range.begin.load()) continue;
    range.lost.store(true);
    return replace_pages(range, address, registry().page_size);
  }
  return false;
}

void on_bus_error(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  const bool repaired = repair(*info);
  errno = saved_errno;
  if (repaired) return;
  const struct sigaction& previous = registry().previous;
  if ((previous.sa_flags & SA_SIGINFO) != 0) {
    previous.sa_sigaction(signal, info, context);
  } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(signal);
  } else {
    // The instruction faults again, and the process ends as it would have without us.
    struct sigaction plain{};
    plain.sa_handler = SIG_DFL;
    ::sigaction(SIGBUS, &plain, nullptr);
  }
}

bool install_handler() {
  registry().page_size = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  struct sigaction action{};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  ::sigemptyset(&action.sa_mask);
  return ::sigaction(SIGBUS, &action, &registry().previous) == 0;
}

// The slot that now holds `mapping`.
std::size_t occupy(std::span<const std::byte> mapping) {
  const auto begin = reinterpret_cast<std::uintptr_t>(mapping.data());
  for (std::size_t slot = 0; slot < kMaxRanges; ++slot) {
    Range& range = registry().ranges[slot];
    std::uintptr_t free = 0;
    if (!range.end.compare_exchange_strong(free, 1)) continue;
    range.begin.store(begin);
    range.lost.store(false);
    range.end.store(begin + mapping.size());
    return slot;
  }
  throw Error("too many files are mapped at once", {},
              "at most " + std::to_string(kMaxRanges) + " files make a model");
}

}  // namespace

PageGuard::PageGuard(std::span<const std::byte> mapping) : slot_(kNoSlot) {
  if (mapping.empty()) return;
  static const bool installed = install_handler();
  SLUICE_CHECK(installed);
  slot_ = occupy(mapping);
}

PageGuard::~PageGuard() {
  if (slot_ != kNoSlot) registry().ranges[slot_].end.store(0);
}

bool PageGuard::lost() const {
  return slot_ != kNoSlot && registry().ranges[slot_].lost.load();
}

}  // namespace sluice
