#include "cli/bench_load.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <span>
#include <thread>

#include <fcntl.h>
#include <unistd.h>

#include "base/error.h"
#include "base/huge_memory.h"
#include "base/median.h"
#include "cli/interrupt.h"

namespace sluice::cli {
namespace {

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

struct Piece {
  const std::filesystem::path* file;
  std::size_t offset;  // in the file
  std::size_t place;   // in memory
  std::size_t bytes;
};

std::vector<Piece> pieces_of(const std::vector<const MappedFile*>& files) {
  constexpr std::size_t kPiece = std::size_t{4} << 20U;
  std::vector<Piece> pieces;
  std::size_t place = 0;
  for (const MappedFile* file : files) {
    const std::size_t size = file->bytes().size();
    for (std::size_t offset = 0; offset < size; offset += kPiece) {
      const std::size_t bytes = std::min(kPiece, size - offset);
      pieces.push_back({&file->path(), offset, place, bytes});
      place += bytes;
    }
  }
  return pieces;
}

// False if it can't be read.
bool read_piece(const Piece& piece, std::span<std::byte> memory) {
  const int fd = ::open(piece.file->c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  std::size_t done = 0;
  while (done < piece.bytes) {
    const ssize_t n = ::pread(fd, memory.data() + piece.place + done, piece.bytes - done,
                              static_cast<off_t>(piece.offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    done += static_cast<std::size_t>(n);
  }
  ::close(fd);
  return done == piece.bytes;
}

double read_files(const std::vector<const MappedFile*>& files, std::size_t n_threads) {
  const std::vector<Piece> pieces = pieces_of(files);
  HugeMemory memory(pieces.empty() ? 0 : pieces.back().place + pieces.back().bytes);
  std::atomic<std::size_t> next = 0;
  std::atomic<bool> good = true;
  const auto work = [&] {
    for (std::size_t i = next++; i < pieces.size(); i = next++)
      if (!read_piece(pieces[i], memory.bytes())) good = false;
  };
  const double seconds = seconds_of([&] {
    std::vector<std::jthread> threads;
    for (std::size_t i = 1; i < n_threads; ++i) threads.emplace_back(work);
    work();
  });
  if (!good) throw Error("the model's files can't be read again", "bench", "are they still there?");
  return seconds;
}

}  // namespace

double LoadFigure::ratio() const {
  return median(seconds) / median(read_seconds);
}

LoadFigure measure_load(const std::vector<const MappedFile*>& files, std::size_t n_threads,
                        const std::function<void()>& load) {
  constexpr int kReps = 3;
  LoadFigure figure;
  for (const MappedFile* file : files) figure.file_bytes += file->bytes().size();
  read_files(files, n_threads);
  load();
  for (int i = 0; i < kReps; ++i) {
    throw_if_interrupted();
    figure.read_seconds.push_back(read_files(files, n_threads));
    figure.seconds.push_back(seconds_of(load));
  }
  return figure;
}

}  // namespace sluice::cli
