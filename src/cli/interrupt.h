// Ctrl-C. The first one asks the program to stop in good order, the second one kills it.
#pragma once

#include <atomic>
#include <cstddef>
#include <filesystem>

namespace sluice::cli {

// From now on the first SIGINT, SIGTERM or SIGHUP sets the flag below; the next has its default effect, after the file
// below s are removed. System calls that wait return early with EINTR. SIGHUP stays ignored if it is (nohup).
void handle_interrupts();

// While one lives, already the first of these signals ends the program, with exit code 130: for work that looks at no
// flag and for calls that may wait for ever, where nothing but the files below would stay behind.
class EndOnInterrupt {
 public:
  // Throws Interrupted if the flag is set.
  EndOnInterrupt();
  ~EndOnInterrupt();
  EndOnInterrupt(const EndOnInterrupt&) = delete;
  EndOnInterrupt& operator=(const EndOnInterrupt&) = delete;

 private:
  bool before_;
};

const std::atomic<bool>& interrupt_flag();

// Throws Interrupted if the flag is set.
void throw_if_interrupted();

// Whether a system call that failed with `error` was only cut short by a signal, so that it should be made again. Throws
// Interrupted if the signal was one of those above.
bool was_cut_short(int error);

// The same, also if `descriptor` is in non-blocking mode and wasn't ready: this waits for it. `events`: poll's.
bool should_retry(int error, int descriptor, short events);

// Files, a few at a time, that must not stay behind when a signal ends the program: until `keep_on_kill` of what
// `remove_on_kill` gives.
std::size_t remove_on_kill(const std::filesystem::path& file);
void keep_on_kill(std::size_t which);

// Removes those files. Async-signal-safe.
void remove_unfinished_files();

}  // namespace sluice::cli
