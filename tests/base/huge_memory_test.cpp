#include "base/huge_memory.h"

#include <algorithm>
#include <cstdint>

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace sluice
