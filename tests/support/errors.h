// What an error says.
#pragma once

#include <string>

#include <gtest/gtest.h>

#include "base/error.h"

namespace sluice::test {

// The message of the Error that `action` throws; a failed test and an empty text if it throws none.
template <typename Action>
std::string error_of(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return message;
  }
  ADD_FAILURE() << "no Error was thrown";
  return {};
}

}  // namespace sluice::test
