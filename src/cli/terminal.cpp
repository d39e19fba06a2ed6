#include "cli/terminal.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/exit.h"
#include "cli/interrupt.h"

namespace sluice::cli {
namespace {

bool takes_colours() {
  const char* no_colour = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  return is_terminal(2) && (no_colour == nullptr || *no_colour == '\0') && term != nullptr &&
         std::string_view(term) != "dumb";
}

bool takes_more_now(int descriptor) {
  pollfd waiting = {.fd = descriptor, .events = POLLOUT, .revents = 0};
  return ::poll(&waiting, 1, 0) == 1;
}

}  // namespace

bool is_terminal(int descriptor) {
  return ::isatty(descriptor) == 1;
}

void to_stderr(std::string_view text) {
  while (!text.empty()) {
    // Whoever has asked for the program's end doesn't wait for a reader of its last words.
    if (interrupt_flag() && !takes_more_now(STDERR_FILENO)) return;
    const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
    try {
      if (written < 0 && should_retry(errno, STDERR_FILENO, POLLOUT)) continue;
    } catch (const Interrupted&) {
      return;
    }
    if (written <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

std::string styled(std::string_view text, Style style) {
  if (!takes_colours()) return std::string(text);
  constexpr std::array<const char*, 3> kCodes = {"1;31", "1;33", "2"};
  return fmt::format("\x1b[{}m{}\x1b[0m", kCodes[static_cast<std::size_t>(style)], text);
}

void warn(std::string_view what) {
  constexpr std::size_t kMostBytes = 1000;
  to_stderr(fmt::format("{} {}\n", styled("sluice: warning:", Style::kWarning), printable(what, kMostBytes)));
}

ProgressBar::~ProgressBar() {
  if (drawn_) to_stderr("\r\x1b[K");
}

void ProgressBar::update(std::size_t done, std::size_t total) {
  // What is over in a moment needs no bar.
  constexpr auto kPatience = std::chrono::milliseconds(300);
  constexpr auto kBetween = std::chrono::milliseconds(50);
  const auto now = Clock::now();
  if (!shown_ || total == 0 || now - started_ < kPatience || now - last_drawn_ < kBetween) return;
  constexpr std::size_t kWidth = 30;
  const double share = std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
  const auto full = static_cast<std::size_t>(share * static_cast<double>(kWidth));
  to_stderr(fmt::format("\r{} [{:#<{}}{:.<{}}] {:3.0f}%", label_, "", full, "", kWidth - full, share * 100));
  drawn_ = true;
  last_drawn_ = now;
}

}  // namespace sluice::cli
