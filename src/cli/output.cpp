#include "cli/output.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <random>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/exit.h"
#include "cli/interrupt.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

// Writes everything; gives 0 or the error number.
int write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor, text.data(), text.size());
    if (written < 0 && errno == EINTR) {
      throw_if_interrupted();  // nobody reads any more: don't wait for it
      continue;
    }
    if (written < 0) return errno;
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

bool must_be_written_directly(const fs::path& path) {
  std::error_code ignored;
  const fs::file_status status = fs::status(path, ignored);
  return fs::exists(status) && !fs::is_regular_file(status);
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

}  // namespace

void to_stdout(std::string_view text) {
  const int error = write_all(STDOUT_FILENO, text);
  if (error == EPIPE) throw ClosedPipe();
  if (error != 0) throw Error(cause(error), "standard output", advice(error));
}

OutputFile::OutputFile(const fs::path& path) : path_(path), target_(path) {
  if (must_be_written_directly(path)) {
    descriptor_ = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (descriptor_ < 0) fail(errno);
    return;
  }
  target_ = behind_links(path);
  std::random_device random;
  for (int attempt = 0; attempt < 16 && descriptor_ < 0; ++attempt) {
    temporary_ = target_;
    temporary_ += fmt::format(".{:08x}.part", random());
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ < 0 && errno != EEXIST) break;
  }
  if (descriptor_ < 0) fail(errno);
  remove_on_kill(temporary_);
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (temporary_.empty()) return;
  ::unlink(temporary_.c_str());
  keep_on_kill();
}

void OutputFile::write(std::span<const std::byte> bytes) {
  const int error = write_all(descriptor_, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  if (error == EPIPE) throw ClosedPipe();
  if (error != 0) fail(error);
}

void OutputFile::commit() {
  // Some file systems report a full disk only now.
  if (!temporary_.empty() && ::fsync(descriptor_) != 0) fail(errno);
  if (::close(std::exchange(descriptor_, -1)) != 0) fail(errno);
  if (temporary_.empty()) return;
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail(errno);
  keep_on_kill();
  temporary_.clear();
}

void OutputFile::fail(int error) const {
  throw Error(cause(error), path_.string(), advice(error));
}

}  // namespace sluice::cli
