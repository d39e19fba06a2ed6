// Every execution of the protocols of counters.h and workers.h, for three workers, under a model of C++20's memory
// (weak_memory.h): what a task reads is what it should read, nothing races, and nobody is stuck, asleep or awake. The
// same exploration must find something wrong with each weaker protocol.
//
// exploration.h writes the protocols down a second time, step by step (Executor::work, too: one task at a time, or the
// next one in hand and bumps joined); that the code does the same is for the reader to see, and for ThreadSanitizer,
// under which the other tests of this folder run the code itself.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cpu/exploration.h"
#include "tests/support/sanitized.h"

namespace sluice::cpu {
namespace {

using test::Code;
using test::Exploration;
using test::Instruction;
using test::Order;
using test::System;
using testing::HasSubstr;
using testing::IsEmpty;

Instruction read(std::uint8_t datum, std::uint8_t expected) {
  return {Instruction::kRead, datum, expected};
}
Instruction write(std::uint8_t datum, std::uint8_t value) {
  return {Instruction::kWrite, datum, value};
}
Instruction wait(std::uint8_t word, std::uint8_t count) {
  return {Instruction::kWait, word, count};
}
Instruction bump(std::uint8_t word, std::uint8_t total) {
  return {Instruction::kBump, word, total};
}
Instruction publish(std::uint8_t word, std::uint8_t value) {
  return {Instruction::kPublish, word, value};
}
Instruction reset(std::uint8_t word) {
  return {Instruction::kReset, word, 0};
}

std::string explore(const System& system, std::string_view what) {
  Exploration exploration(system);
  const std::string problem = exploration.run();
  std::printf("%-40s %8zu states, %8zu transitions: %s\n", std::string(what).c_str(), exploration.n_states(),
              exploration.n_transitions(), problem.empty() ? "good" : problem.c_str());
  return problem;
}

// --- A dispatch: three workers, tickets, three counters.

constexpr std::uint8_t kA = 0;
constexpr std::uint8_t kB = 1;
constexpr std::uint8_t kC = 2;
constexpr std::uint8_t kD = 3;

// Two producers, two consumers of both, one that overwrites what the consumers read, one that reads by what others waited for.
System diamond() {
  System system;
  system.tasks = {
      {write(kA, 1), bump(1, 2)},
      {write(kB, 2), bump(1, 2)},
      {wait(1, 2), read(kA, 1), read(kB, 2), write(kC, 3), bump(2, 2)},
      {wait(1, 2), read(kA, 1), read(kB, 2), write(kD, 4), bump(2, 2)},
      {wait(2, 2), read(kC, 3), read(kD, 4), write(kA, 5), bump(3, 1)},
      {wait(3, 1), read(kA, 5), read(kB, 2)},
  };
  return system;
}

// A counter of three bumps, and a task that waits for two counters.
System fan() {
  System system;
  system.tasks = {
      {write(kA, 1), bump(1, 3)},
      {write(kB, 2), bump(1, 3)},
      {write(kC, 3), bump(2, 1)},
      {write(kD, 4), bump(1, 3)},
      {wait(1, 3), wait(2, 1), read(kA, 1), read(kB, 2), read(kC, 3), read(kD, 4), write(kC, 5), bump(3, 1)},
      {wait(3, 1), read(kC, 5), read(kD, 4)},
  };
  return system;
}

// Four producers of one counter, so that each of three workers that share tasks out may have two in a row; then their reader.
System rows() {
  System system;
  system.tasks = {
      {write(kA, 1), bump(1, 4)},
      {write(kB, 2), bump(1, 4)},
      {write(kC, 3), bump(1, 4)},
      {write(kD, 4), bump(1, 4)},
      {wait(1, 4), read(kA, 1), read(kB, 2), read(kC, 3), read(kD, 4), write(kA, 5), bump(2, 1)},
      {wait(2, 1), read(kA, 5)},
  };
  return system;
}

// One after the other.
System chain() {
  System system;
  system.tasks = {
      {write(kA, 1), bump(1, 1)},
      {wait(1, 1), read(kA, 1), write(kB, 2), bump(2, 1)},
      {wait(2, 1), read(kA, 1), read(kB, 2), bump(3, 1)},
      {wait(3, 1), write(kA, 3), read(kB, 2)},
  };
  return system;
}

TEST(Protocol, EveryDispatchIsGood) {
  EXPECT_THAT(explore(chain(), "chain"), IsEmpty());
  EXPECT_THAT(explore(diamond(), "diamond"), IsEmpty());
  EXPECT_THAT(explore(fan(), "fan"), IsEmpty());
}

// Workers as Executor::work makes them: with the next task in hand, and one bump for tasks in a row that bump the same.
System ahead(System system) {
  system.protocol.looks_ahead = true;
  system.protocol.joins_bumps = true;
  return system;
}

System shared_out(System system) {
  system = ahead(std::move(system));
  system.protocol.shared_out = true;
  return system;
}

TEST(Protocol, EveryDispatchThatLooksAheadIsGood) {
  if (test::kIsSanitized) return;  // a million states, which sanitizers have nothing to say about
  EXPECT_THAT(explore(ahead(chain()), "chain, ahead"), IsEmpty());
  EXPECT_THAT(explore(ahead(diamond()), "diamond, ahead"), IsEmpty());
  EXPECT_THAT(explore(ahead(fan()), "fan, ahead"), IsEmpty());
  EXPECT_THAT(explore(shared_out(chain()), "chain, shared out"), IsEmpty());
  EXPECT_THAT(explore(shared_out(rows()), "rows, shared out"), IsEmpty());
  EXPECT_THAT(explore(shared_out(fan()), "fan, shared out"), IsEmpty());
}

TEST(Protocol, WeakerWaysToLookAheadAreCaught) {
  const auto weaken = [](std::string_view what, const auto& change, System system = ahead(diamond())) {
    change(system);
    return explore(system, what);
  };
  EXPECT_THAT(weaken("the later task first", [](System& s) { s.protocol.oldest_first = false; }),
              HasSubstr("stuck"));
  EXPECT_THAT(
      weaken("bumps of different counters joined", [](System& s) { s.protocol.joins_same_only = false; }),
      testing::Not(IsEmpty()));
  EXPECT_THAT(
      weaken("the next task's bump in advance", [](System& s) { s.protocol.joins_when_done = false; }),
      HasSubstr("wrong value"));
  EXPECT_THAT(weaken("joined bumps don't wake", [](System& s) { s.protocol.wakes_by_joined_total = false; }),
              HasSubstr("stuck"));
  EXPECT_THAT(weaken("relaxed joined bumps", [](System& s) { s.protocol.bump = Order::kRelaxed; }),
              HasSubstr("race"));
  EXPECT_THAT(weaken("joined bump by load and store", [](System& s) { s.protocol.bump_is_update = false; }),
              testing::Not(IsEmpty()));
  EXPECT_THAT(weaken(
                  "shared out, the later task first", [](System& s) { s.protocol.oldest_first = false; },
                  shared_out(rows())),
              HasSubstr("stuck"));
  EXPECT_THAT(weaken(
                  "shared out, the next task's bump in advance",
                  [](System& s) { s.protocol.joins_when_done = false; }, shared_out(rows())),
              HasSubstr("wrong value"));
}

TEST(Protocol, WeakerDispatchesAreCaught) {
  const auto weaken = [](std::string_view what, const auto& change, System system = diamond()) {
    change(system);
    return explore(system, what);
  };
  EXPECT_THAT(weaken("relaxed bumps", [](System& s) { s.protocol.bump = Order::kRelaxed; }),
              HasSubstr("race"));
  EXPECT_THAT(weaken("relaxed waits", [](System& s) { s.protocol.wait = Order::kRelaxed; }),
              HasSubstr("race"));
  EXPECT_THAT(weaken("bump before the write", [](System& s) { std::swap(s.tasks[1][0], s.tasks[1][1]); }),
              HasSubstr("race"));
  EXPECT_THAT(
      weaken("bump before the last reads",
             [](System& s) { std::rotate(s.tasks[2].begin() + 1, s.tasks[2].end() - 1, s.tasks[2].end()); }),
      HasSubstr("race"));
  EXPECT_THAT(weaken("wait for one bump of two", [](System& s) { s.tasks[2][0].value = 1; }),
              HasSubstr("race"));
  EXPECT_THAT(weaken("no wait", [](System& s) { s.tasks[4].erase(s.tasks[4].begin()); }), HasSubstr("race"));
  EXPECT_THAT(weaken("bump by load and store", [](System& s) { s.protocol.bump_is_update = false; }),
              testing::Not(IsEmpty()));
  EXPECT_THAT(weaken("ticket by load and store", [](System& s) { s.protocol.ticket_is_update = false; }),
              testing::Not(IsEmpty()));
  EXPECT_THAT(
      weaken("tickets against the order", [](System& s) { std::reverse(s.tasks.begin(), s.tasks.end()); }),
      HasSubstr("stuck"));
  EXPECT_THAT(
      weaken("sleeper's bit by load and store", [](System& s) { s.protocol.asleep_is_update = false; }),
      testing::Not(IsEmpty()));
  EXPECT_THAT(weaken(
                  "sleep without comparing", [](System& s) { s.protocol.kernel_compares = false; }, chain()),
              HasSubstr("stuck"));
  EXPECT_THAT(
      weaken("nobody wakes", [](System& s) { s.protocol.wakes = false; }, chain()), HasSubstr("stuck"));
}

// --- Workers::run: a caller, two workers, two rounds, then the end.

constexpr std::uint8_t kRound = 1;
constexpr std::uint8_t kDone = 2;
constexpr std::uint8_t kJob = 0;
constexpr std::uint8_t kTotal = 1;   // of the counter kDone
constexpr std::uint8_t kResult = 2;  // and 3: of each worker
constexpr std::uint8_t kRounds = 2;

System handshake() {
  System system;
  Code& caller = system.threads[0];
  for (std::uint8_t round = 1; round <= kRounds; ++round) {
    const Code one = {write(kJob, round),     write(kTotal, round),    reset(kDone),
                      publish(kRound, round), wait(kDone, 2),          read(kTotal, round),
                      read(kResult, round),   read(kResult + 1, round)};
    caller.insert(caller.end(), one.begin(), one.end());
  }
  caller.push_back(write(kJob, kRounds + 1));
  caller.push_back(publish(kRound, kRounds + 1));
  for (std::uint8_t worker = 0; worker < 2; ++worker) {
    Code& code = system.threads[1 + worker];
    for (std::uint8_t round = 1; round <= kRounds; ++round) {
      const auto result = static_cast<std::uint8_t>(kResult + worker);
      const Code one = {wait(kRound, round), read(kJob, round), write(result, round), read(kTotal, round),
                        bump(kDone, 2)};
      code.insert(code.end(), one.begin(), one.end());
    }
    code.push_back(wait(kRound, kRounds + 1));
    code.push_back(read(kJob, kRounds + 1));
  }
  return system;
}

TEST(Protocol, EveryHandshakeIsGood) {
  EXPECT_THAT(explore(handshake(), "handshake"), IsEmpty());
}

TEST(Protocol, WeakerHandshakesAreCaught) {
  const auto weaken = [](std::string_view what, const auto& change) {
    System system = handshake();
    change(system);
    return explore(system, what);
  };
  EXPECT_THAT(weaken("relaxed publishing", [](System& s) { s.protocol.publish = Order::kRelaxed; }),
              HasSubstr("race"));
  EXPECT_THAT(weaken("relaxed waiting", [](System& s) { s.protocol.wait = Order::kRelaxed; }),
              HasSubstr("race"));
  EXPECT_THAT(weaken("relaxed finishing", [](System& s) { s.protocol.bump = Order::kRelaxed; }),
              HasSubstr("race"));
  EXPECT_THAT(weaken("job after the round",
                     [](System& s) {
                       std::rotate(s.threads[0].begin(), s.threads[0].begin() + 1, s.threads[0].begin() + 4);
                     }),
              HasSubstr("race"));
  EXPECT_THAT(
      weaken("counter reset after the round", [](System& s) { std::swap(s.threads[0][2], s.threads[0][3]); }),
      testing::Not(IsEmpty()));
  EXPECT_THAT(
      weaken("total read after the bump", [](System& s) { std::swap(s.threads[1][3], s.threads[1][4]); }),
      HasSubstr("race"));
  EXPECT_THAT(weaken("caller doesn't wait", [](System& s) { s.threads[0].erase(s.threads[0].begin() + 4); }),
              testing::Not(IsEmpty()));
  EXPECT_THAT(weaken("round by load and store", [](System& s) { s.protocol.publish_is_update = false; }),
              HasSubstr("stuck"));
  EXPECT_THAT(weaken("sleep without comparing", [](System& s) { s.protocol.kernel_compares = false; }),
              HasSubstr("stuck"));
  EXPECT_THAT(weaken("nobody wakes", [](System& s) { s.protocol.wakes = false; }), HasSubstr("stuck"));
}

}  // namespace
}  // namespace sluice::cpu
