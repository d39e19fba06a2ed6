// Images: what a program hands over to be loaded.
#include <algorithm>
#include <cstring>
#include <span>

#include <fmt/format.h>

#include "base/mapped_file.h"
#include "ptx/driver/modules.h"
#include "ptx/fat_binary.h"

namespace sluice::ptx::api {
namespace {

constexpr std::size_t kMaxFile = std::size_t{1} << 30U;

// Sizes are stored in the pointers of the options' values themselves.
void set_size(void** size, std::size_t value) {
  if (size != nullptr) *size = reinterpret_cast<void*>(value);
}

}  // namespace

JitLog::JitLog(unsigned count, const CUjit_option* options, void** values) {
  require(count == 0 || (options != nullptr && values != nullptr));
  for (unsigned i = 0; i < count; ++i) {
    switch (options[i]) {
      case CU_JIT_ERROR_LOG_BUFFER:
        error_ = static_cast<char*>(values[i]);
        break;
      case CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES:
        error_size_ = &values[i];
        break;
      case CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES:
        set_size(&values[i], 0);
        break;
      default:
        break;  // how to compile: there is nothing to compile
    }
  }
  if (error_ == nullptr || error_size_ == nullptr) return;
  error_capacity_ = static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(*error_size_));
  set_size(error_size_, 0);
}

void JitLog::write(std::string_view message) const {
  if (error_capacity_ == 0) return;
  const std::size_t count = std::min(message.size(), error_capacity_ - 1);
  std::memcpy(error_, message.data(), count);
  error_[count] = '\0';
  set_size(error_size_, count);
}

std::string text_of(const void* image, const Gpu& gpu) {
  require(image != nullptr);
  const std::optional<std::span<const std::byte>> fat = fat_binary_at(image);
  return fat ? ptx_of(*fat, gpu.compute_capability) : std::string(static_cast<const char*>(image));
}

std::string text_of(const void* image, std::size_t bytes, const Gpu& gpu) {
  const std::span given(static_cast<const std::byte*>(image), bytes);
  if (is_fat_binary(given)) return ptx_of(given, gpu.compute_capability);
  const std::string text(static_cast<const char*>(image), bytes);
  return text.substr(0, text.find('\0'));
}

std::string text_of_file(const char* file, const Gpu& gpu) {
  require(file != nullptr);
  require(is_there(file), CUDA_ERROR_FILE_NOT_FOUND, fmt::format("there is no file {}", printable(file)));
  const std::string contents = read_text_file(file, kMaxFile);
  return text_of(contents.data(), contents.size(), gpu);
}

}  // namespace sluice::ptx::api
