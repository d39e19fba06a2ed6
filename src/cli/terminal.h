// What is shown only to a person at a terminal: colours and progress bars, on standard error.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

namespace sluice::cli {

bool is_terminal(int descriptor);

// Writes to standard error; a failure has nobody to be told to, so it is ignored. Doesn't wait for a reader after Ctrl-C.
void to_stderr(std::string_view text);

enum class Style : unsigned char { kError, kWarning, kFaint };

// `text`, coloured if standard error is a terminal that takes colours (NO_COLOR is not set).
std::string styled(std::string_view text, Style style);

// Prints the line "sluice: warning: WHAT" to standard error. `what` is made printable.
void warn(std::string_view what);

// One line that overwrites itself and vanishes in the end. Silent unless standard error is a terminal.
class ProgressBar {
 public:
  explicit ProgressBar(std::string label) : label_(std::move(label)), shown_(is_terminal(2)) {}
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void update(std::size_t done, std::size_t total);

 private:
  using Clock = std::chrono::steady_clock;
  std::string label_;
  bool shown_;
  bool drawn_ = false;
  Clock::time_point started_ = Clock::now();
  Clock::time_point last_drawn_ = started_;
};

}  // namespace sluice::cli
