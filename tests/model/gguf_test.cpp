// What is written into GGUF files is read from them: by our writer in both versions, and by the `gguf` package.
#include "model/gguf.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <ctime>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/errors.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/seed.h"
#include "tests/support/temp_folder.h"

namespace sluice::model {
namespace {

using test::GgufWriter;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Optional;

namespace ggml = test::ggml;

// A name, ggml's number of the type, elements and bytes of a block.
struct StoredType {
  std::string_view name;
  std::uint32_t number;
  std::size_t block;
  std::size_t bytes;
};
// docs/gguf.md and ggml-common.h.
constexpr std::array<StoredType, 13> kTypes = {{
    {"F32", ggml::kF32, 1, 4},
    {"F16", ggml::kF16, 1, 2},
    {"BF16", ggml::kBF16, 1, 2},
    {"Q8_0", ggml::kQ8_0, 32, 34},
    {"Q4_0", ggml::kQ4_0, 32, 18},
    {"Q4_1", ggml::kQ4_1, 32, 20},
    {"Q5_0", ggml::kQ5_0, 32, 22},
    {"Q5_1", ggml::kQ5_1, 32, 24},
    {"Q4_K", ggml::kQ4_K, 256, 144},
    {"Q5_K", ggml::kQ5_K, 256, 176},
    {"Q6_K", ggml::kQ6_K, 256, 210},
    {"IQ4_NL", ggml::kIQ4_NL, 32, 18},
    {"IQ4_XS", ggml::kIQ4_XS, 256, 136},
}};

std::string random_bytes(test::Random& random, std::size_t n) {
  std::string bytes(n, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

GgufWriter random_tensors(test::Random& random) {
  GgufWriter writer;
  writer.version = random() % 2 == 0 ? 2 : 3;
  if (random() % 2 == 0) {
    writer.alignment = std::size_t{8} << test::pick(random, 0, 5);
    writer.key("general.alignment", static_cast<std::uint32_t>(writer.alignment));
  }
  for (std::size_t i = test::pick(random, 0, 8); i > 0; --i) {
    const StoredType& type = kTypes.at(test::pick(random, 0, kTypes.size() - 1));
    std::vector<std::uint64_t> dimensions = {type.block * test::pick(random, 1, 3)};
    std::size_t n_blocks = dimensions.front() / type.block;
    for (std::size_t d = test::pick(random, 0, 3); d > 0; --d) {
      dimensions.push_back(test::pick(random, 1, 3));
      n_blocks *= dimensions.back();
    }
    std::string name = "t";
    name += std::to_string(i);
    writer.tensor(name, type.number, dimensions, random_bytes(random, n_blocks * type.bytes));
  }
  return writer;
}

TEST(Gguf, TensorsThatWereWrittenAreRead) {
  test::Random random(test::seed_of_test());
  const test::TempFolder folder;
  for (int round = 0; round < 300; ++round) {
    const GgufWriter writer = random_tensors(random);
    const Gguf file(folder.write("model.gguf", writer.file()));
    ASSERT_EQ(file.tensors().size(), writer.tensors.size());
    ASSERT_TRUE(file.unreadable().empty());
    for (const GgufWriter::Tensor& stored : writer.tensors) {
      const TensorView& view = file.tensor(stored.name);
      ASSERT_EQ(view.name, stored.name);
      const auto* type = std::find_if(kTypes.begin(), kTypes.end(),
                                      [&](const StoredType& e) { return e.number == stored.type; });
      ASSERT_EQ(name_of(view.dtype), type->name);
      ASSERT_EQ(block_size(view.dtype), type->block);
      ASSERT_EQ(bytes_of(view.dtype, 2 * type->block), 2 * type->bytes);
      const std::vector<std::size_t> shape(stored.dimensions.rbegin(), stored.dimensions.rend());
      ASSERT_EQ(view.shape, shape);
      ASSERT_EQ(text_of(view.data), stored.data);
    }
  }
}

template <typename T>
void write_limits(GgufWriter& writer, std::string_view name) {
  writer.key(std::string(name) + ".min", std::numeric_limits<T>::lowest());
  writer.key(std::string(name) + ".max", std::numeric_limits<T>::max());
  writer.array<T>(std::string(name) + ".list", {std::numeric_limits<T>::lowest(), 0, 1});
}

template <typename T>
void expect_whole_limits(const Gguf& file, const std::string& name) {
  SCOPED_TRACE(name);
  constexpr T kMin = std::numeric_limits<T>::lowest();
  constexpr T kMax = std::numeric_limits<T>::max();
  EXPECT_THAT(file.whole(name + ".max"), Optional(static_cast<std::uint64_t>(kMax)));
  EXPECT_THAT(file.number(name + ".min"), Optional(static_cast<double>(kMin)));
  if (std::is_signed_v<T>)
    EXPECT_THAT(test::error_of([&] { file.whole(name + ".min"); }),
                AllOf(HasSubstr(name + ".min is " + std::to_string(kMin)), HasSubstr("model.gguf")));
  else
    EXPECT_THAT(file.whole(name + ".min"), Optional(0U));
  EXPECT_THAT(file.wholes(name + ".list"), Optional(ElementsAre(static_cast<std::int64_t>(kMin), 0, 1)));
  EXPECT_THAT(file.numbers(name + ".list"), Optional(ElementsAre(static_cast<double>(kMin), 0.0, 1.0)));
}

// All 13 types, at the ends of their ranges, alone and in arrays.
TEST(Gguf, MetadataOfEveryTypeIsRead) {
  const test::TempFolder folder;
  for (const std::uint32_t version : {2U, 3U}) {
    GgufWriter writer;
    writer.version = version;
    write_limits<std::uint8_t>(writer, "u8");
    write_limits<std::int8_t>(writer, "i8");
    write_limits<std::uint16_t>(writer, "u16");
    write_limits<std::int16_t>(writer, "i16");
    write_limits<std::uint32_t>(writer, "u32");
    write_limits<std::int32_t>(writer, "i32");
    write_limits<std::uint64_t>(writer, "u64");
    write_limits<std::int64_t>(writer, "i64");
    write_limits<float>(writer, "f32");
    write_limits<double>(writer, "f64");
    writer.key("yes", true).key("no", false).array<bool>("flags", {true, false});
    writer.key("text", "a\n\"ü").key("empty", "").array<std::string_view>("texts", {"a", "", "bc"});
    writer.array<std::string_view>("no texts", {}).array<float>("no numbers", {});
    const Gguf file(folder.write("model.gguf", writer.file()));
    EXPECT_EQ(file.metadata().values().size(), writer.keys.size());
    expect_whole_limits<std::uint8_t>(file, "u8");
    expect_whole_limits<std::int8_t>(file, "i8");
    expect_whole_limits<std::uint16_t>(file, "u16");
    expect_whole_limits<std::int16_t>(file, "i16");
    expect_whole_limits<std::uint32_t>(file, "u32");
    expect_whole_limits<std::int32_t>(file, "i32");
    expect_whole_limits<std::uint64_t>(file, "u64");
    expect_whole_limits<std::int64_t>(file, "i64");
    EXPECT_THAT(file.number("f32.max"), Optional(double{std::numeric_limits<float>::max()}));
    EXPECT_THAT(file.number("f64.min"), Optional(std::numeric_limits<double>::lowest()));
    EXPECT_THAT(file.numbers("f32.list"),
                Optional(ElementsAre(double{std::numeric_limits<float>::lowest()}, 0.0, 1.0)));
    EXPECT_THAT(file.flag("yes"), Optional(true));
    EXPECT_THAT(file.flag("no"), Optional(false));
    EXPECT_THAT(file.wholes("flags"), Optional(ElementsAre(1, 0)));
    EXPECT_THAT(file.text("text"), Optional(std::string_view("a\n\"ü")));
    EXPECT_THAT(file.text("empty"), Optional(std::string_view()));
    EXPECT_THAT(file.texts("texts"), Optional(ElementsAre("a", "", "bc")));
    EXPECT_THAT(file.texts("no texts"), Optional(ElementsAre()));
    EXPECT_THAT(file.numbers("no numbers"), Optional(ElementsAre()));
  }
}

TEST(Gguf, AMissingKeyIsNothingAndAnotherTypeAnError) {
  const test::TempFolder folder;
  GgufWriter writer;
  writer.key("n", std::uint32_t{7}).key("x", 0.5F).key("s", "text").key("b", true);
  writer.array<std::uint64_t>("ns", {1, ~std::uint64_t{0}}).array<std::string_view>("ss", {"a"});
  const Gguf file(folder.write("model.gguf", writer.file()));
  EXPECT_TRUE(file.has("n"));
  EXPECT_FALSE(file.has("m"));
  EXPECT_EQ(file.whole("m"), std::nullopt);
  EXPECT_EQ(file.number("m"), std::nullopt);
  EXPECT_EQ(file.flag("m"), std::nullopt);
  EXPECT_EQ(file.text("m"), std::nullopt);
  EXPECT_EQ(file.wholes("m"), std::nullopt);
  EXPECT_EQ(file.numbers("m"), std::nullopt);
  EXPECT_EQ(file.texts("m"), std::nullopt);
  const auto names_all = [](const char* key, const char* type, const char* expected) {
    return AllOf(HasSubstr(std::string("key ") + key), HasSubstr(std::string("type ") + type),
                 HasSubstr("model.gguf"), HasSubstr(expected));
  };
  for (const auto& [key, type] :
       {std::pair("x", "f32"), {"s", "string"}, {"b", "bool"}, {"ns", "array of u64"}})
    EXPECT_THAT(test::error_of([&] { file.whole(key); }), names_all(key, type, "an integer"));
  EXPECT_THAT(test::error_of([&] { file.number("s"); }), names_all("s", "string", "a number"));
  EXPECT_THAT(test::error_of([&] { file.number("b"); }), names_all("b", "bool", "a number"));
  EXPECT_THAT(test::error_of([&] { file.flag("n"); }), names_all("n", "u32", "a bool"));
  EXPECT_THAT(test::error_of([&] { file.text("ss"); }), names_all("ss", "array of string", "a string"));
  EXPECT_THAT(test::error_of([&] { file.wholes("n"); }), names_all("n", "u32", "an array of integers"));
  EXPECT_THAT(test::error_of([&] { file.wholes("ss"); }), names_all("ss", "array of string", "integers"));
  EXPECT_THAT(test::error_of([&] { file.numbers("ss"); }), names_all("ss", "array of string", "numbers"));
  EXPECT_THAT(test::error_of([&] { file.texts("ns"); }), names_all("ns", "array of u64", "strings"));
  EXPECT_THAT(test::error_of([&] { file.wholes("ns"); }), HasSubstr("18446744073709551615"));
}

TEST(Gguf, AMissingNameAndAnUnreadableTypeAreErrorsWhenAskedFor) {
  const test::TempFolder folder;
  GgufWriter writer;
  writer.tensor("known", ggml::kQ2_K, {256}, std::string(84, 'x'));
  writer.tensor("gone", 5, {32}, std::string(20, 'x')).tensor("new", 99, {1, 2}, "x");
  writer.tensor("ids", ggml::kI32, {2}, "12345678").tensor("w", ggml::kBF16, {1}, "ab");
  const Gguf file(folder.write("model.gguf", writer.file()));
  EXPECT_THAT(file.unreadable(), ElementsAre(std::pair("gone", "Q4_3"), std::pair("ids", "I32"),
                                             std::pair("known", "Q2_K"), std::pair("new", "99")));
  EXPECT_EQ(file.tensors().size(), 1U);
  EXPECT_TRUE(file.contains("known"));
  EXPECT_FALSE(file.contains("nothing"));
  for (const auto& [name, type] : file.unreadable())
    EXPECT_THAT(test::error_of([&, key = name] { file.tensor(key); }),
                AllOf(HasSubstr("tensor " + name), HasSubstr("of type " + type), HasSubstr("model.gguf"),
                      HasSubstr("Q4_K")));
  EXPECT_THAT(test::error_of([&] { file.tensor("nothing"); }),
              AllOf(HasSubstr("nothing"), HasSubstr("model.gguf")));
}

const std::filesystem::path kGolden = std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/golden-gguf";

// Files of the `gguf` package: metadata of every type, and tensors.
TEST(Gguf, WhatTheReferencePackageWroteIsRead) {
  const Gguf file(kGolden / "blocks.gguf");
  EXPECT_THAT(file.text("general.architecture"), Optional(std::string_view("test")));
  EXPECT_THAT(file.whole("uint8"), Optional(200U));
  EXPECT_THAT(file.wholes("int8s"), Optional(ElementsAre(-100, 1, 2)));
  EXPECT_THAT(file.whole("uint16"), Optional(60000U));
  EXPECT_THAT(file.wholes("int16s"), Optional(ElementsAre(-30000, 1, 2)));
  EXPECT_THAT(file.whole("uint32"), Optional(4000000000U));
  EXPECT_THAT(file.number("int32"), Optional(-2e9));
  EXPECT_THAT(file.whole("uint64"), Optional(~std::uint64_t{0}));
  EXPECT_THAT(file.wholes("int64s"), Optional(ElementsAre(std::numeric_limits<std::int64_t>::min(), 1, 2)));
  EXPECT_THAT(file.number("float32"), Optional(-0.15625));
  EXPECT_THAT(file.numbers("float64s"), Optional(ElementsAre(1.5, -2.0)));
  EXPECT_THAT(file.flag("bool"), Optional(true));
  EXPECT_THAT(file.wholes("bools"), Optional(ElementsAre(1, 0, 1)));
  EXPECT_THAT(file.text("string"), Optional(std::string_view("Größe 🙂")));
  EXPECT_THAT(file.texts("strings"), Optional(ElementsAre("a", "", "ÿ\n")));
  EXPECT_THAT(file.unreadable(), ElementsAre(std::pair("I32", "I32")));
  for (const char* name : {"F32", "F16", "BF16"}) {
    const TensorView& view = file.tensor(name);
    EXPECT_THAT(view.shape, ElementsAre(2, 3, 2));
    std::vector<float> values(view.size());
    to_float(view.dtype, view.data, 0, values);
    EXPECT_THAT(values, ElementsAre(-6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5));
  }
}

TEST(SplitGguf, AnyPartOpensAll) {
  for (const char* given :
       {"split-00001-of-00003.gguf", "split-00002-of-00003.gguf", "split-00003-of-00003.gguf"}) {
    const Gguf file(kGolden / given);
    EXPECT_EQ(file.path().filename(), "split-00001-of-00003.gguf");
    EXPECT_THAT(file.text("general.name"), Optional(std::string_view("in three parts")));
    ASSERT_EQ(file.tensors().size(), 5U);
    for (std::size_t i = 0; i < 5; ++i) {
      const std::string name = std::string("t").append(std::to_string(i));
      const TensorView& view = file.tensor(name);
      EXPECT_THAT(view.shape, ElementsAre(2, i + 1));
      std::vector<float> values(view.size());
      to_float(view.dtype, view.data, 0, values);
      EXPECT_THAT(values, testing::Each(static_cast<float>(i)));
      EXPECT_EQ(file.path_of(name).filename(), "split-0000" + std::to_string(i / 2 + 1) + "-of-00003.gguf");
    }
  }
}

TEST(Gguf, OnlyTheNameSaysWhatIsMeantAsGguf) {
  EXPECT_TRUE(is_gguf("a/b.gguf"));
  EXPECT_FALSE(is_gguf("a.gguf/b"));
  EXPECT_FALSE(is_gguf("gguf"));
  EXPECT_FALSE(is_gguf("b.safetensors"));
}

// As long as Qwen3.5's: 248,320 tokens and 247,587 merges. The budget, seconds of the
// processor, is many times what it takes, for the sanitizers.
TEST(Gguf, ALongVocabularyIsReadAtOnce) {
  std::vector<std::string> tokens(248'320);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = "token" + std::to_string(i);
  std::vector<std::string> merges(247'587, "left right");
  GgufWriter writer;
  writer.array("tokenizer.ggml.tokens", tokens).array("tokenizer.ggml.merges", merges);
  const test::TempFolder folder;
  const std::filesystem::path path = folder.write("model.gguf", writer.file());
  const std::clock_t start = std::clock();
  const Gguf file(path);
  EXPECT_LT(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC, 0.2);
  const auto read = file.texts("tokenizer.ggml.tokens");
  ASSERT_TRUE(read.has_value());
  EXPECT_TRUE(std::equal(read->begin(), read->end(), tokens.begin(), tokens.end()));
  EXPECT_EQ(file.texts("tokenizer.ggml.merges")->back(), "left right");
}

}  // namespace
}  // namespace sluice::model
