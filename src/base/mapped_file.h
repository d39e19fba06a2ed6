// A file, mapped read-only into memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace sluice {

// What tells one state of a file from another without reading it. A change that keeps all of these is one in the same tick of
// the kernel's clock as the change before it.
struct FileIdentity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t size = 0;
  std::int64_t modified_ns = 0;  // nobody can forge the time of change; this one they can
  std::int64_t changed_ns = 0;
  bool operator==(const FileIdentity&) const = default;
};

// A file that shrinks while it is mapped reads as zeros where its bytes are gone (page_guard.h), and one that is written to
// may show both old and new bytes. So whoever has used the bytes asks check_intact() before anybody believes the result.
// Removing the file, or moving another one to its place, does no harm.
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
  std::span<const std::byte> bytes() const;
  std::string_view text() const;

  // Throws Error if bytes are gone or couldn't be read, or if the file was written to since it was opened, by its time of
  // modification. The kernel's clock for these ticks every few milliseconds: a change in the same tick as an earlier
  // one, just before the file was opened, is not seen.
  void check_intact() const;

  // Of the file as it is now. Throws Error if it can't be asked.
  FileIdentity identity() const;

  // Gives back the memory of the pages that lie in `part` of bytes() as a whole; they are read again, most likely from the
  // system's cache, when they are touched.
  void drop(std::span<const std::byte> part) const;

 private:
  struct Mapping;

  std::filesystem::path path_;
  std::unique_ptr<const Mapping> mapping_;
};

// False only if nothing has that name: a file that is there but can't be seen fails when it is opened.
bool is_there(const std::filesystem::path& path);

// The whole of a small text file. Throws Error if it can't be read or is larger than `max_bytes`.
std::string read_text_file(const std::filesystem::path& path, std::size_t max_bytes);

}  // namespace sluice
