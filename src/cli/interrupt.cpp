#include "cli/interrupt.h"

#include <csignal>

#include "cli/exit.h"

namespace sluice::cli {
namespace {

std::atomic<bool> interrupted = false;
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may only touch lock-free atomics");

void on_signal(int /*signal*/) {
  interrupted = true;
}

}  // namespace

void handle_interrupts() {
  struct sigaction action{};
  action.sa_handler = on_signal;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

const std::atomic<bool>& interrupt_flag() {
  return interrupted;
}

void throw_if_interrupted() {
  if (interrupted) throw Interrupted();
}

}  // namespace sluice::cli
