#include "model/safetensors.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bf16.h"
#include "tests/support/errors.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/stored_numbers.h"
#include "tests/support/temp_folder.h"

namespace sluice::model {
namespace {

using test::StoredTensor;
using testing::AllOf;
using testing::HasSubstr;

std::vector<StoredTensor> random_tensors(test::Random& random) {
  static constexpr std::array<const char*, 3> kTypes = {"F32", "F16", "BF16"};
  std::vector<StoredTensor> tensors;
  for (std::size_t i = test::pick(random, 0, 6); i > 0; --i) {
    StoredTensor tensor{.name = std::string("t").append(std::to_string(i)),
                        .dtype = kTypes[test::pick(random, 0, 2)],
                        .shape = {},
                        .bytes = {}};
    std::size_t n = 1;
    for (std::size_t d = test::pick(random, 0, 4); d > 0; --d) {
      tensor.shape.push_back(test::pick(random, 0, 5));
      n *= tensor.shape.back();
    }
    tensor.bytes = test::random_stored(random, tensor.dtype, n);
    tensors.push_back(tensor);
  }
  return tensors;
}

// Any number of tensors of any shape, scalars and empty ones among them, at any alignment.
TEST(Safetensors, WhatWasWrittenIsRead) {
  test::Random random(test::seed_of_test());
  const test::TempFolder folder;
  for (int round = 0; round < 300; ++round) {
    const std::vector<StoredTensor> tensors = random_tensors(random);
    const std::size_t padding = test::pick(random, 0, 9);
    const Safetensors file(folder.write("model.safetensors", test::safetensors_file(tensors, padding)));
    ASSERT_EQ(file.tensors().size(), tensors.size());
    for (const StoredTensor& stored : tensors) {
      ASSERT_TRUE(file.contains(stored.name));
      const TensorView& view = file.tensor(stored.name);
      ASSERT_EQ(view.name, stored.name);
      ASSERT_EQ(name_of(view.dtype), stored.dtype);
      ASSERT_EQ(view.shape, stored.shape);
      const std::vector<double> expected = test::stored_values(stored.dtype, stored.bytes);
      ASSERT_EQ(view.size(), expected.size());
      ASSERT_EQ(view.data.size(), bytes_of(view.dtype, view.size()));
      const std::size_t first = test::pick(random, 0, expected.size());
      std::vector<float> actual(expected.size() - first, -777.0F);
      to_float(view.dtype, view.data, first, actual);
      for (std::size_t i = 0; i < actual.size(); ++i) ASSERT_EQ(actual[i], expected[first + i]);
    }
  }
}

TEST(Safetensors, AMissingNameAndAnUnreadableTypeAreErrorsWhenAskedFor) {
  const test::TempFolder folder;
  const Safetensors file(
      folder.write("model.safetensors", test::safetensors_file({{"ids", "I64", {2}, std::string(16, '\1')},
                                                                {"odd", "NEW7", {3}, std::string(5, '\1')},
                                                                {"w", "BF16", {1}, "ab"}})));
  EXPECT_EQ(file.tensors().size(), 1U);
  EXPECT_EQ(file.unreadable().size(), 2U);
  EXPECT_TRUE(file.contains("ids"));
  EXPECT_FALSE(file.contains("nothing"));
  EXPECT_THAT(test::error_of([&] { file.tensor("ids"); }),
              AllOf(HasSubstr("ids"), HasSubstr("I64"), HasSubstr("model.safetensors")));
  EXPECT_THAT(test::error_of([&] { file.tensor("odd"); }), AllOf(HasSubstr("odd"), HasSubstr("NEW7")));
  EXPECT_THAT(test::error_of([&] { file.tensor("nothing"); }),
              AllOf(HasSubstr("nothing"), HasSubstr("model.safetensors")));
}

// Opens a file of these bytes, which must fail; the message, which must name the file.
std::string failure(const test::TempFolder& folder, const std::string& bytes) {
  const std::filesystem::path path = folder.write("bad.safetensors", bytes);
  const std::string message = test::error_of([&] { const Safetensors file(path); });
  EXPECT_THAT(message, HasSubstr("bad.safetensors"));
  return message;
}

TEST(HostileSafetensors, EveryTruncationIsAnError) {
  const test::TempFolder folder;
  const std::string whole = test::safetensors_file(
      {{"a", "F32", {2, 3}, std::string(24, 'x')}, {"b", "BF16", {5}, std::string(10, 'y')}}, 3);
  for (std::size_t n = 0; n < whole.size(); ++n) {
    SCOPED_TRACE(n);
    failure(folder, whole.substr(0, n));
  }
  EXPECT_THAT(failure(folder, whole + "z"), HasSubstr("1 bytes after the last tensor"));
}

TEST(HostileSafetensors, AHeaderLengthThatCannotBeIsAnError) {
  const test::TempFolder folder;
  const std::string good = test::safetensors_file("{}", "");
  EXPECT_NO_THROW(Safetensors(folder.write("good.safetensors", good)));
  for (const std::string& length :
       {std::string(8, '\xff'), std::string("\xff\xff\xff\xff\xff\xff\xff\x7f", 8),
        std::string("\x03\0\0\0\0\0\0\0", 8), std::string("\0\0\0\0\1\0\0\0", 8)})
    EXPECT_THAT(failure(folder, length + "{}"), HasSubstr("header length"));
  failure(folder, std::string(8, '\0') + "{}");  // no header at all, data left over
  // Above the format's limit, in a file that is large enough (sparse, so that it costs nothing).
  const std::filesystem::path large =
      folder.write("bad.safetensors", std::string("\x01\xe1\xf5\x05\0\0\0\0", 8) + "{}");
  std::filesystem::resize_file(large, 100'000'100);
  EXPECT_THAT(test::error_of([&] { const Safetensors file(large); }), HasSubstr("100000001"));
}

TEST(HostileSafetensors, AHeaderThatIsNotTheFormatsIsAnError) {
  const test::TempFolder folder;
  const std::string data(8, 'x');
  for (
      const std::string header : {
          R"([])",
          R"( {})",
          "\n{}",
          R"("a")",
          R"({)",
          R"({}})",
          R"({"a":1})",
          R"({"a":null})",
          R"({"a":[]})",
          R"({"__metadata__":{"a":1}})",
          R"({"__metadata__":[]})",
          R"({"__metadata__":null})",
          R"({"a":{"dtype":"F32","shape":[2]}})",
          R"({"a":{"dtype":"F32","data_offsets":[0,8]}})",
          R"({"a":{"shape":[2],"data_offsets":[0,8]}})",
          R"({"a":{"dtype":7,"shape":[2],"data_offsets":[0,8]}})",
          R"({"a":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})",
          R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})",
          R"({"a":{"dtype":"F32","shape":["2"],"data_offsets":[0,8]}})",
          R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})",
          R"({"a":{"dtype":"F32","shape":[true,2],"data_offsets":[0,8]}})",
          R"({"a":{"dtype":"F32","shape":[[2]],"data_offsets":[0,8]}})",
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})",
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}})",
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":{"0":8}}})",
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8.0]}})",
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,8]}})",
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,1e1]}})",
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551616]}})",
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"data_offsets":[0,8]}})",
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"extra":1}})",
          R"({"a":{"dtype":"F32","shape":[[[[[[[[[]]]]]]]]],"data_offsets":[0,8]}})",
          "{\"a\xff\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
      }) {
    SCOPED_TRACE(header);
    failure(folder, test::safetensors_file(header, data));
  }
  failure(folder, test::safetensors_file(std::string("{\"a\":") + std::string(1'000'000, '['), data));
  failure(folder, test::safetensors_file(std::string("{}\0", 3), ""));
}

std::string entry(const std::string& name, const std::string& shape, const std::string& offsets,
                  const std::string& dtype = "F32") {
  return '"' + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + shape + "],\"data_offsets\":[" +
         offsets + "]}";
}

std::string braced(const std::string& entries) {
  return std::string("{").append(entries).append("}");
}

TEST(HostileSafetensors, OffsetsMustBeInOrderInsideTheFileAndMatchTheShape) {
  const test::TempFolder folder;
  const auto of_entries = [&](const std::string& entries, std::size_t data_size) {
    return failure(folder, test::safetensors_file(braced(entries), std::string(data_size, 'x')));
  };
  EXPECT_THAT(of_entries(entry("tensor_a", "2", "8,0"), 8), HasSubstr("tensor_a"));
  EXPECT_THAT(of_entries(entry("tensor_a", "2", "0,9"), 8), HasSubstr("tensor_a"));
  EXPECT_THAT(of_entries(entry("tensor_a", "2", "18446744073709551608,18446744073709551615"), 8),
              HasSubstr("tensor_a"));
  EXPECT_THAT(of_entries(entry("tensor_a", "2", "8,16"), 8), HasSubstr("tensor_a"));
  EXPECT_THAT(of_entries(entry("tensor_a", "3", "0,8"), 8), AllOf(HasSubstr("tensor_a"), HasSubstr("12")));
  EXPECT_THAT(of_entries(entry("tensor_a", "2", "0,8", "BF16"), 8), HasSubstr("tensor_a"));
  EXPECT_THAT(of_entries(entry("tensor_a", "0", "0,8"), 8), HasSubstr("tensor_a"));
  EXPECT_THAT(of_entries(entry("tensor_a", "1", "0,1", "F4"), 1), HasSubstr("tensor_a"));
  // Overlap: the same bytes, part of them, one inside the other.
  EXPECT_THAT(of_entries(entry("a", "2", "0,8") + "," + entry("b", "2", "0,8"), 8),
              HasSubstr("inside another tensor"));
  EXPECT_THAT(of_entries(entry("a", "2", "0,8") + "," + entry("b", "2", "4,12"), 12),
              HasSubstr("inside another tensor"));
  EXPECT_THAT(of_entries(entry("a", "4", "0,16") + "," + entry("b", "2", "4,12"), 16),
              HasSubstr("inside another tensor"));
  // Holes: before, between, behind.
  EXPECT_THAT(of_entries(entry("a", "2", "4,12"), 12), HasSubstr("after a hole"));
  EXPECT_THAT(of_entries(entry("a", "2", "0,8") + "," + entry("b", "2", "12,20"), 20),
              HasSubstr("after a hole"));
  EXPECT_THAT(of_entries(entry("a", "2", "0,8"), 12), HasSubstr("4 bytes after the last tensor"));
}

TEST(HostileSafetensors, AShapeWhoseProductOverflowsIsAnError) {
  const test::TempFolder folder;
  for (const char* shape : {"18446744073709551615", "4294967296,4294967296", "4294967296,1073741824,1,4",
                            "2305843009213693952", "2,9223372036854775808", "4611686018427387904"}) {
    SCOPED_TRACE(shape);
    // 2^64 bytes or bits are 0 if the product wraps.
    EXPECT_THAT(failure(folder, test::safetensors_file(braced(entry("t", shape, "0,0")), "")),
                HasSubstr("tensor t"));
  }
  // With a zero extent there is no data, whatever the others are.
  const Safetensors file(folder.write(
      "zero.safetensors", test::safetensors_file(braced(entry("t", "4294967296,0,4294967296", "0,0")), "")));
  EXPECT_EQ(file.tensor("t").data.size(), 0U);
  std::string many = "1";
  for (int i = 0; i < 64; ++i) many += ",1";
  EXPECT_THAT(failure(folder, test::safetensors_file(braced(entry("t", many, "0,4")), "abcd")),
              HasSubstr("shape"));
}

// A name from a file can't forge lines or terminal codes in a message.
TEST(HostileSafetensors, NamesAreEscapedInMessages) {
  const test::TempFolder folder;
  const std::string message =
      failure(folder, test::safetensors_file(braced(entry("\\n\\u001b[31m", "3", "0,8")), "12345678"));
  EXPECT_THAT(message, HasSubstr("\\x0a\\x1b[31m"));
  failure(folder, test::safetensors_file(braced(entry(std::string(100'000, 'n'), "3", "0,8")), "12345678"));
}

// Bytes changed at random: the file opens or gives an Error, and what opens can be read to its end.
TEST(HostileSafetensors, RandomDamageNeverDoesWorse) {
  test::Random random(test::seed_of_test());
  const test::TempFolder folder;
  const std::string good = test::safetensors_file({{"a", "F32", {2, 3}, std::string(24, 'x')},
                                                   {"b", "BF16", {5}, std::string(10, 'y')},
                                                   {"c", "F16", {}, "zz"}});
  std::size_t opened = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string bad = good;
    for (std::size_t n = test::pick(random, 1, 3); n > 0; --n) {
      static constexpr std::string_view kBytes = "0123456789[]{},:\"-eF";
      bad[test::pick(random, 0, bad.size() - 1)] =
          random() % 4 == 0 ? static_cast<char>(random()) : kBytes[test::pick(random, 0, kBytes.size() - 1)];
    }
    const std::filesystem::path path = folder.write("bad.safetensors", bad);
    try {
      const Safetensors file(path);
      ++opened;
      for (const auto& [name, view] : file.tensors()) {
        std::vector<float> values(view.size());
        to_float(view.dtype, view.data, 0, values);
      }
    } catch (const Error& error) {
      ASSERT_THAT(error.what(), HasSubstr("bad.safetensors"));
    }
  }
  EXPECT_GT(opened, 0U);  // damage to names and data only
}

// Headers that are all entries: none may cost more than its size, and none is taken for granted.
TEST(Safetensors, HeadersOfCountlessEntries) {
  const test::TempFolder folder;
  const auto write = [&](const std::string& header) {
    std::string file;
    for (unsigned shift = 0; shift < 64; shift += 8)
      file += static_cast<char>((header.size() >> shift) & 0xFFU);
    return folder.write("model.safetensors", file + header);
  };
  const auto error_of_header = [&](const std::string& header) {
    const std::filesystem::path path = write(header);
    return test::error_of([&] { const Safetensors read(path); });
  };
  const auto repeated = [](const std::string& begin, const std::string& end) {
    std::string header = "{" + begin;
    for (int i = 0; i < 20'000; ++i) {
      if (i > 0) header += ',';
      header.append("\"t")
          .append(std::to_string(i))
          .append("\":")
          .append(begin.empty() ? R"({"dtype":"F32","shape":[0],"data_offsets":[0,0]})" : R"("x")");
    }
    return header + end + "}";
  };
  EXPECT_EQ(Safetensors(write(repeated("", ""))).tensors().size(), 20'000U);
  EXPECT_THAT(error_of_header(repeated("", R"(,"t7":{"dtype":"F32","shape":[0],"data_offsets":[0,0]})")),
              HasSubstr("\"t7\""));
  EXPECT_THAT(error_of_header(repeated(R"("__metadata__":{)", "}")), HasSubstr("10000 entries"));
  EXPECT_THAT(error_of_header(R"({"t":{"dtype":"F32","shape":[0],"shape":[0],"data_offsets":[0,0]}})"),
              HasSubstr("\"shape\""));
  EXPECT_THAT(error_of_header(R"({"t":{"dtype":"F32","shape":[)" + std::string(3'000'000, '1') + "]}}"),
              HasSubstr("3000000 characters"));
}

}  // namespace
}  // namespace sluice::model
