// The bundled model, through the whole engine: whether its answers are right, and whether they and the perplexity of
// held-out text are what Hugging Face transformers computes in fp32 from the same files. tests/golden-demo holds the
// latter, made by tools/demo_model/reference.py.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/json.h"
#include "base/mapped_file.h"
#include "engine/generate.h"
#include "model/chat_template.h"
#include "model/tokenizer.h"
#include "model/weights.h"
#include "oracle/backend.h"
#include "tests/support/seed.h"

namespace sluice {
namespace {

constexpr std::size_t kContext = 768;
constexpr std::size_t kPerFamily = 8;  // tools/ask_heldout.py asks all of them
constexpr std::size_t kMaxAnswer = 48;

struct Question {
  std::string family;
  std::string prompt;
  std::string answer;        // the right one
  std::string transformers;  // what transformers says
};

struct Demo {
  std::string folder = SLUICE_SOURCE_DIR "/models/demo";
  model::Model model = model::load_model(folder);
  model::Tokenizer tokenizer = model::Tokenizer::from_folder(folder);
  Json reference =
      parse_json(read_text_file(SLUICE_SOURCE_DIR "/tests/golden-demo/transformers.json", 1U << 24U),
                 "transformers.json");
};

const Demo& demo() {
  static const Demo it;
  return it;
}

std::vector<Question> all_questions() {
  std::istringstream lines(read_text_file(demo().folder + "/heldout.jsonl", 1U << 24U));
  std::vector<Question> questions;
  for (std::string line; std::getline(lines, line);) {
    const Json row = parse_json(line, "heldout.jsonl");
    questions.push_back({row.at("family"), row.at("prompt"), row.at("answer"),
                         demo().reference.at("answers").at(questions.size())});
  }
  return questions;
}

// kPerFamily of each family, drawn afresh.
std::vector<Question> drawn_questions() {
  std::vector<Question> questions = all_questions();
  test::Random random(test::seed_of_test());
  std::shuffle(questions.begin(), questions.end(), random);
  std::map<std::string, std::size_t> taken;
  std::erase_if(questions, [&](const Question& q) { return ++taken[q.family] > kPerFamily; });
  return questions;
}

std::string ask(program::Backend& backend, const std::string& prompt) {
  engine::GenerateOptions options;
  options.max_tokens = kMaxAnswer;
  options.stop_tokens = demo().model.config.eos_token_ids;
  const std::string chat = model::render_chat({{model::Role::kUser, prompt}}, model::Thinking::kOff);
  std::string said;
  engine::generate(backend, demo().tokenizer, 0, demo().tokenizer.encode(chat), options,
                   [&said](std::string_view piece) {
                     said += piece;
                     return true;
                   });
  return said;
}

// Greedy decoding from the same weights must give the same text: fp32 sums in another order move a logit by about 1e-6
// of its size, and a choice only where the two best are as close as that.
TEST(Demo, AnswersAsTransformersDoesAndRightly) {
  const auto backend = oracle::make_backend(demo().model, 1, kContext);
  std::map<std::string, std::pair<std::size_t, std::size_t>> right;  // of how many
  for (const Question& question : drawn_questions()) {
    const std::string said = ask(*backend, question.prompt);
    EXPECT_EQ(said, question.transformers) << question.prompt;
    auto& [good, all] = right[question.family];
    good += said == question.answer ? 1U : 0U;
    ++all;
  }
  // The model's README states every family's figure on all questions; a drawn sample of one family varies, the number
  // of families that are good does not vary as much.
  std::size_t good_families = 0;
  for (const auto& [family, count] : right) {
    RecordProperty(family, std::to_string(count.first) + " of " + std::to_string(count.second));
    good_families += 10 * count.first >= 9 * count.second ? 1U : 0U;
  }
  EXPECT_GE(right.size(), 9U);
  EXPECT_GE(good_families, 5U);
}

// Cross-entropy in windows of 512 tokens, each from an empty state; the window's first token is not predicted.
TEST(Demo, HeldOutPerplexityIsThatOfTransformersToFourDigits) {
  constexpr std::size_t kWindow = 512;
  const auto backend = oracle::make_backend(demo().model, 1, kContext);
  const std::size_t vocab = demo().model.config.vocab_size;
  const std::vector<std::int32_t> ids =
      demo().tokenizer.encode(read_text_file(demo().folder + "/heldout.txt", 1U << 20U));
  double loss = 0;
  std::size_t predicted = 0;
  for (std::size_t begin = 0; begin < ids.size(); begin += kWindow) {
    const std::size_t n = std::min(kWindow, ids.size() - begin);
    program::Step step;
    step.tokens.assign(ids.begin() + static_cast<std::ptrdiff_t>(begin),
                       ids.begin() + static_cast<std::ptrdiff_t>(begin + n));
    step.spans = {{.slot = 0, .position = 0, .first_row = 0, .n_rows = n}};
    for (std::size_t row = 0; row + 1 < n; ++row)
      step.outputs.push_back({.row = row, .return_logits = true, .choice = std::nullopt});
    backend->reset(0);
    const std::vector<float> logits = backend->run(step).logits;
    for (std::size_t row = 0; row + 1 < n; ++row) {
      const std::span<const float> l = std::span<const float>(logits).subspan(row * vocab, vocab);
      const double largest = static_cast<double>(*std::max_element(l.begin(), l.end()));
      double sum = 0;
      for (const float x : l) sum += std::exp(static_cast<double>(x) - largest);
      loss +=
          largest + std::log(sum) - static_cast<double>(l[static_cast<std::size_t>(step.tokens[row + 1])]);
      ++predicted;
    }
  }
  const double perplexity = std::exp(loss / static_cast<double>(predicted));
  const double wanted = demo().reference.at("perplexity");
  RecordProperty("perplexity", std::to_string(perplexity));
  EXPECT_EQ(predicted, demo().reference.at("predicted_tokens").get<std::size_t>());
  EXPECT_NEAR(perplexity, wanted, 5e-5 * wanted);
}

}  // namespace
}  // namespace sluice
