// Where results go: standard output, and files that appear whole or not at all.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::cli {

// Writes all of `text` to standard output, unbuffered, so that a stream is seen as it comes. Throws ClosedPipe
// if its reader has gone, Error if it can't be written, Interrupted on Ctrl-C while it waits for a reader.
void to_stdout(std::string_view text);

// Throws Error if `output` is one of the files `inputs`, under whatever name: a result must not replace what it comes from.
void refuse_to_replace(const std::filesystem::path& output, const std::vector<std::filesystem::path>& inputs);

// A file under construction: it lies beside its place under another name until `commit` moves it there. Without
// `commit` it vanishes, also if a signal ends the program. What is not a regular file (a pipe, a device) is written
// directly. A file that is there already gives its permissions to the new one, and its owner as far as the system
// lets us. A few at a time.
class OutputFile {
 public:
  // Throws Error if it can't be created, or if there is a file that may not be written; Interrupted on Ctrl-C.
  explicit OutputFile(const std::filesystem::path& path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  // All throw Error naming the file if the disk is full or fails.
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  // What was written so far has reached the disk: a full one is noticed now. Nothing where there is no disk.
  void sync();
  void commit();

 private:
  void open_directly();
  void discard();
  [[noreturn]] void fail(int error) const;

  std::filesystem::path path_;       // as the user named it
  std::filesystem::path target_;     // with links resolved
  std::filesystem::path temporary_;  // empty: written directly, or committed
  std::size_t on_kill_ = 0;          // of remove_on_kill, while there is a temporary file
  int descriptor_ = -1;
};

}  // namespace sluice::cli
