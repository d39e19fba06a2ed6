// The PTX inside a fat binary, as nvcc -fatbin and nvcc's object files hold it: no public document describes the format; what
// is read here is what nvcc 12 and 13 write. Machine code in it (SASS) is passed over.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>

namespace sluice::ptx {

bool is_fat_binary(std::span<const std::byte> image);

// The fat binary at an address, which may also be that of the wrapper that nvcc embeds in programs; nothing if there is neither.
// Reads 4 bytes, and more only if they say what follows.
std::optional<std::span<const std::byte>> fat_binary_at(const void* image);

// The PTX for a GPU of this compute capability (86 for 8.6): the newest that it can run. Text may be compressed, as LZ4 or as
// Zstandard, which need liblz4.so.1 or libzstd.so.1 at run time. Throws Error if there is none or the image is damaged.
std::string ptx_of(std::span<const std::byte> image, unsigned compute_capability);

}  // namespace sluice::ptx
