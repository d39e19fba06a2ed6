// Device memory by itself.
#include "ptx/memory.h"

#include <optional>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/free_memory.h"
#include "tests/support/errors.h"

namespace sluice::ptx {
namespace {

// It lies in the host's, whatever the GPU would have.
TEST(PtxMemory, RefusesWhatTheHostLacks) {
  const std::optional<std::size_t> left = free_memory().memory;
  ASSERT_TRUE(left.has_value());
  Memory memory(std::uint64_t{*left} * 4);
  const std::string error = test::error_of([&] { memory.allocate(std::uint64_t{*left} * 2); });
  EXPECT_THAT(error, testing::HasSubstr("the host has"));
  EXPECT_EQ(memory.used(), 0U);
  memory.free(memory.allocate(4096));
}

}  // namespace
}  // namespace sluice::ptx
