// Packed weights, made and kept: the same bytes on every way, and never those of another model.
#include "cpu/packed.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include "base/error.h"
#include "cpu/content_key.h"
#include "cpu/placement.h"
#include "tests/oracle/random_model.h"
#include "tests/support/errors.h"
#include "tests/support/golden.h"
#include "tests/support/seed.h"
#include "tests/support/temp_folder.h"

namespace sluice::cpu {
namespace {

namespace fs = std::filesystem;
using program::OpKind;
using testing::HasSubstr;
using testing::IsEmpty;

// All packed bytes, op by op, in canonical order of columns: gate before up, however tiles are cut.
std::vector<std::byte> bytes_of(const PackedWeights& weights, const model::ModelConfig& config) {
  std::vector<std::byte> all;
  const auto add = [&](OpKind kind, std::size_t layer) {
    const PackedOp& op = weights.of(kind, layer);
    const std::size_t halves = kind == OpKind::kMlpIn ? 2 : 1;
    for (std::size_t half = 0; half < halves; ++half) {
      for (const PackedTile& tile : op.tiles) {
        const std::size_t size = tile.n_panels / halves * kLanes * op.depth * (tile.is_bf16 ? 2 : 4);
        all.insert(all.end(), tile.data + half * size, tile.data + (half + 1) * size);
      }
    }
  };
  for (std::size_t layer = 0; layer < config.n_layers(); ++layer)
    for (const OpKind kind : {OpKind::kMixIn, OpKind::kMixOut, OpKind::kMlpIn, OpKind::kMlpOut})
      add(kind, layer);
  add(OpKind::kHead, 0);
  return all;
}

struct Loaded {
  std::vector<std::byte> bytes;
  bool from_file = false;
  std::vector<std::string> warnings;
  std::vector<LoadStage> stages;  // in order, without repetitions
};

// `fail_at`: this stage's first report throws.
Loaded load(const model::Model& model, std::size_t n_workers, const std::optional<fs::path>& cache = {},
            std::optional<LoadStage> fail_at = {}) {
  Loaded loaded;
  Workers workers(n_workers, {});
  program::Tiling tiling;
  tiling.n_workers = n_workers;
  std::optional<PackedCache> folder;
  if (cache) folder.emplace(*cache);
  LoadEvents events;
  events.warn = [&](std::string_view what) { loaded.warnings.emplace_back(what); };
  events.progress = [&](LoadStage stage, std::size_t done, std::size_t total) {
    EXPECT_LE(done, total);
    if (loaded.stages.empty() || loaded.stages.back() != stage) loaded.stages.push_back(stage);
    if (stage == fail_at) throw std::runtime_error("enough");
  };
  const PackedWeights weights(model, tiling, workers, folder ? &*folder : nullptr, events);
  loaded.bytes = bytes_of(weights, model.config);
  loaded.from_file = weights.from_file();
  return loaded;
}

// The only file in the folder with this extension, if there is any.
fs::path only_file(const fs::path& folder, const std::string& extension) {
  fs::path found;
  if (!fs::exists(folder)) return found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != extension) continue;
    EXPECT_TRUE(found.empty()) << found << ' ' << entry.path();
    found = entry.path();
  }
  return found;
}

std::string read(const fs::path& path) {
  return read_text_file(path, std::size_t{64} << 20U);
}

// A model of our own that can be changed; its files are new, so nothing is noted down of them.
class PackedCacheTest : public testing::Test {
 protected:
  PackedCacheTest() { fs::copy(test::golden_folder("nested_tied"), model_folder()); }
  fs::path model_folder() const { return folder_.path() / "model"; }
  fs::path cache() const { return folder_.path() / "some" / "cache"; }
  model::Model model() const { return model::load_model(model_folder()); }
  void change_weights(const std::function<void(std::string& bytes)>& change) const {
    std::string bytes = read(model_folder() / "model.safetensors");
    change(bytes);
    folder_.write("model/model.safetensors", bytes);
  }
  test::Random random_{test::seed_of_test()};
  test::TempFolder folder_;
};

TEST(PackedWeights, AreTheSameWhenPagesThatWereGivenBackAreReadAgain) {
  for (const std::string& name : test::golden_cases()) {
    const model::Model model = model::load_model(test::golden_folder(name));
    const Loaded first = load(model, 1);
    EXPECT_FALSE(first.bytes.empty());
    EXPECT_FALSE(first.from_file);
    EXPECT_EQ(load(model, 1).bytes, first.bytes) << name;
  }
}

TEST_F(PackedCacheTest, TheFileGivesWhatPackingGives) {
  for (const std::string& name : test::golden_cases()) {
    const fs::path cache = folder_.path() / name;
    const model::Model model = model::load_model(test::golden_folder(name));
    for (const std::size_t workers : {2U, 1U, 3U}) {
      const Loaded packed = load(model, workers);
      const Loaded made = load(model, workers, cache);
      EXPECT_EQ(made.bytes, packed.bytes);
      const Loaded again = load(model, workers, cache);
      EXPECT_EQ(again.bytes, packed.bytes);
      EXPECT_TRUE(again.from_file);
      EXPECT_THAT(again.stages, testing::Not(testing::Contains(LoadStage::kPack)));
      EXPECT_THAT(made.warnings, IsEmpty());
      EXPECT_THAT(again.warnings, IsEmpty());
    }
  }
}

TEST_F(PackedCacheTest, ACopyOfTheModelHits) {
  const Loaded made = load(model(), 2, cache());
  EXPECT_FALSE(made.from_file);
  fs::copy(model_folder(), folder_.path() / "copy");
  const Loaded copy = load(model::load_model(folder_.path() / "copy"), 2, cache());
  EXPECT_TRUE(copy.from_file);
  EXPECT_EQ(copy.bytes, made.bytes);
  only_file(cache(), ".packed");
}

TEST_F(PackedCacheTest, AChangedModelNeverHits) {
  load(model(), 2, cache());
  for (int round = 0; round < 8; ++round) {
    // One bit of a mantissa, somewhere in the data.
    change_weights([&](std::string& bytes) {
      const std::size_t at = test::pick(random_, bytes.size() / 2, bytes.size() - 4) / 4 * 4;
      bytes[at] = static_cast<char>(bytes[at] ^ 1);
    });
    const Loaded changed = load(model(), 2, cache());
    EXPECT_FALSE(changed.from_file);
    EXPECT_EQ(changed.bytes, load(model(), 2).bytes);
  }
}

TEST_F(PackedCacheTest, WhatIsSettledIsNotReadAgain) {
  // A note stands for reading; without it the content is read.
  const Loaded first = load(model(), 2, cache());
  EXPECT_THAT(first.stages, testing::ElementsAre(LoadStage::kHash, LoadStage::kPack, LoadStage::kWrite));
  EXPECT_TRUE(only_file(cache(), ".source").empty()) << "the files have only just been written";
  EXPECT_THAT(load(model(), 2, cache()).stages, testing::ElementsAre(LoadStage::kHash, LoadStage::kRead));

  constexpr std::int64_t kSecond = 1'000'000'000;
  const FileIdentity file{
      .device = 1, .inode = 2, .size = 3, .modified_ns = 100 * kSecond, .changed_ns = 200 * kSecond};
  EXPECT_FALSE(is_settled({file}, 200 * kSecond));
  EXPECT_FALSE(is_settled({file}, 202 * kSecond));
  EXPECT_TRUE(is_settled({file}, 204 * kSecond));
  EXPECT_FALSE(is_settled({file}, 100 * kSecond)) << "a clock that was set back";
  EXPECT_FALSE(is_settled({file, {.changed_ns = 203 * kSecond}}, 204 * kSecond));
}

// The checkout's own files are older than a few seconds, unless it is brand new.
bool is_old(const model::Model& model) {
  const auto now = fs::file_time_type::clock::now();
  return std::ranges::all_of(model.storage->files(), [&](const MappedFile* file) {
    return now - fs::last_write_time(file->path()) > std::chrono::seconds(5);
  });
}

TEST_F(PackedCacheTest, DamagedNotesAreIgnored) {
  const model::Model model = model::load_model(test::golden_folder("nested_tied"));
  if (!is_old(model)) GTEST_SKIP() << "the checkout is brand new";
  const Loaded made = load(model, 2, cache());
  const fs::path note = only_file(cache(), ".source");
  ASSERT_FALSE(note.empty());
  EXPECT_THAT(load(model, 2, cache()).stages, testing::ElementsAre(LoadStage::kRead));
  const std::string good = read(note);
  std::vector<std::string> damaged = {"", "x", good.substr(0, good.size() - 1), good + "x"};
  for (std::size_t i = 0; i < good.size(); i += 5) {
    damaged.push_back(good);
    damaged.back()[i] = static_cast<char>(damaged.back()[i] ^ 1);
  }
  for (const std::string& text : damaged) {
    folder_.write("some/cache/" + note.filename().string(), text);
    const Loaded loaded = load(model, 2, cache());
    EXPECT_THAT(loaded.stages, testing::ElementsAre(LoadStage::kHash, LoadStage::kRead)) << text;
    EXPECT_EQ(loaded.bytes, made.bytes);
    EXPECT_EQ(read(note), good);
  }
}

// As in a folder that can only be read: the packed file is used, so nobody is told that it isn't kept.
TEST_F(PackedCacheTest, ANoteThatCantBeWrittenIsAWarningOfItsOwn) {
  const model::Model model = model::load_model(test::golden_folder("nested_tied"));
  if (!is_old(model)) GTEST_SKIP() << "the checkout is brand new";
  load(model, 2, cache());
  const fs::path note = only_file(cache(), ".source");
  fs::remove(note);
  fs::create_directories(note / "in its place");
  const Loaded loaded = load(model, 2, cache());
  EXPECT_TRUE(loaded.from_file);
  EXPECT_THAT(loaded.warnings,
              testing::ElementsAre(testing::StartsWith("the next start reads the model's files again: ")));
}

TEST_F(PackedCacheTest, DamageIsSeenAndMended) {
  const Loaded made = load(model(), 2, cache());
  const fs::path file = only_file(cache(), ".packed");
  const std::string good = read(file);
  std::vector<std::string> damaged = {"",
                                      good.substr(0, 50),
                                      good.substr(0, 4096),
                                      good + "x",
                                      good.substr(0, good.size() - 1),
                                      std::string(good.size(), '\0'),
                                      good + good};
  for (int round = 0; round < 40; ++round) {
    // Anywhere that means something: the header's words and the chunks' checks, and the data.
    const std::size_t words = 8 * (9 + (good.size() - 4096 + (1U << 20U) - 1) / (1U << 20U));
    const std::size_t at =
        round % 2 == 0 ? test::pick(random_, 0, words - 1) : test::pick(random_, 4096, good.size() - 1);
    damaged.push_back(good);
    damaged.back()[at] = static_cast<char>(damaged.back()[at] ^ (1 << test::pick(random_, 0, 7)));
  }
  for (const std::string& bytes : damaged) {
    folder_.write("some/cache/" + file.filename().string(), bytes);
    const Loaded loaded = load(model(), 2, cache());
    EXPECT_FALSE(loaded.from_file);
    EXPECT_EQ(loaded.bytes, made.bytes);
    EXPECT_THAT(loaded.warnings, testing::ElementsAre(HasSubstr("made anew")));
    EXPECT_EQ(read(file), good);
  }
}

TEST_F(PackedCacheTest, AFileOfAnotherModelUnderTheNameIsNotUsed) {
  load(model(), 2, cache());
  const fs::path mine = only_file(cache(), ".packed");
  const std::string bytes = read(mine);
  fs::remove_all(cache());
  change_weights(
      [&](std::string& data) { data[data.size() - 4] = static_cast<char>(data[data.size() - 4] ^ 1); });
  const Loaded other = load(model(), 2, cache());
  const fs::path name = only_file(cache(), ".packed");
  EXPECT_NE(name.filename(), mine.filename());
  folder_.write("some/cache/" + name.filename().string(), bytes);
  const Loaded loaded = load(model(), 2, cache());
  EXPECT_FALSE(loaded.from_file);
  EXPECT_EQ(loaded.bytes, other.bytes);
  EXPECT_THAT(loaded.warnings, testing::SizeIs(1));
}

TEST_F(PackedCacheTest, AFolderThatCantBeIsAWarning) {
  folder_.write("file", "not a folder");
  const Loaded plain = load(model(), 2);
  for (const fs::path& folder :
       {folder_.path() / "file", folder_.path() / "file" / "below", fs::path("/proc/nothing")}) {
    const Loaded loaded = load(model(), 2, folder);
    EXPECT_FALSE(loaded.from_file);
    EXPECT_EQ(loaded.bytes, plain.bytes);
    EXPECT_THAT(loaded.warnings, testing::ElementsAre(HasSubstr("not kept")));
  }
}

TEST_F(PackedCacheTest, AFullDiskIsAWarningAndLeavesNothing) {
  const Loaded plain = load(model(), 2);
  // What a file may grow to in this process; writing more is an error like a full disk.
  fs::create_directories(cache());
  const auto old = ::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{.rlim_cur = 20000, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const Loaded loaded = load(model(), 2, cache());
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, old);
  EXPECT_EQ(loaded.bytes, plain.bytes);
  EXPECT_THAT(loaded.warnings, testing::ElementsAre(HasSubstr("not kept")));
  EXPECT_TRUE(fs::is_empty(cache()));
}

TEST_F(PackedCacheTest, StoppingLeavesNothingHalf) {
  for (const LoadStage stage : {LoadStage::kHash, LoadStage::kPack, LoadStage::kWrite}) {
    EXPECT_THROW(load(model(), 1, cache(), stage), std::runtime_error);
    EXPECT_TRUE(!fs::exists(cache()) || fs::is_empty(cache()));
  }
  load(model(), 1, cache());
  EXPECT_THROW(load(model(), 1, cache(), LoadStage::kRead), std::runtime_error);
  EXPECT_TRUE(load(model(), 1, cache()).from_file);
}

TEST_F(PackedCacheTest, LeftoversOfKilledProcessesGo) {
  fs::create_directories(cache());
  const fs::path old = cache() / "a-b.packed.XyZ123";
  const fs::path fresh = cache() / "c-d.packed.XyZ123";
  const fs::path other = cache() / "notes.txt";
  for (const fs::path& path : {old, fresh, other}) std::ofstream(path) << "x";
  fs::last_write_time(old, fs::file_time_type::clock::now() - std::chrono::hours(25));
  fs::last_write_time(other, fs::file_time_type::clock::now() - std::chrono::hours(25));
  load(model(), 2, cache());
  EXPECT_FALSE(fs::exists(old));
  EXPECT_TRUE(fs::exists(fresh));
  EXPECT_TRUE(fs::exists(other));
}

TEST_F(PackedCacheTest, ManyAtOnceDoNoHarm) {
  const model::Model mine = model();
  const Loaded plain = load(mine, 1);
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 3; ++round) {
        const Loaded loaded = load(mine, 1, cache());
        if (loaded.bytes != plain.bytes || !loaded.warnings.empty()) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  only_file(cache(), ".packed");
}

TEST_F(PackedCacheTest, WeightsThatAreNotFiniteAreRefusedAndNotKept) {
  // A weight that is packed, and one that nothing multiplies with, if there is such a tensor.
  const auto offset_of = [](const model::Model& model, std::span<const std::byte> data) {
    return static_cast<std::size_t>(data.data() - model.storage->files().front()->bytes().data());
  };
  const std::string whole = read(model_folder() / "model.safetensors");
  std::vector<std::size_t> offsets;
  {
    const model::Model good = model();
    offsets = {offset_of(good, good.weights.layers.back().mlp.down.data),
               offset_of(good, good.weights.embedding.data)};
    for (const model::ModelTensor& tensor : good.tensors)
      if (tensor.mtp && tensor.shape.size() > 1) offsets.push_back(offset_of(good, tensor.data));
  }
  for (const std::size_t at : offsets) {
    folder_.write("model/model.safetensors", std::string(whole).replace(at, 4, "\xFF\xFF\xFF\xFF"));
    const model::Model bad = model();
    EXPECT_THAT(test::error_of([&] { load(bad, 2, cache()); }), HasSubstr("not a number"));
    EXPECT_TRUE(!fs::exists(cache()) || fs::is_empty(cache()));
  }
}

TEST(PackedWeights, AModelThatComesFromNoFileIsPacked) {
  test::Random random(test::seed_of_test());
  const test::TempFolder folder;
  const test::RandomModel model(test::small_config(), random);
  const Loaded loaded = load(model.model(), 2, folder.path() / "cache");
  EXPECT_EQ(loaded.bytes, load(model.model(), 2).bytes);
  EXPECT_FALSE(fs::exists(folder.path() / "cache"));
}

TEST(ContentKey, IsThatOfTheBytes) {
  test::Random random(test::seed_of_test());
  const test::TempFolder folder;
  std::string bytes((std::size_t{9} << 20U) + 12345, '\0');
  for (std::size_t i = 0; i < bytes.size(); i += 64) bytes[i] = static_cast<char>(random());
  const auto key = [&](const std::vector<std::string>& contents, std::size_t n_workers) {
    std::vector<MappedFile> files;
    std::vector<const MappedFile*> pointers;
    for (std::size_t i = 0; i < contents.size(); ++i)
      files.emplace_back(folder.write("file" + std::to_string(i), contents[i]));
    for (const MappedFile& file : files) pointers.push_back(&file);
    Workers workers(n_workers, {});
    return content_key(pointers, workers, {});
  };
  const Hash128 whole = key({bytes}, 1);
  EXPECT_EQ(key({bytes}, 3), whole);
  EXPECT_NE(key({bytes.substr(0, 5000000), bytes.substr(5000000)}, 2), whole);
  EXPECT_NE(key({bytes, ""}, 2), whole);
  for (const std::size_t at : {std::size_t{0}, std::size_t{5000000}, bytes.size() - 1}) {
    std::string changed = bytes;
    changed[at] = static_cast<char>(changed[at] ^ 1);
    EXPECT_NE(key({changed}, 2), whole) << at;
  }
}

}  // namespace
}  // namespace sluice::cpu
