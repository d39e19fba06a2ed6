// The fuzz targets on what is in git: seeds, and inputs that once broke something; and on seeds spoiled at random. In every
// build and under every sanitizer; looking for more is tools/fuzz.sh's work.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/fuzz/targets.h"
#include "tests/support/seed.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

const fs::path kFolder = fs::path(SLUICE_SOURCE_DIR) / "tests" / "fuzz";

std::string read(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

std::vector<fs::path> files_in(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

class Fuzz : public testing::TestWithParam<fuzz::Target> {};

// A seed that isn't accepted any more starts the fuzzer at the front door instead of inside. Inputs that once broke something
// stand among the seeds, too.
TEST_P(Fuzz, GoodSeedsAreAccepted) {
  int n_good = 0;
  for (const fs::path& path : files_in(kFolder / "seeds" / GetParam().name)) {
    const bool accepted = GetParam().run(read(path));
    if (!path.filename().string().starts_with("good_")) continue;
    EXPECT_TRUE(accepted) << path;
    ++n_good;
  }
  EXPECT_GE(n_good, 2);
}

// One change that a fuzzer would make: cut, byte, number, piece of its own, swap of two pieces.
void spoil(std::string& text, test::Random& random) {
  static const std::vector<std::string> kPieces = {std::string(8, '\xff'),
                                                   std::string(8, '\0'),
                                                   "\"",
                                                   "{",
                                                   "[",
                                                   "-1",
                                                   "18446744073709551615",
                                                   "1e999",
                                                   std::string("\x01\0\0\0\0\0\0\x80", 8)};
  if (text.empty()) return;
  const std::size_t at = test::pick(random, 0, text.size() - 1);
  switch (test::pick(random, 0, 4)) {
    case 0:
      text.resize(at);
      return;
    case 1:
      text[at] = static_cast<char>(random());
      return;
    case 2:
      text[at] = static_cast<char>(text[at] + (random() % 2 == 0 ? 1 : -1));
      return;
    case 3: {
      const std::string& piece = kPieces[test::pick(random, 0, kPieces.size() - 1)];
      text.replace(at, random() % 2 == 0 ? piece.size() : 0, piece);
      return;
    }
    default:
      text.insert(at, text.substr(test::pick(random, 0, text.size() - 1), test::pick(random, 1, 64)));
  }
}

TEST_P(Fuzz, SpoiledSeedsEndInAnErrorOrNot) {
  test::Random random(test::seed_of_test());
  int n_refused = 0;
  const std::vector<fs::path> seeds = files_in(kFolder / "seeds" / GetParam().name);
  constexpr std::size_t kRuns = 600;
  for (std::size_t run = 0; run < kRuns; ++run) {
    std::string text = read(seeds[run % seeds.size()]);
    for (std::size_t n = test::pick(random, 1, 4); n > 0; --n) spoil(text, random);
    n_refused += GetParam().run(text) ? 0 : 1;
  }
  EXPECT_GT(n_refused, 0);
}

INSTANTIATE_TEST_SUITE_P(Inputs, Fuzz, testing::ValuesIn(fuzz::kTargets),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace sluice
