#include "base/reserved_memory.h"

#include <cerrno>
#include <cstring>
#include <string>

#include <sys/mman.h>

#include "base/error.h"

namespace sluice {

ReservedMemory::ReservedMemory(std::size_t n, std::string_view what_to_do) : size_(n) {
  if (n == 0) return;
  void* address =
      ::mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED)
    throw Error("can't reserve " + std::to_string(n) + " bytes: " + std::strerror(errno), "memory",
                what_to_do);
  data_ = static_cast<std::byte*>(address);
}

ReservedMemory::~ReservedMemory() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

void ReservedMemory::clear() {
  if (data_ != nullptr) SLUICE_CHECK(::madvise(data_, size_, MADV_DONTNEED) == 0);
}

}  // namespace sluice
