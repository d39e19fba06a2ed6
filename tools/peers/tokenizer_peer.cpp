// Times our tokenizer in one thread, for tokenizer_speed.py. Reads lines from standard input and answers each with one:
// "load FOLDER" with the milliseconds that loading took (wall clock), "encode FILE" with the processor milliseconds that
// encoding its text took, the number of ids, and a hash of them (FNV-1a, 64 bits, four little-endian bytes each).
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <iostream>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/mapped_file.h"
#include "model/tokenizer.h"

namespace {

double processor_ms() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return 1e3 * static_cast<double>(now.tv_sec) + 1e-6 * static_cast<double>(now.tv_nsec);
}

void answer(const std::string& verb, const std::string& path,
            std::optional<sluice::model::Tokenizer>& tokenizer) {
  if (verb == "load") {
    const auto start = std::chrono::steady_clock::now();
    tokenizer.emplace(sluice::model::Tokenizer::from_folder(path));
    const std::chrono::duration<double, std::milli> elapsed = std::chrono::steady_clock::now() - start;
    std::printf("%.3f\n", elapsed.count());
    return;
  }
  const std::string text = sluice::read_text_file(path, std::size_t{1} << 30U);
  const double start = processor_ms();
  const std::vector<std::int32_t> ids = tokenizer.value().encode(text);
  const double elapsed = processor_ms() - start;
  std::uint64_t hash = 0xCBF29CE484222325U;
  for (const std::int32_t id : ids)
    for (unsigned shift = 0; shift < 32; shift += 8)
      hash = (hash ^ ((static_cast<std::uint32_t>(id) >> shift) & 0xFFU)) * 0x100000001B3U;
  std::printf("%.3f %zu %016llx\n", elapsed, ids.size(), static_cast<unsigned long long>(hash));
}

}  // namespace

int main() {
  std::optional<sluice::model::Tokenizer> tokenizer;
  std::string verb;
  std::string path;
  try {
    while (std::cin >> verb && std::getline(std::cin >> std::ws, path)) {
      answer(verb, path, tokenizer);
      std::fflush(stdout);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
