#include "cli/interrupt.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <string>

#include <poll.h>
#include <unistd.h>

#include "cli/exit.h"

namespace sluice::cli {
namespace {

std::atomic<bool> interrupted = false;
std::atomic<bool> ends_at_once = false;
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may only touch lock-free atomics");

// A handler must not touch the heap, so the name lies here; it counts while `unfinished` is set.
std::array<char, PATH_MAX> unfinished_name;
std::atomic<bool> unfinished = false;

void on_signal(int signal) {
  if (ends_at_once) {
    remove_unfinished_file();
    ::_exit(kInterrupted);
  }
  if (!interrupted.exchange(true)) return;
  remove_unfinished_file();
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

void remove_on_kill(const std::filesystem::path& file) {
  const std::string& name = file.native();
  if (name.size() >= unfinished_name.size()) return;  // no system call takes such a name
  std::ranges::copy(name, unfinished_name.begin());
  unfinished_name[name.size()] = '\0';
  unfinished = true;
}

void keep_on_kill() {
  unfinished = false;
}

void remove_unfinished_file() {
  if (unfinished) ::unlink(unfinished_name.data());
}

}  // namespace sluice::cli
