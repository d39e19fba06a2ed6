// GGUF files that are not what the format says: one clear Error, soon, without much memory.
#include <array>
#include <cstdint>
#include <ctime>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/gguf.h"
#include "tests/support/errors.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/seed.h"
#include "tests/support/temp_folder.h"

namespace sluice::model {
namespace {

using test::gguf_bytes;
using test::GgufWriter;
using testing::AllOf;
using testing::HasSubstr;

namespace ggml = test::ggml;

constexpr std::uint64_t kHuge = std::uint64_t{1} << 60U;

// Opens a file of these bytes, which must fail; the message, which must name the file.
std::string failure(const test::TempFolder& folder, const std::string& bytes) {
  const std::filesystem::path path = folder.write("bad.gguf", bytes);
  const std::string message = test::error_of([&] { const Gguf file(path); });
  EXPECT_THAT(message, HasSubstr("bad.gguf"));
  return message;
}

std::string failure(const test::TempFolder& folder, const GgufWriter& writer) {
  return failure(folder, writer.file());
}

// A small file with a bit of everything.
GgufWriter small_file() {
  GgufWriter writer;
  writer.key("general.architecture", "qwen35").key("flag", true).key("n", std::uint64_t{5});
  writer.array<std::string_view>("texts", {"ab", "", "c"}).array<std::int16_t>("numbers", {1, 2});
  writer.tensor("a", ggml::kF32, {2, 3}, std::string(24, 'x'));
  writer.tensor("b", ggml::kQ8_0, {32}, std::string(34, 'y'));
  writer.tensor("c", 99, {5}, "z");
  return writer;
}

TEST(HostileGguf, EveryTruncationIsAnError) {
  const test::TempFolder folder;
  const std::string whole = small_file().file();
  for (std::size_t n = 0; n < whole.size(); ++n) {
    SCOPED_TRACE(n);
    failure(folder, whole.substr(0, n));
  }
  const Gguf file(folder.write("good.gguf", whole));
  EXPECT_EQ(file.tensors().size(), 2U);
}

TEST(HostileGguf, AFileOfAnotherFormatOrVersionIsAnError) {
  const test::TempFolder folder;
  GgufWriter writer = small_file();
  writer.magic = "ggjt";
  EXPECT_THAT(failure(folder, writer), HasSubstr("does not begin with \"GGUF\""));
  writer = small_file();
  for (const std::uint32_t version : {0U, 1U, 4U, 0xFFFFFFFFU}) {
    writer.version = version;
    EXPECT_THAT(failure(folder, writer),
                AllOf(HasSubstr("version " + std::to_string(version)), HasSubstr("expected 2 or 3")));
  }
  for (const std::uint32_t version : {2U, 3U}) {
    writer.version = version << 24U;
    EXPECT_THAT(failure(folder, writer), HasSubstr("big-endian"));
  }
}

TEST(HostileGguf, CountsAndLengthsBeyondTheFileAreErrors) {
  const test::TempFolder folder;
  for (const std::uint64_t n : {std::uint64_t{5}, kHuge, ~std::uint64_t{0}}) {
    SCOPED_TRACE(n);
    GgufWriter writer;
    writer.n_keys = n;
    EXPECT_THAT(failure(folder, writer), HasSubstr("declares " + std::to_string(n) + " keys"));
    writer = {};
    writer.n_tensors = n;
    EXPECT_THAT(failure(folder, writer), HasSubstr("declares " + std::to_string(n) + " tensors"));
    writer = {};
    writer.raw_key("some.key", 8, gguf_bytes(n) + "abc");
    EXPECT_THAT(failure(folder, writer), HasSubstr("key some.key"));
    writer = {};
    writer.raw_key("some.key", 9, gguf_bytes(std::uint32_t{8}) + gguf_bytes(n) + gguf_bytes("abc"));
    EXPECT_THAT(failure(folder, writer), HasSubstr("key some.key"));
    for (const std::uint32_t type : {0U, 3U, 5U, 7U, 12U}) {
      writer = {};
      writer.raw_key("some.key", 9, gguf_bytes(type) + gguf_bytes(n) + "abcd");
      EXPECT_THAT(failure(folder, writer), AllOf(HasSubstr("key some.key"), HasSubstr(std::to_string(n))));
    }
    // A length of a key, and of a tensor's name.
    const std::string counts = gguf_bytes(std::uint64_t{1}) + gguf_bytes(std::uint64_t{1});
    failure(folder, "GGUF" + gguf_bytes(3U) + counts + gguf_bytes(n) + std::string(60, 'k'));
    writer = {};
    writer.n_tensors = 1;
    failure(folder, writer.header() + gguf_bytes(n) + std::string(60, 'n'));
  }
  // 2^61 elements of 8 bytes are 0 bytes if the product wraps.
  GgufWriter writer;
  writer.raw_key("some.key", 9, gguf_bytes(std::uint32_t{10}) + gguf_bytes(std::uint64_t{1} << 61U));
  EXPECT_THAT(failure(folder, writer), HasSubstr("2305843009213693952"));
}

TEST(HostileGguf, KeysThatAreNotTheFormatsAreErrors) {
  const test::TempFolder folder;
  const auto of_key = [&](std::string_view name, std::uint32_t type, const std::string& value) {
    GgufWriter writer;
    return failure(folder, writer.raw_key(name, type, value));
  };
  for (const std::uint32_t type : {13U, 255U, 0xFFFFFFFFU}) {
    EXPECT_THAT(of_key("k", type, std::string(16, '\0')), HasSubstr("type " + std::to_string(type)));
    EXPECT_THAT(of_key("k", 9, gguf_bytes(type) + std::string(16, '\0')),
                HasSubstr("type " + std::to_string(type)));
  }
  EXPECT_THAT(of_key("k", 9, gguf_bytes(std::uint32_t{9}) + std::string(16, '\0')),
              HasSubstr("array of arrays"));
  EXPECT_THAT(of_key("k", 7, "\2"), HasSubstr("neither 0 nor 1"));
  EXPECT_THAT(of_key("k", 9, gguf_bytes(std::uint32_t{7}) + gguf_bytes(std::uint64_t{3}) + "\1\xff\1"),
              HasSubstr("neither 0 nor 1"));
  EXPECT_THAT(of_key("", 10, "12345678"), HasSubstr("0 bytes"));
  EXPECT_THAT(of_key(std::string(65'536, 'k'), 0, "x"), HasSubstr("65536 bytes"));
  GgufWriter writer;
  EXPECT_THAT(failure(folder, writer.key("twice", 1.0F).key("other", 1.0F).key("twice", true)),
              HasSubstr("key twice occurs twice"));
  writer = {};
  EXPECT_THAT(failure(folder, writer.key("\x1b[31m\n", 1.0F).raw_key("\x1b[31m\n", 13, "")),
              HasSubstr("\\x1b[31m\\x0a"));
}

TEST(HostileGguf, AnAlignmentThatCannotBeIsAnError) {
  const test::TempFolder folder;
  for (const std::uint64_t alignment :
       {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{4}, std::uint64_t{24}, std::uint64_t{1} << 21U,
        std::uint64_t{1} << 63U, ~std::uint64_t{0}}) {
    GgufWriter writer = small_file();
    EXPECT_THAT(failure(folder, writer.key("general.alignment", alignment)),
                HasSubstr("general.alignment is " + std::to_string(alignment)));
  }
  GgufWriter writer = small_file();
  EXPECT_THAT(failure(folder, writer.key("general.alignment", "32")), HasSubstr("general.alignment"));
}

TEST(HostileGguf, TensorsThatAreNotTheFormatsAreErrors) {
  const test::TempFolder folder;
  const auto of_tensor = [&](std::uint32_t type, const std::vector<std::uint64_t>& dimensions,
                             std::size_t data_size) {
    GgufWriter writer;
    const std::string message =
        failure(folder, writer.tensor("tensor_a", type, dimensions, std::string(data_size, 'x')));
    EXPECT_THAT(message, HasSubstr("tensor_a"));
    return message;
  };
  EXPECT_THAT(of_tensor(ggml::kF32, {}, 4), HasSubstr("0 dimensions"));
  EXPECT_THAT(of_tensor(ggml::kF32, {1, 1, 1, 1, 1}, 4), HasSubstr("5 dimensions"));
  EXPECT_THAT(of_tensor(ggml::kF32, std::vector<std::uint64_t>(1000, 1), 4), HasSubstr("1000 dimensions"));
  EXPECT_THAT(of_tensor(ggml::kF32, {0}, 4), HasSubstr("dimension of 0"));
  EXPECT_THAT(of_tensor(ggml::kF32, {kHuge, kHuge, 0}, 4), HasSubstr("dimension of 0"));
  EXPECT_THAT(of_tensor(ggml::kF32, {3}, 8), AllOf(HasSubstr("takes 12"), HasSubstr("8 bytes of data")));
  EXPECT_THAT(of_tensor(ggml::kQ8_0, {31}, 34), AllOf(HasSubstr("Q8_0"), HasSubstr("32")));
  EXPECT_THAT(of_tensor(ggml::kQ4_K, {128, 2}, 144), AllOf(HasSubstr("Q4_K"), HasSubstr("256")));
  EXPECT_THAT(of_tensor(ggml::kQ2_K, {128, 2}, 84), AllOf(HasSubstr("Q2_K"), HasSubstr("256")));
  EXPECT_THAT(of_tensor(ggml::kQ2_K, {256}, 83), HasSubstr("takes 84"));
  EXPECT_THAT(of_tensor(99, {1}, 0), HasSubstr("0 bytes of data"));
  // Products that are 0 or small if they wrap: of elements, of bytes.
  for (const std::vector<std::uint64_t>& dimensions : {std::vector<std::uint64_t>{~std::uint64_t{0}},
                                                       {1U << 31U, 1U << 31U, 4},
                                                       {kHuge, 16},
                                                       {kHuge, kHuge},
                                                       {std::uint64_t{1} << 62U},
                                                       {2, std::uint64_t{1} << 61U}})
    of_tensor(ggml::kF32, dimensions, 8);
  of_tensor(ggml::kQ8_0, {32, kHuge}, 34);
  of_tensor(99, {kHuge, kHuge}, 8);
  GgufWriter writer;
  EXPECT_THAT(failure(folder, writer.tensor("", ggml::kF32, {1}, "abcd")), HasSubstr("name of 0 bytes"));
  writer = {};
  EXPECT_THAT(failure(folder, writer.tensor(std::string(65, 'n'), ggml::kF32, {1}, "abcd")),
              HasSubstr("name of 65 bytes"));
  writer = {};
  writer.tensor("tensor_a", ggml::kF32, {1}, "abcd").tensor("tensor_a", ggml::kF32, {1}, "abcd");
  EXPECT_THAT(failure(folder, writer), HasSubstr("tensor tensor_a occurs twice"));
  writer.tensors[1].type = 99;
  EXPECT_THAT(failure(folder, writer), HasSubstr("tensor tensor_a occurs twice"));
}

TEST(HostileGguf, OffsetsMustBeAlignedInsideTheFileAndApart) {
  const test::TempFolder folder;
  // Three tensors of 64 bytes, the second at `offset`.
  const auto at = [&](std::uint64_t offset, std::uint32_t type = ggml::kF32) {
    GgufWriter writer;
    writer.tensor("a", ggml::kF32, {16}, std::string(64, 'a')).tensor("b", type, {16}, std::string(64, 'b'));
    writer.tensor("c", ggml::kF32, {16}, std::string(64, 'c'));
    writer.tensors[1].offset = offset;
    return failure(folder, writer);
  };
  for (const std::uint64_t offset : {1U, 8U, 33U, 65U})
    EXPECT_THAT(at(offset), AllOf(HasSubstr("tensor b"), HasSubstr("multiple of 32")));
  for (const std::uint64_t offset : {std::uint64_t{160}, kHuge, ~std::uint64_t{31}, std::uint64_t{1} << 63U})
    EXPECT_THAT(at(offset), AllOf(HasSubstr("tensor b"), HasSubstr("192 bytes of data")));
  EXPECT_THAT(at(0), HasSubstr("inside tensor"));
  EXPECT_THAT(at(32), HasSubstr("tensor b begins inside tensor a"));
  EXPECT_THAT(at(96), HasSubstr("tensor c begins inside tensor b"));
  // Of a type whose size we don't know, only the first byte is known.
  EXPECT_THAT(at(32, 99), HasSubstr("tensor b begins inside tensor a"));
  EXPECT_THAT(at(192, 99), HasSubstr("tensor b begins at byte 192"));
}

// Seconds of the processor that opening `path` takes.
double seconds_to_open(const std::filesystem::path& path) {
  const std::clock_t start = std::clock();
  try {
    const Gguf file(path);
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr(path.filename().string()));
  }
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

// As many as we read, and more: nothing is quadratic. The bounds are many times what a release build takes, for the
// sanitizers.
TEST(HostileGguf, ManyKeysOrTensorsTakeNoTime) {
  const test::TempFolder folder;
  GgufWriter keys;
  GgufWriter tensors;
  const auto add = [&](int n) {
    for (int i = 0; i < n; ++i) {
      const std::string name = "blk." + std::to_string(keys.keys.size()) + ".weight";
      keys.key(name, true);
      tensors.tensor(name, ggml::kF32, {1}, "abcd");
    }
  };
  add(65'536);
  EXPECT_LT(seconds_to_open(folder.write("keys.gguf", keys.file())), 2);
  EXPECT_LT(seconds_to_open(folder.write("tensors.gguf", tensors.file())), 2);
  EXPECT_EQ(Gguf(folder.path() / "keys.gguf").metadata().values().size(), 65'536U);
  EXPECT_EQ(Gguf(folder.path() / "tensors.gguf").tensors().size(), 65'536U);
  add(100'000);
  EXPECT_THAT(failure(folder, keys), HasSubstr("declares 165536 keys"));
  EXPECT_THAT(failure(folder, tensors), HasSubstr("declares 165536 tensors"));
}

// A sparse file costs its writer nothing: terabytes of empty strings, keys, tensors.
TEST(HostileGguf, ATerabyteOfNothingIsRefusedAtOnce) {
  const test::TempFolder folder;
  const std::uint64_t terabyte = std::uint64_t{1} << 40U;
  GgufWriter strings;
  strings.raw_key("k", 9, gguf_bytes(std::uint32_t{8}) + gguf_bytes(terabyte / 16));
  GgufWriter fewer;  // as many as the largest header can hold: all are looked at
  fewer.raw_key("k", 9, gguf_bytes(std::uint32_t{8}) + gguf_bytes(std::uint64_t{8'000'000}));
  fewer.n_tensors = 1;  // without a name
  GgufWriter bytes;
  bytes.raw_key("k", 9, gguf_bytes(std::uint32_t{7}) + gguf_bytes(terabyte / 2));
  GgufWriter text;
  text.raw_key("k", 8, gguf_bytes(terabyte / 2));
  GgufWriter keys;
  keys.n_keys = 100'000'000;
  GgufWriter tensors;
  tensors.n_tensors = 100'000'000;
  for (const GgufWriter& writer : {strings, fewer, bytes, text, keys, tensors}) {
    const std::filesystem::path path = folder.write("bad.gguf", writer.header());
    std::error_code no_room;
    std::filesystem::resize_file(path, terabyte, no_room);
    if (no_room) GTEST_SKIP() << "no sparse files of a terabyte here";
    EXPECT_LT(seconds_to_open(path), 2);
    EXPECT_THAT(test::error_of([&] { const Gguf file(path); }), HasSubstr("bad.gguf"));
  }
}

// Arrays in the header that nobody asks for are no harm; asked for, they have a limit.
TEST(HostileGguf, AnArrayThatIsTooLongIsAnErrorWhenAskedFor) {
  const test::TempFolder folder;
  GgufWriter writer;
  const std::size_t n = GgufMetadata::kMaxElements + 1;
  writer.raw_key("k", 9, gguf_bytes(std::uint32_t{0}) + gguf_bytes(std::uint64_t{n}) + std::string(n, 'x'));
  const Gguf file(folder.write("long.gguf", writer.file()));
  for (const std::string& message :
       {test::error_of([&] { file.wholes("k"); }), test::error_of([&] { file.numbers("k"); })})
    EXPECT_THAT(message, AllOf(HasSubstr("key k has " + std::to_string(n)), HasSubstr("long.gguf")));
}

// Writes part `part` (from 0) of a split file of two tensors.
std::filesystem::path write_part(const test::TempFolder& folder, std::uint16_t part, std::uint16_t n_parts,
                                 std::int32_t n_tensors, const std::string& name) {
  GgufWriter writer;
  writer.key("split.no", part).key("split.count", n_parts).key("split.tensors.count", n_tensors);
  writer.tensor("t" + std::to_string(part), ggml::kF32, {1}, "abcd");
  return folder.write(name, writer.file());
}

TEST(HostileGguf, PartsThatDoNotBelongTogetherAreErrors) {
  const test::TempFolder folder;
  const std::string one = "m-00001-of-00002.gguf";
  const std::string two = "m-00002-of-00002.gguf";
  const auto opening = [&](const std::string& name) {
    return test::error_of([&] { const Gguf file(folder.path() / name); });
  };
  write_part(folder, 0, 2, 2, one);
  EXPECT_THAT(opening(one), AllOf(HasSubstr("part 2 of 2 is missing"), HasSubstr(two)));
  write_part(folder, 1, 2, 2, two);
  EXPECT_EQ(Gguf(folder.path() / two).tensors().size(), 2U);
  std::filesystem::remove(folder.path() / one);
  EXPECT_THAT(opening(two), AllOf(HasSubstr("part 1 of 2 is missing"), HasSubstr(one)));
  write_part(folder, 1, 2, 2, one);  // the second, under the first one's name
  EXPECT_THAT(opening(two), AllOf(HasSubstr("split.no is 1"), HasSubstr(one)));
  EXPECT_THAT(opening(one), HasSubstr("ends with -00002-of-00002.gguf"));
  write_part(folder, 0, 3, 2, one);
  EXPECT_THAT(opening(two), AllOf(HasSubstr("split.count is 3"), HasSubstr(one)));
  write_part(folder, 0, 2, 7, one);
  EXPECT_THAT(opening(two), AllOf(HasSubstr("split.tensors.count is 7"), HasSubstr("2 tensors")));
  write_part(folder, 0, 2, -1, one);
  EXPECT_THAT(opening(two), HasSubstr("split.tensors.count is -1"));
  GgufWriter again;  // a tensor of the second part in the first too
  again.key("split.no", std::uint16_t{0}).key("split.count", std::uint16_t{2});
  folder.write(one, again.tensor("t1", ggml::kF32, {1}, "abcd").file());
  EXPECT_THAT(opening(one), AllOf(HasSubstr("tensor t1 occurs twice"), HasSubstr(two)));
  GgufWriter no_number;
  folder.write("x.gguf", no_number.key("split.count", std::uint16_t{2}).file());
  EXPECT_THAT(opening("x.gguf"), HasSubstr("split.no"));
  write_part(folder, 5, 2, 2, "x.gguf");
  EXPECT_THAT(opening("x.gguf"), HasSubstr("split.no is 5"));
  write_part(folder, 0, 60'000, 2, "x.gguf");
  EXPECT_THAT(opening("x.gguf"), HasSubstr("split.count 60000"));
  write_part(folder, 0, 1, 1, "x.gguf");  // a split of one part needs no special name
  EXPECT_EQ(Gguf(folder.path() / "x.gguf").tensors().size(), 1U);
}

// Bytes changed at random: the file opens or gives an Error, and what opens can be read to its end.
TEST(HostileGguf, RandomDamageNeverDoesWorse) {
  test::Random random(test::seed_of_test());
  const test::TempFolder folder;
  const std::string good = small_file().file();
  std::size_t opened = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string bad = good;
    for (std::size_t n = test::pick(random, 1, 3); n > 0; --n)
      bad[test::pick(random, 0, bad.size() - 1)] =
          static_cast<char>(random() % 4 == 0 ? random() : random() % 40);
    const std::filesystem::path path = folder.write("bad.gguf", bad);
    try {
      const Gguf file(path);
      ++opened;
      for (const auto& [name, view] : file.tensors()) {
        std::vector<float> values(view.size());
        to_float(view.dtype, view.data, 0, values);
      }
      for (const auto& [key, value] : file.metadata().values()) {
        if (value.is_array && value.type == GgufType::kString) file.texts(key);
        if (value.is_array && value.type != GgufType::kString) file.numbers(key);
        if (!value.is_array && value.type == GgufType::kString) file.text(key);
      }
    } catch (const Error& error) {
      const std::string message = error.what();
      ASSERT_TRUE(message.find("bad.gguf") != std::string::npos ||
                  message.find("type bool") != std::string::npos)
          << message;
    }
  }
  EXPECT_GT(opened, 0U);  // damage to names and data only
}

}  // namespace
}  // namespace sluice::model
