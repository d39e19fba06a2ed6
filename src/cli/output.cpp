#include "cli/output.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <random>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/exit.h"
#include "cli/interrupt.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

constexpr mode_t kPermissions = 0777;

// Writes everything; gives 0 or the error number. Throws Interrupted on Ctrl-C while nobody reads any more.
int write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor, text.data(), text.size());
    if (written < 0) {
      const int error = errno;
      if (should_retry(error, descriptor, POLLOUT)) continue;
      return error;
    }
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

std::string cause(int error) {
  return std::string("can't write: ") + std::strerror(error);
}

std::string advice(int error) {
  if (error == ENOSPC || error == EDQUOT) return "free some space or write elsewhere";
  if (error == EFBIG) return "raise the limit on file sizes (ulimit -f) or write elsewhere";
  if (error == EACCES || error == EPERM || error == EROFS) return "write to a place that you may write to";
  if (error == ENOENT || error == ENOTDIR) return "create its folder first";
  return {};
}

// What a link leads to, also if that doesn't exist yet: the linked file is to be replaced, not the link.
fs::path behind_links(fs::path path) {
  constexpr int kMostLinks = 40;  // the kernel's own limit
  std::error_code error;
  for (int link = 0; link < kMostLinks; ++link) {
    const fs::path next = fs::read_symlink(path, error);
    if (error) break;
    path = path.parent_path() / next;
  }
  return path;
}

// Gives `descriptor` the permissions of `old`; and its owner and group, which a user may keep only in part. Returns 0 or
// the error number.
int take_after(int descriptor, const struct stat& old) {
  if (old.st_uid != ::geteuid() || old.st_gid != ::getegid()) {
    if (::fchown(descriptor, old.st_uid, old.st_gid) != 0)
      static_cast<void>(::fchown(descriptor, static_cast<uid_t>(-1), old.st_gid) == 0);
  }
  return ::fchmod(descriptor, old.st_mode & kPermissions) == 0 ? 0 : errno;
}

}  // namespace

void to_stdout(std::string_view text) {
  const int error = write_all(STDOUT_FILENO, text);
  if (error == EPIPE) throw ClosedPipe();
  if (error != 0) throw Error(cause(error), "standard output", advice(error));
}

void refuse_to_replace(const fs::path& output, const std::vector<fs::path>& inputs) {
  std::error_code ignored;  // what can't be seen is told when it is opened
  if (!fs::is_regular_file(output, ignored)) return;
  for (const fs::path& input : inputs)
    if (fs::equivalent(output, input, ignored))
      throw Error("can't write: the result comes from this very file", output.string(), "write elsewhere");
}

OutputFile::OutputFile(const fs::path& path) : path_(path), target_(path) {
  struct stat old{};
  const bool exists = ::stat(path.c_str(), &old) == 0;
  if (!exists && errno != ENOENT) fail(errno);
  if (exists && !S_ISREG(old.st_mode)) {
    open_directly();
    return;
  }
  if (exists && ::faccessat(AT_FDCWD, path.c_str(), W_OK, AT_EACCESS) != 0) fail(errno);
  const mode_t mode = exists ? old.st_mode & kPermissions : mode_t{0666};
  target_ = behind_links(path);
  std::random_device random;
  for (int attempt = 0; attempt < 16 && descriptor_ < 0; ++attempt) {
    temporary_ = target_;
    temporary_ += fmt::format(".{:08x}.part", random());
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (descriptor_ < 0 && errno != EEXIST && !was_cut_short(errno)) break;
  }
  if (descriptor_ < 0) fail(errno);
  on_kill_ = remove_on_kill(temporary_);
  const int error = exists ? take_after(descriptor_, old) : 0;
  if (error != 0) {
    discard();
    fail(error);
  }
}

void OutputFile::open_directly() {
  const EndOnInterrupt at_once;  // a pipe may never have a reader
  do {
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
  } while (descriptor_ < 0 && was_cut_short(errno));
  if (descriptor_ < 0) fail(errno);
}

OutputFile::~OutputFile() {
  discard();
}

void OutputFile::discard() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (temporary_.empty()) return;
  ::unlink(temporary_.c_str());
  keep_on_kill(on_kill_);
}

void OutputFile::write(std::span<const std::byte> bytes) {
  const int error = write_all(descriptor_, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  if (error == EPIPE) throw ClosedPipe();
  if (error != 0) fail(error);
}

void OutputFile::sync() {
  while (!temporary_.empty() && ::fsync(descriptor_) != 0)
    if (const int error = errno; !was_cut_short(error)) fail(error);
}

void OutputFile::commit() {
  sync();  // some file systems report a full disk only now
  // Cut short or not, it is closed then.
  if (::close(std::exchange(descriptor_, -1)) != 0 && errno != EINTR) fail(errno);
  if (temporary_.empty()) return;
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail(errno);
  keep_on_kill(on_kill_);
  temporary_.clear();
}

void OutputFile::fail(int error) const {
  throw Error(cause(error), path_.string(), advice(error));
}

}  // namespace sluice::cli
