// A file that lives in memory, for readers that take paths.
#pragma once

#include <cstddef>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>

#include <sys/mman.h>
#include <unistd.h>

namespace sluice::fuzz {

class MemoryFile {
 public:
  MemoryFile() : descriptor_(::memfd_create("input", MFD_CLOEXEC)) {
    if (descriptor_ < 0) throw std::runtime_error("memfd_create failed");
  }
  ~MemoryFile() { ::close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  // For this process only.
  std::filesystem::path path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

  // Replaces what it holds. Nobody may have it mapped.
  void set(std::string_view bytes) const {
    if (::ftruncate(descriptor_, 0) != 0) throw std::runtime_error("ftruncate failed");
    for (std::size_t done = 0; done < bytes.size();) {
      const ssize_t count =
          ::pwrite(descriptor_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(done));
      if (count <= 0) throw std::runtime_error("pwrite failed");
      done += static_cast<std::size_t>(count);
    }
  }

 private:
  int descriptor_;
};

}  // namespace sluice::fuzz
