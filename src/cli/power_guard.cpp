#include "cli/power_guard.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <exception>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/terminal.h"
#include "cuda/nvml.h"

namespace sluice::cli {
namespace {

struct Message {
  std::array<char, 32> pci_bus_id{};
  double watts = 0;
};

std::string reason(int error) {
  return std::error_code(error, std::generic_category()).message();
}

// Whole messages alone: pipes take so few bytes at once.
bool read_message(int pipe, Message& message) {
  for (;;) {
    const ssize_t n = ::read(pipe, &message, sizeof message);
    if (n < 0 && errno == EINTR) continue;
    return n == ssize_t{sizeof message};
  }
}

void restore_limit(const Message& message) {
  const cuda::PowerMeter meter(message.pci_bus_id.data());
  if (meter.limit() != message.watts) meter.set_limit(message.watts);
}

// Of a session of its own, so that Ctrl-C at the terminal is none of its business.
[[noreturn]] void wait_and_restore(int pipe) {
  ::setsid();
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) std::signal(signal, SIG_IGN);
  // Nobody shall wait for the end of our output because it has that open, too.
  const int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(nothing, descriptor);
  Message message;
  bool is_set = false;
  while (read_message(pipe, message)) is_set = true;
  try {
    if (is_set) restore_limit(message);
    ::_exit(0);
  } catch (const std::exception&) {
    ::_exit(1);
  }
}

}  // namespace

PowerGuard::PowerGuard() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0)
    throw Error("no pipe can be made: " + reason(errno), "--power-limits");
  process_ = ::fork();
  if (process_ == 0) {
    ::close(ends[1]);
    wait_and_restore(ends[0]);
  }
  const int error = errno;
  ::close(ends[0]);
  pipe_ = ends[1];
  if (process_ > 0) return;
  ::close(pipe_);
  throw Error("no process can be started: " + reason(error), "--power-limits");
}

PowerGuard::~PowerGuard() {
  try {
    restore();
  } catch (const Error& error) {
    warn(error.what());
  }
}

void PowerGuard::remember(const std::string& pci_bus_id, double watts) {
  Message message{.pci_bus_id = {}, .watts = watts};
  SLUICE_CHECK(process_ != 0 && pci_bus_id.size() < message.pci_bus_id.size());
  std::memcpy(message.pci_bus_id.data(), pci_bus_id.data(), pci_bus_id.size());
  ssize_t n = 0;
  do {
    n = ::write(pipe_, &message, sizeof message);
  } while (n < 0 && errno == EINTR);
  if (n != ssize_t{sizeof message})
    throw Error("the process that puts the power limit back has ended", "--power-limits",
                "the limit is as it was");
  watts_ = watts;
}

void PowerGuard::restore() {
  if (process_ == 0) return;
  ::close(pipe_);
  int status = 0;
  while (::waitpid(process_, &status, 0) < 0 && errno == EINTR) {
  }
  process_ = 0;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  throw Error("the GPU's power limit could not be put back", "--power-limits",
              fmt::format("set it: nvidia-smi -pl {:.0f}", watts_));
}

}  // namespace sluice::cli
