#include "cpu/packed_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "cpu/parallel.h"

namespace sluice::cpu {
namespace {

static_assert(std::endian::native == std::endian::little, "words are written as they are");

constexpr std::size_t kChunk = std::size_t{1} << 20U;
constexpr std::size_t kDataAlignment = 4096;
constexpr std::uint64_t kVersion = 1;
constexpr std::array<char, 8> kMagic = {'S', 'L', 'U', 'I', 'C', 'E', 'P', 'K'};
constexpr std::size_t kCheckWord = 8;
constexpr std::size_t kHeaderWords = kCheckWord + 1;

[[noreturn]] void fail(const std::string& what, const std::filesystem::path& path) {
  throw Error(what, path.string());
}

[[noreturn]] void fail_errno(const std::string& what, const std::filesystem::path& path) {
  fail(what + ": " + std::strerror(errno), path);
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

off_t narrow(std::size_t offset) {
  return static_cast<off_t>(offset);
}

// Fewer bytes only where the file ends.
std::size_t read_at(int fd, std::span<std::byte> to, std::size_t offset, const std::filesystem::path& path) {
  std::size_t done = 0;
  while (done < to.size()) {
    const ssize_t n = ::pread(fd, to.data() + done, to.size() - done, narrow(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno("can't be read", path);
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  return done;
}

void write_at(int fd, std::span<const std::byte> from, std::size_t offset,
              const std::filesystem::path& path) {
  while (!from.empty()) {
    const ssize_t n = ::pwrite(fd, from.data(), from.size(), narrow(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail_errno("can't be written", path);
    from = from.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::size_t>(n);
  }
}

// A stretch of a chunk that is one stretch of memory, too.
struct Piece {
  std::size_t memory = 0;
  std::size_t file = 0;  // from the data's begin
  std::size_t bytes = 0;
};

// [chunks]  in order of the file
std::vector<std::vector<Piece>> chunks_of(const PackingPlan& plan) {
  std::vector<Piece> stretches;
  for (const PackedPart& part : plan.parts())
    stretches.push_back({.memory = part.memory, .file = part.file, .bytes = part.bytes});
  std::ranges::sort(stretches, {}, &Piece::file);
  std::vector<std::vector<Piece>> chunks((plan.bytes() + kChunk - 1) / kChunk);
  for (Piece rest : stretches) {
    while (rest.bytes > 0) {
      std::vector<Piece>& chunk = chunks[rest.file / kChunk];
      const std::size_t n = std::min(rest.bytes, kChunk - rest.file % kChunk);
      if (!chunk.empty() && chunk.back().memory + chunk.back().bytes == rest.memory) {
        chunk.back().bytes += n;
      } else {
        chunk.push_back({.memory = rest.memory, .file = rest.file, .bytes = n});
      }
      rest = {.memory = rest.memory + n, .file = rest.file + n, .bytes = rest.bytes - n};
    }
  }
  return chunks;
}

std::uint64_t check_of(const std::vector<Piece>& chunk, std::span<const std::byte> block) {
  if (chunk.size() == 1) return hash128(block.subspan(chunk[0].memory, chunk[0].bytes)).low;
  Hasher hasher;
  for (const Piece& piece : chunk) hasher.add(block.subspan(piece.memory, piece.bytes));
  return hasher.digest().low;
}

// The header's words and the chunks' checks.
std::vector<std::uint64_t> table_of(Hash128 content, Hash128 fingerprint, std::size_t bytes,
                                    std::span<const std::uint64_t> checks) {
  std::vector<std::uint64_t> table = {std::bit_cast<std::uint64_t>(kMagic),
                                      kVersion,
                                      content.low,
                                      content.high,
                                      fingerprint.low,
                                      fingerprint.high,
                                      bytes,
                                      kChunk,
                                      0};
  SLUICE_CHECK(table.size() == kHeaderWords);
  table.insert(table.end(), checks.begin(), checks.end());
  table[kCheckWord] = hash128(std::as_bytes(std::span(table))).low;
  return table;
}

std::size_t data_begin(std::size_t n_chunks) {
  const std::size_t table = (kHeaderWords + n_chunks) * sizeof(std::uint64_t);
  return (table + kDataAlignment - 1) / kDataAlignment * kDataAlignment;
}

// A file with a name of its own until it is renamed.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::filesystem::path& beside)
      : name_(beside.string() + ".XXXXXX"), file_(::mkostemp(name_.data(), O_CLOEXEC)) {
    if (file_.get() < 0) fail_errno("no file can be made there", beside.parent_path());
  }
  ~TemporaryFile() {
    if (!name_.empty()) ::unlink(name_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  int get() const { return file_.get(); }
  const std::string& name() const { return name_; }

  void rename_to(const std::filesystem::path& path) {
    if (::fsync(file_.get()) != 0) fail_errno("can't be written", name_);
    if (::rename(name_.c_str(), path.c_str()) != 0) fail_errno("can't be put into its place", path);
    name_.clear();
  }

 private:
  std::string name_;
  Descriptor file_;
};

auto reporter(const LoadEvents& events, LoadStage stage, std::size_t total) {
  return [&events, stage, total](std::size_t done) {
    if (events.progress) events.progress(stage, done, total);
  };
}

}  // namespace

PackedFile::PackedFile(std::filesystem::path path, Hash128 content, const PackingPlan& plan,
                       Hash128 fingerprint)
    : path_(std::move(path)), content_(content), fingerprint_(fingerprint), plan_(plan) {}

bool PackedFile::read(Workers& workers, const LoadEvents& events, std::span<std::byte> block) const {
  SLUICE_CHECK(block.size() == plan_.bytes());
  // O_NONBLOCK: a pipe of that name must be an error, not a wait.
  const Descriptor file(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0 && (errno == ENOENT || errno == ENOTDIR)) return false;
  if (file.get() < 0) fail_errno("can't be opened", path_);
  const std::vector<std::vector<Piece>> chunks = chunks_of(plan_);
  const std::size_t begin = data_begin(chunks.size());
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) fail_errno("can't be read", path_);
  if (!S_ISREG(status.st_mode) || static_cast<std::size_t>(status.st_size) != begin + plan_.bytes())
    fail("is not of the size that it should have", path_);

  std::vector<std::uint64_t> table(kHeaderWords + chunks.size());
  const std::span<std::uint64_t> checks = std::span(table).subspan(kHeaderWords);
  read_at(file.get(), std::as_writable_bytes(std::span(table)), 0, path_);
  if (table != table_of(content_, fingerprint_, plan_.bytes(), checks)) fail("has a damaged header", path_);
  parallel_for(
      workers, chunks.size(),
      [&](std::size_t, std::size_t i) {
        for (const Piece& piece : chunks[i]) {
          const std::span<std::byte> to = block.subspan(piece.memory, piece.bytes);
          if (read_at(file.get(), to, begin + piece.file, path_) < to.size())
            fail("has become shorter", path_);
        }
        if (check_of(chunks[i], block) != checks[i]) fail("is damaged", path_);
      },
      reporter(events, LoadStage::kRead, chunks.size()));
  return true;
}

void PackedFile::write(Workers& workers, const LoadEvents& events, std::span<const std::byte> block) const {
  SLUICE_CHECK(block.size() == plan_.bytes());
  const std::vector<std::vector<Piece>> chunks = chunks_of(plan_);
  const std::size_t begin = data_begin(chunks.size());
  TemporaryFile file(path_);
  // A full disk is known at once where the file system can tell.
  if (::fallocate(file.get(), 0, 0, narrow(begin + plan_.bytes())) != 0 && errno == ENOSPC)
    fail_errno("can't be written", file.name());
  std::vector<std::uint64_t> checks(chunks.size());
  parallel_for(
      workers, chunks.size(),
      [&](std::size_t, std::size_t i) {
        for (const Piece& piece : chunks[i])
          write_at(file.get(), block.subspan(piece.memory, piece.bytes), begin + piece.file, file.name());
        checks[i] = check_of(chunks[i], block);
      },
      reporter(events, LoadStage::kWrite, chunks.size()));
  std::vector<std::uint64_t> table = table_of(content_, fingerprint_, plan_.bytes(), checks);
  table.resize(begin / sizeof(std::uint64_t));
  write_at(file.get(), std::as_bytes(std::span(table)), 0, file.name());
  file.rename_to(path_);
}

}  // namespace sluice::cpu
