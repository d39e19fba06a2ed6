#include "base/mapped_file.h"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <system_error>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/page_guard.h"

namespace sluice {
namespace {

// An open file descriptor.
class Descriptor {
 public:
  // O_NONBLOCK: a pipe under the file's name must be an error, not a wait for its writer.
  explicit Descriptor(const std::filesystem::path& path)
      : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    if (fd_ < 0)
      throw Error(std::string("can't open: ") + std::strerror(errno), path.string(),
                  "is it there, and may you read it?");
  }
  ~Descriptor() { ::close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

// A private mapping of the first `size` bytes of a file.
class Region {
 public:
  Region(int descriptor, std::size_t size, const std::filesystem::path& path) {
    if (size == 0) return;
    void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (address == MAP_FAILED)
      throw Error(std::string("can't map into memory: ") + std::strerror(errno), path.string());
    bytes_ = {static_cast<const std::byte*>(address), size};
  }
  ~Region() {
    if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  }
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

struct stat status_of(const Descriptor& file, const std::filesystem::path& path) {
  struct stat status{};
  if (::fstat(file.get(), &status) != 0)
    throw Error(std::string("can't read: ") + std::strerror(errno), path.string());
  if (!S_ISREG(status.st_mode)) throw Error("not a regular file", path.string(), "put the file itself there");
  return status;
}

std::size_t size_of(const struct stat& status) {
  return static_cast<std::size_t>(status.st_size);
}

bool same_time(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

}  // namespace

// The descriptor stays open to see the state of this very file, whatever has its name by then.
struct MappedFile::Mapping {
  explicit Mapping(const std::filesystem::path& path)
      : file(path),
        opened(status_of(file, path)),
        region(file.get(), size_of(opened), path),
        guard(region.bytes()) {}

  Descriptor file;
  struct stat opened;
  Region region;
  PageGuard guard;
};

MappedFile::MappedFile(const std::filesystem::path& path)
    : path_(path), mapping_(std::make_unique<const Mapping>(path)) {}

MappedFile::~MappedFile() = default;
MappedFile::MappedFile(MappedFile&& other) noexcept = default;
MappedFile& MappedFile::operator=(MappedFile&& other) noexcept = default;

std::span<const std::byte> MappedFile::bytes() const {
  return mapping_ == nullptr ? std::span<const std::byte>() : mapping_->region.bytes();
}

void MappedFile::check_intact() const {
  if (mapping_ == nullptr) return;
  const struct stat now = status_of(mapping_->file, path_);
  const std::size_t size = size_of(now);
  const std::size_t mapped = bytes().size();
  if (size < mapped) {
    throw Error("shrank from " + std::to_string(mapped) + " to " + std::to_string(size) +
                    " bytes while it was in use",
                path_.string(), "put the whole file there and start again");
  }
  if (size != mapped || !same_time(now.st_mtim, mapping_->opened.st_mtim))
    throw Error("was changed while it was in use", path_.string(), "start again when it is complete");
  if (mapping_->guard.lost())
    throw Error("couldn't be read while it was in use", path_.string(), "is its disk failing?");
}

FileIdentity MappedFile::identity() const {
  if (mapping_ == nullptr) return {};
  const struct stat now = status_of(mapping_->file, path_);
  const auto nanoseconds = [](const timespec& time) {
    return time.tv_sec * std::int64_t{1'000'000'000} + time.tv_nsec;
  };
  return {.device = now.st_dev,
          .inode = now.st_ino,
          .size = size_of(now),
          .modified_ns = nanoseconds(now.st_mtim),
          .changed_ns = nanoseconds(now.st_ctim)};
}

void MappedFile::drop(std::span<const std::byte> part) const {
  const std::span<const std::byte> all = bytes();
  if (part.empty()) return;
  SLUICE_CHECK(part.data() >= all.data() && part.data() + part.size() <= all.data() + all.size());
  static const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const auto offset = static_cast<std::size_t>(part.data() - all.data());
  const std::size_t begin = (offset + page - 1) / page * page;
  const std::size_t end = part.data() + part.size() == all.data() + all.size()
                              ? all.size()  // nothing else is in the last page
                              : (offset + part.size()) / page * page;
  // Refused (locked pages), it costs memory and no more.
  if (begin < end)
    static_cast<void>(::madvise(const_cast<std::byte*>(all.data()) + begin, end - begin, MADV_DONTNEED));
}

std::string_view MappedFile::text() const {
  return {reinterpret_cast<const char*>(bytes().data()), bytes().size()};
}

bool is_there(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::status(path, ignored).type() != std::filesystem::file_type::not_found;
}

std::string read_text_file(const std::filesystem::path& path, std::size_t max_bytes) {
  const MappedFile file(path);
  if (file.bytes().size() > max_bytes) {
    throw Error("file of " + std::to_string(file.bytes().size()) + " bytes is too large", path.string(),
                "at most " + std::to_string(max_bytes) + " bytes are expected here");
  }
  std::string text(file.text());
  file.check_intact();
  return text;
}

}  // namespace sluice
