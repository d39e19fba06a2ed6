#include "base/huge_memory.h"

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

namespace sluice {
namespace {

TEST(HugeMemory, IsZeroAndWritable) {
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{1}, std::size_t{4096}, (std::size_t{2} << 20U) - 1, std::size_t{2} << 20U,
        (std::size_t{5} << 20U) + 12345}) {
    HugeMemory memory(size);
    ASSERT_EQ(memory.bytes().size(), size);
    EXPECT_TRUE(std::ranges::all_of(memory.bytes(), [](std::byte byte) { return byte == std::byte{0}; }));
    std::ranges::fill(memory.bytes(), std::byte{7});
    EXPECT_EQ(std::ranges::count(memory.bytes(), std::byte{7}), static_cast<std::ptrdiff_t>(size));
  }
}

TEST(HugeMemory, BeginsAtAHugePage) {
  const HugeMemory memory(std::size_t{3} << 20U);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory.bytes().data()) % (2U << 20U), 0U);
}

// Neighbours on the pages at both ends keep what they hold.
TEST(GiveBackPages, TakesWholePagesOnly) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  std::vector<std::byte> all(8 * page);
  const auto used = [&](std::size_t begin, std::size_t size) {
    std::ranges::fill(all, std::byte{7});
    give_back_pages(std::span(all).subspan(begin, size));
    const auto is_kept = [](std::byte byte) { return byte == std::byte{7}; };
    EXPECT_TRUE(std::all_of(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(begin), is_kept));
    EXPECT_TRUE(std::all_of(all.begin() + static_cast<std::ptrdiff_t>(begin + size), all.end(), is_kept));
    return static_cast<std::size_t>(std::ranges::count_if(all, is_kept));
  };
  EXPECT_EQ(used(0, 0), all.size());
  EXPECT_EQ(used(page / 2, page / 2), all.size());
  // All but what shares its page with others, at most one at each end.
  EXPECT_LE(used(page / 3, 5 * page), all.size() - 4 * page);
  EXPECT_LE(used(0, all.size()), 2 * page);
}

}  // namespace
}  // namespace sluice
