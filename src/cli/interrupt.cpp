#include "cli/interrupt.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <string>

#include <poll.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/exit.h"

namespace sluice::cli {
namespace {

std::atomic<bool> interrupted = false;
std::atomic<bool> ends_at_once = false;
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may only touch lock-free atomics");

// A handler must not touch the heap, so the names lie here; one counts while its `is_there` is set.
struct UnfinishedFile {
  std::array<char, PATH_MAX> name{};
  std::atomic<bool> is_there = false;
};
std::array<UnfinishedFile, 4> unfinished_files;

void on_signal(int signal) {
  if (ends_at_once) {
    remove_unfinished_files();
    ::_exit(kInterrupted);
  }
  if (!interrupted.exchange(true)) return;
  remove_unfinished_files();
  std::signal(signal, SIG_DFL);
  static_cast<void>(std::raise(signal));  // kills as soon as this handler returns
}

}  // namespace

void handle_interrupts() {
  struct sigaction action{};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  struct sigaction hang_up{};
  sigaction(SIGHUP, nullptr, &hang_up);
  if (hang_up.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);
}

EndOnInterrupt::EndOnInterrupt() : before_(ends_at_once.exchange(true)) {
  if (!interrupted) return;  // from here on a signal finds `ends_at_once`
  ends_at_once = before_;
  throw Interrupted();
}

EndOnInterrupt::~EndOnInterrupt() {
  ends_at_once = before_;
}

const std::atomic<bool>& interrupt_flag() {
  return interrupted;
}

void throw_if_interrupted() {
  if (interrupted) throw Interrupted();
}

bool was_cut_short(int error) {
  if (error != EINTR) return false;
  throw_if_interrupted();
  return true;
}

bool should_retry(int error, int descriptor, short events) {
  if (error != EAGAIN) return was_cut_short(error);
  pollfd waiting = {.fd = descriptor, .events = events, .revents = 0};
  return ::poll(&waiting, 1, -1) >= 0 || was_cut_short(errno);
}

std::size_t remove_on_kill(const std::filesystem::path& file) {
  auto* const free = std::ranges::find_if(unfinished_files, [](const auto& it) { return !it.is_there; });
  SLUICE_CHECK(free != unfinished_files.end());
  const std::string& name = file.native();
  if (name.size() < free->name.size()) {  // no system call takes a longer one
    std::ranges::copy(name, free->name.begin());
    free->name[name.size()] = '\0';
    free->is_there = true;
  }
  return static_cast<std::size_t>(free - unfinished_files.begin());
}

void keep_on_kill(std::size_t which) {
  unfinished_files.at(which).is_there = false;
}

void remove_unfinished_files() {
  for (const UnfinishedFile& file : unfinished_files)
    if (file.is_there) ::unlink(file.name.data());
}

}  // namespace sluice::cli
