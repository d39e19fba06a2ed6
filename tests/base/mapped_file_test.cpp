#include "base/mapped_file.h"

#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/support/errors.h"
#include "tests/support/seed.h"
#include "tests/support/temp_folder.h"

namespace sluice {
namespace {

using testing::HasSubstr;

TEST(MappedFile, HoldsTheFilesBytes) {
  test::Random random(test::fresh_seed());
  const test::TempFolder folder;
  for (const std::size_t size : {0U, 1U, 4095U, 4096U, 4097U, 100000U}) {
    std::string bytes(size, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    const std::filesystem::path path = folder.write("data", bytes);
    const MappedFile file(path);
    EXPECT_EQ(file.text(), bytes);
    EXPECT_EQ(file.bytes().size(), size);
    EXPECT_EQ(file.path(), path);
    EXPECT_EQ(read_text_file(path, size), bytes);
  }
}

TEST(MappedFile, MovesWithItsMapping) {
  const test::TempFolder folder;
  MappedFile a(folder.write("a", "first"));
  const std::byte* mapped = a.bytes().data();
  MappedFile b(std::move(a));
  EXPECT_EQ(b.bytes().data(), mapped);
  MappedFile c(folder.write("c", "second"));
  c = std::move(b);
  EXPECT_EQ(c.text(), "first");
  EXPECT_EQ(c.path().filename(), "a");
}

TEST(MappedFile, OutlivesTheFilesName) {
  const test::TempFolder folder;
  const std::filesystem::path path = folder.write("gone", "still here");
  const MappedFile file(path);
  std::filesystem::remove(path);
  EXPECT_EQ(file.text(), "still here");
}

TEST(MappedFile, WhatIsNoFileIsAnErrorThatNamesIt) {
  const test::TempFolder folder;
  const auto failure = [](const std::filesystem::path& path) {
    return test::error_of([&] { const MappedFile file(path); });
  };
  EXPECT_THAT(failure(folder.path() / "missing"), HasSubstr("missing"));
  EXPECT_THAT(failure(folder.path()), HasSubstr("not a regular file"));
  EXPECT_THAT(failure("/dev/zero"), HasSubstr("not a regular file"));
  // A pipe without a writer would block whoever opens it.
  const std::filesystem::path pipe = folder.path() / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT(failure(pipe), HasSubstr("not a regular file"));
}

TEST(MappedFile, WhatIsThereButCantBeSeenIsThere) {
  const test::TempFolder folder;
  EXPECT_TRUE(is_there(folder.write("file", "")));
  EXPECT_TRUE(is_there(folder.path()));
  EXPECT_FALSE(is_there(folder.path() / "missing"));
  std::filesystem::create_symlink("nowhere", folder.path() / "dangling");
  EXPECT_FALSE(is_there(folder.path() / "dangling"));
  std::filesystem::create_symlink("loop", folder.path() / "loop");
  EXPECT_TRUE(is_there(folder.path() / "loop"));
}

TEST(MappedFile, ATextFileMayNotBeLargerThanItsReaderExpects) {
  const test::TempFolder folder;
  const std::filesystem::path path = folder.write("text", "12345");
  EXPECT_EQ(read_text_file(path, 5), "12345");
  EXPECT_THAT(test::error_of([&] { read_text_file(path, 4); }), HasSubstr("text"));
}

}  // namespace
}  // namespace sluice
