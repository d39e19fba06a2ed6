#include "base/median.h"

#include <gtest/gtest.h>

namespace sluice {
namespace {

TEST(Median, IsTheMiddleOrTheMeanOfTheTwoInTheMiddle) {
  EXPECT_EQ(median({3}), 3);
  EXPECT_EQ(median({9, 1, 5}), 5);
  EXPECT_EQ(median({1, 2, 3, 100}), 2.5);
}

}  // namespace
}  // namespace sluice
