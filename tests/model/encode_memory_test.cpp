// The bound on what encoding takes, against what it takes: every allocation of this program is counted.
#include "model/encode_memory.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <new>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <malloc.h>

#include "model/tokenizer.h"

// The thread sanitizer has an allocator of its own that no program can replace: there, nothing is counted.
#if defined(__SANITIZE_THREAD__)
#define SLUICE_COUNTS_MEMORY 0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SLUICE_COUNTS_MEMORY 0
#endif
#endif
#ifndef SLUICE_COUNTS_MEMORY
#define SLUICE_COUNTS_MEMORY 1
#endif

namespace sluice::model {
namespace {

std::string repeated(const std::string& text, std::size_t bytes) {
  std::string all;
  while (all.size() < bytes) all += text;
  return all;
}

#if SLUICE_COUNTS_MEMORY
std::atomic<std::size_t> held = 0;
std::atomic<std::size_t> most = 0;

TEST(EncodeMemory, IsAboveWhatEncodingTakes) {
  const auto tokenizer =
      Tokenizer::from_folder(std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/golden-tokenizer");
  constexpr std::size_t kBytes = std::size_t{1} << 20U;
  // Words, one word, one run of white space, digits, marks to be ordered and composed, what grows, what is no UTF-8.
  for (const char* part :
       {"the quick brown fox ", "字", "a", " ", "\n", "\xE3\x80\x80 ", "7", "e\xCC\x81", "\xCC\x81",
        "\xCD\x84", "\xEF\xAC\xAC", "\xF0\x9D\x85\xA0", "\xFF", "\xC3 ", "!?", "\xEA\xB0\x80"}) {
    const std::string text = repeated(part, kBytes);
    const std::size_t before = held;
    most = before;
    const std::size_t n_ids = tokenizer.encode(text).size();
    const std::size_t taken = most - before;
    EXPECT_GT(n_ids, 0U);
    EXPECT_LE(taken, encode_memory(text)) << testing::PrintToString(part);
  }
}

#endif

TEST(EncodeMemory, IsSmallForWords) {
  const std::string text = repeated("the quick brown fox jumps over the lazy dog. ", std::size_t{8} << 20U);
  EXPECT_LT(encode_memory(text), text.size() * 7 + (std::size_t{2} << 20U));
}

}  // namespace

#if SLUICE_COUNTS_MEMORY
static void* counted(std::size_t size) {
  void* const at = std::malloc(size);
  if (at == nullptr) throw std::bad_alloc();
  const std::size_t now = held += malloc_usable_size(at);
  most = std::max<std::size_t>(most, now);
  return at;
}

static void uncounted(void* at) {
  if (at != nullptr) held -= malloc_usable_size(at);
  std::free(at);
}
#endif

}  // namespace sluice::model

#if SLUICE_COUNTS_MEMORY
void* operator new(std::size_t size) {
  return sluice::model::counted(size);
}
void operator delete(void* at) noexcept {
  sluice::model::uncounted(at);
}
void operator delete(void* at, std::size_t /*size*/) noexcept {
  sluice::model::uncounted(at);
}
#endif
