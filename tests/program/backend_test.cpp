// Risk: a malformed step reaches a backend and reads or writes what it must not.
#include "program/backend.h"

#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace sluice::program {
namespace {

constexpr std::size_t kVocab = 100;
constexpr std::size_t kContext = 16;
constexpr auto kHuge = std::numeric_limits<std::size_t>::max();

const std::vector<std::size_t> kLengths{0, 5, 16, 9};

model::ModelConfig config() {
  model::ModelConfig config;
  config.vocab_size = kVocab;
  return config;
}

// Slot 1 decodes a row, slot 0 is fed three, slot 3 the seven that fill it.
Step valid_step() {
  Step step;
  step.tokens = {0, 1, 2, 99, 4, 5, 6, 7, 8, 9, 10};
  step.spans = {{1, 5, 0, 1}, {0, 0, 1, 3}, {3, 9, 4, 7}};
  step.outputs.resize(3);
  step.outputs[0] = {0, true, std::nullopt};
  step.outputs[1] = {3, false,
                     Choice{{.temperature = 1.0F}, 7, kVocab, {{0, 1.0F, 1.0F}, {99, 2.0F, -1.0F}}}};
  step.outputs[2] = {10, true, Choice{{}, 0, 1, {}}};
  return step;
}

std::string message(const Step& step) {
  try {
    validate(step, config(), kContext, kLengths);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(ValidateStep, AcceptsWhatKeepsTheRules) {
  EXPECT_EQ(message(valid_step()), "accepted");
  EXPECT_EQ(message(Step{}), "accepted");
  Step masked = valid_step();
  masked.outputs[1].choice->edits[0].add = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(message(masked), "accepted");
}

TEST(ValidateStep, NamesWhatBreaksThem) {
  struct Case {
    std::function<void(Step&)> damage;
    std::string where;
    std::string what;
  };
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<Case> cases{
      {[](Step& s) { s.tokens[2] = -1; }, "step.tokens[2]", "token -1 is outside the vocabulary"},
      {[](Step& s) { s.tokens[2] = 100; }, "step.tokens[2]", "token 100 is outside the vocabulary"},
      {[](Step& s) { s.tokens.push_back(1); }, "step.spans", "1 of 12 rows are in no span"},
      {[](Step& s) { s.tokens.pop_back(); }, "step.spans[2]", "n_rows is 7"},
      {[](Step& s) { s.tokens.clear(); }, "step.spans[0]", "n_rows is 1"},
      {[](Step& s) { s.spans.clear(); }, "step.spans", "11 of 11 rows are in no span"},
      {[](Step& s) { s.spans[1].slot = 4; }, "step.spans[1]", "slot is 4"},
      {[](Step& s) { s.spans[1].slot = kHuge; }, "step.spans[1]", "slot is"},
      {[](Step& s) { s.spans[1].slot = 1; }, "step.spans[1]", "slot 1 is there twice"},
      {[](Step& s) { s.spans[1].position = 1; }, "step.spans[1]", "position is 1"},
      {[](Step& s) { s.spans[0].position = 0; }, "step.spans[0]", "position is 0"},
      {[](Step& s) { s.spans[1].first_row = 2; }, "step.spans[1]", "first_row is 2"},
      {[](Step& s) { s.spans[1].first_row = 0; }, "step.spans[1]", "first_row is 0"},
      {[](Step& s) { std::swap(s.spans[0], s.spans[1]); }, "step.spans[0]", "first_row is 1"},
      {[](Step& s) { s.spans[1].n_rows = 0; }, "step.spans[1]", "n_rows is 0"},
      {[](Step& s) { s.spans[1].n_rows = 2; }, "step.spans[2]", "first_row is 4"},
      {[](Step& s) { s.spans[1].n_rows = kHuge; }, "step.spans[1]", "n_rows is"},
      {[](Step& s) { s.spans[0] = {2, 16, 0, 1}; }, "step.spans[0]", "leaves the context"},
      {[](Step& s) { s.tokens.push_back(1), ++s.spans[2].n_rows; }, "step.spans[2]", "leaves the context"},
      {[](Step& s) { s.outputs[2].row = 11; }, "step.outputs[2]", "row is 11"},
      {[](Step& s) { s.outputs[1].row = 0; }, "step.outputs[1]", "row 0 follows 0"},
      {[](Step& s) { std::swap(s.outputs[0], s.outputs[2]); }, "step.outputs[1]", "row 3 follows 10"},
      {[](Step& s) { s.outputs[2].choice->n_tokens = 0; }, "step.outputs[2].choice", "n_tokens is 0"},
      {[](Step& s) { s.outputs[2].choice->n_tokens = 101; }, "step.outputs[2].choice", "n_tokens is 101"},
      {[](Step& s) { s.outputs[1].choice->sampling.temperature = -1; }, "step.outputs[1].choice.sampling",
       "temperature is -1"},
      {[](Step& s) { s.outputs[1].choice->sampling.top_p = 1.5F; }, "step.outputs[1].choice.sampling",
       "top_p is 1.5"},
      {[=](Step& s) { s.outputs[1].choice->sampling.min_p = nan; }, "step.outputs[1].choice.sampling",
       "min_p is nan"},
      {[](Step& s) { s.outputs[1].choice->edits[1].token = 100; }, "step.outputs[1].choice.edits[1]",
       "token 100"},
      {[](Step& s) { s.outputs[1].choice->edits[0].token = -1; }, "step.outputs[1].choice.edits[0]",
       "token -1"},
      {[](Step& s) { s.outputs[1].choice->edits[1].token = 0; }, "step.outputs[1].choice.edits[1]",
       "token 0 follows 0"},
      {[](Step& s) { s.outputs[1].choice->edits[0].repeat = 0; }, "step.outputs[1].choice.edits[0]",
       "repeat is 0"},
      {[=](Step& s) { s.outputs[1].choice->edits[0].repeat = infinity; }, "step.outputs[1].choice.edits[0]",
       "repeat is inf"},
      {[=](Step& s) { s.outputs[1].choice->edits[0].add = nan; }, "step.outputs[1].choice.edits[0]",
       "add is nan"},
      {[=](Step& s) { s.outputs[1].choice->edits[0].add = infinity; }, "step.outputs[1].choice.edits[0]",
       "add is inf"},
  };
  for (const Case& broken : cases) {
    Step step = valid_step();
    broken.damage(step);
    EXPECT_THAT(message(step), testing::AllOf(testing::HasSubstr(broken.what),
                                              testing::HasSubstr("(" + broken.where + ")")));
  }
}

TEST(Choose, EditsACopyAndAnswersMinusOneForNothing) {
  const std::vector<float> logits{1.0F, 3.0F, 2.0F};
  Choice choice{{}, 0, 3, {}};
  EXPECT_EQ(choose(logits, choice), 1);
  choice.edits = {{1, 1.0F, -1.5F}};
  EXPECT_EQ(choose(logits, choice), 2);
  choice.n_tokens = 2;
  EXPECT_EQ(choose(logits, choice), 1);
  const float infinity = std::numeric_limits<float>::infinity();
  choice.edits = {{0, 1.0F, -infinity}, {1, 1.0F, -infinity}};
  EXPECT_EQ(choose(logits, choice), -1);
}

}  // namespace
}  // namespace sluice::program
