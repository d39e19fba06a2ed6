// Zeroed memory that is reserved at once and taken from the system page by page as it is touched.
#pragma once

#include <cstddef>
#include <string_view>
#include <utility>

namespace sluice {

class ReservedMemory {
 public:
  // Throws Error if the address space can't be had. `n` may be 0.
  explicit ReservedMemory(
      std::size_t n, std::string_view what_to_do =
                         "raise the limit (ulimit -v), or use a smaller model or a smaller context (-c)");
  ~ReservedMemory();
  ReservedMemory(ReservedMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  ReservedMemory& operator=(ReservedMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ReservedMemory(const ReservedMemory&) = delete;
  ReservedMemory& operator=(const ReservedMemory&) = delete;

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }

  // Gives the memory back to the system; it reads as zero again.
  void clear();

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace sluice
