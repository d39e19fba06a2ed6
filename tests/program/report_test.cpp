#include "program/report.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::program {
namespace {

TEST(Report, KeepsNumbersApartHoweverLargeTheyAre) {
  constexpr std::size_t kTerabytes = 98'765'432'109'876;
  Report report;
  report.n_tasks = report.n_counters = report.n_waits = 123'456'789;
  report.cost = {
      .weight_bytes = kTerabytes, .state_bytes = kTerabytes, .kv_bytes = kTerabytes, .flops = kTerabytes};
  const std::string n = " 123456789";
  const std::string cost = " 98765432109876";
  EXPECT_THAT(text_of(report), testing::ContainsRegex(n + n + n + cost + cost + cost + " *98765432109876\n"));
}

}  // namespace
}  // namespace sluice::program
