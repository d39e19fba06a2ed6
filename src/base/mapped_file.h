// A file, mapped read-only into memory.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace sluice {

class MappedFile {
 public:
  // Throws Error if the file can't be opened, is not a regular file, or can't be mapped. An empty file maps
  // to an empty span.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::span<const std::byte> bytes() const { return bytes_; }
  std::string_view text() const;

 private:
  std::filesystem::path path_;
  std::span<const std::byte> bytes_;
};

// False only if nothing has that name: a file that is there but can't be seen fails when it is opened.
bool is_there(const std::filesystem::path& path);

// The whole of a small text file. Throws Error if it can't be read or is larger than `max_bytes`.
std::string read_text_file(const std::filesystem::path& path, std::size_t max_bytes);

}  // namespace sluice
