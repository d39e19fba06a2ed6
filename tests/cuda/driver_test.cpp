// The driver's calls as the backend makes them, on the PTX machine: contexts apart from each other, memory, launches, and one clear
// sentence for what can't be.
#include "cuda/driver.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "cuda/build.h"
#include "cuda/context.h"
#include "tests/cuda/ptx_machine.h"
#include "tests/support/errors.h"

namespace sluice::cuda {
namespace {

using testing::HasSubstr;

// add: a[i] += b for i < n. wild: writes where nothing is.
constexpr char kPtx[] = R"(.version 8.0
.target sm_75
.address_size 64
.visible .entry add(.param .align 8 .b8 p[24]) {
  .reg .pred %p1;
  .reg .b32 %r<8>;
  .reg .b64 %d<4>;
  ld.param.u64 %d1, [p];
  ld.param.u32 %r1, [p+8];
  ld.param.u32 %r2, [p+16];
  mov.u32 %r3, %ctaid.x;
  mov.u32 %r4, %ntid.x;
  mov.u32 %r5, %tid.x;
  mad.lo.s32 %r6, %r3, %r4, %r5;
  setp.ge.u32 %p1, %r6, %r2;
  @%p1 ret;
  mul.wide.u32 %d2, %r6, 4;
  add.s64 %d3, %d1, %d2;
  ld.global.u32 %r7, [%d3];
  add.s32 %r7, %r7, %r1;
  st.global.u32 [%d3], %r7;
  ret;
}
.visible .entry wild(.param .align 8 .b8 p[24]) {
  .reg .b32 %r<2>;
  .reg .b64 %d<2>;
  mov.u64 %d1, 64;
  mov.u32 %r1, 1;
  st.global.u32 [%d1], %r1;
  ret;
}
)";

struct AddParameters {
  DevicePointer data = 0;
  std::uint32_t b = 0;
  std::uint32_t unused = 0;
  std::uint32_t n = 0;
};

std::span<const std::byte> image() {
  return std::as_bytes(std::span(kPtx));
}

std::vector<std::uint32_t> add_on(const std::shared_ptr<const Context>& context, std::uint32_t b) {
  const Stream stream(context);
  const Module module(context, image());
  std::vector<std::uint32_t> numbers = {1, 2, 3, 4, 5};
  const DeviceMemory memory(context, sizeof(std::uint32_t) * numbers.size());
  memory.upload(0, std::as_bytes(std::span(numbers)));
  module.kernel("add").launch(2, 32, stream, AddParameters{memory.address(), b, 0, 5});
  stream.synchronize();
  memory.download(0, std::as_writable_bytes(std::span(numbers)));
  return numbers;
}

TEST(CudaDriver, RunsAKernelInEachOfSeveralContexts) {
  const auto first = sluice::test::new_context();
  const auto second = sluice::test::new_context();
  EXPECT_THAT(add_on(first, 10), testing::ElementsAre(11, 12, 13, 14, 15));
  EXPECT_THAT(add_on(second, 20), testing::ElementsAre(21, 22, 23, 24, 25));
  std::vector<std::uint32_t> other;
  std::thread([&] { other = add_on(first, 30); }).join();
  EXPECT_THAT(other, testing::ElementsAre(31, 32, 33, 34, 35));
}

TEST(CudaDriver, AFaultStaysInItsContext) {
  const auto healthy = sluice::test::new_context();
  const auto faulty = sluice::test::new_context();
  {
    const Stream stream(faulty);
    const Module module(faulty, image());
    module.kernel("wild").launch(1, 1, stream, AddParameters{});
    EXPECT_THAT(sluice::test::error_of([&] { stream.synchronize(); }),
                testing::AllOf(HasSubstr("reports a failed kernel"), HasSubstr("ILLEGAL_ADDRESS"),
                               HasSubstr("cuda:0, ")));
    EXPECT_THROW(stream.synchronize(), Error);  // it stays
  }
  EXPECT_THAT(add_on(healthy, 1), testing::ElementsAre(2, 3, 4, 5, 6));
}

TEST(CudaDriver, MappedMemoryIsSharedWithARunningKernel) {
  const auto context = sluice::test::new_context();
  const Stream stream(context);
  const Module module(context, image());
  const MappedMemory memory(context, 2 * sizeof(std::uint32_t));
  std::array<std::uint32_t, 2> numbers = {0, 0};
  std::memcpy(numbers.data(), memory.data(), memory.bytes());
  EXPECT_THAT(numbers, testing::ElementsAre(0, 0));
  const Event begin(context);
  const Event end(context);
  begin.record(stream);
  module.kernel("add").launch(1, 32, stream, AddParameters{memory.address(), 7, 0, 2});
  end.record(stream);
  end.synchronize();
  EXPECT_TRUE(stream.is_done());
  EXPECT_GT(end.seconds_since(begin), 0);
  std::memcpy(numbers.data(), memory.data(), memory.bytes());
  EXPECT_THAT(numbers, testing::ElementsAre(7, 7));
}

TEST(CudaDriver, ClearsAPart) {
  const auto context = sluice::test::new_context();
  const Stream stream(context);
  const DeviceMemory memory(context, 4);
  std::array<unsigned char, 4> bytes = {1, 2, 3, 4};
  memory.upload(0, std::as_bytes(std::span(bytes)));
  memory.clear(1, 2, stream);
  stream.synchronize();
  memory.download(0, std::as_writable_bytes(std::span(bytes)));
  EXPECT_THAT(bytes, testing::ElementsAre(1, 0, 0, 4));
}

TEST(CudaDriver, SharedMemoryCountsForOccupancy) {
  const auto context = sluice::test::new_context();
  const Module module(context, image());
  Kernel kernel = module.kernel("add");
  const auto n_sms = static_cast<std::size_t>(context->device().n_sms);
  EXPECT_EQ(kernel.shared_at_most(), static_cast<std::size_t>(context->device().shared_per_block));
  EXPECT_GT(kernel.resident_blocks(256), n_sms);
  kernel.set_shared(kernel.shared_at_most());
  EXPECT_EQ(kernel.resident_blocks(256), n_sms);
  const Stream stream(context);
  const AddParameters nothing{};
  EXPECT_THAT(
      sluice::test::error_of([&] { kernel.launch(static_cast<unsigned>(n_sms) + 1, 256, stream, nothing); }),
      HasSubstr("blocks of kernel add don't fit at once"));
  EXPECT_THAT(sluice::test::error_of([&] { kernel.set_shared(kernel.shared_at_most() + 1); }),
              testing::AllOf(HasSubstr("bytes of shared memory"), HasSubstr("too small")));
}

TEST(CudaDriver, SaysWhatIsWrong) {
  EXPECT_THAT(sluice::test::error_of([] { Driver::open("/nowhere/libcuda.so.1"); }),
              HasSubstr("was not found (/nowhere"));
  const auto context = sluice::test::new_context();
  EXPECT_THAT(sluice::test::error_of([&] { Context::make(sluice::test::ptx_machine(), 7); }),
              HasSubstr("there is no device 7 (cuda:7): there is cuda:0 alone"));
  EXPECT_THAT(sluice::test::error_of([&] { DeviceMemory(context, std::size_t{1} << 50U); }),
              HasSubstr("the GPU's memory is full"));
  EXPECT_THAT(
      sluice::test::error_of([&] { Module(context, std::as_bytes(std::span(".version 1\n.nonsense"))); }),
      HasSubstr("can't load the kernels"));
  const Module module(context, image());
  EXPECT_THAT(sluice::test::error_of([&] { module.kernel("missing"); }),
              HasSubstr("can't find kernel missing"));
}

TEST(CudaDriver, SaysWhichGpuIsTooOldOrTooSmall) {
  const auto driver = sluice::test::ptx_machine();
  const DeviceInfo good = driver->device(0);
  EXPECT_EQ(why_unusable(*driver, good), "");
  DeviceInfo old = good;
  old.major = 7;
  old.minor = 0;
  EXPECT_EQ(why_unusable(*driver, old), "its compute capability is 7.0, the kernels need 7.5 or newer");
  DeviceInfo lonely = good;
  lonely.cooperative = false;
  EXPECT_THAT(why_unusable(*driver, lonely), HasSubstr("cooperative"));
  DeviceInfo small = good;
  small.shared_per_block = 48 << 10;
  EXPECT_EQ(why_unusable(*driver, small), "a block has 48 KB of shared memory, the kernels need 64 KB");
}

TEST(CudaDriver, ASurveyTellsTheDevices) {
  const Survey found = survey(SLUICE_PTX_LIBRARY);
  EXPECT_EQ(found.problem, "");
  ASSERT_EQ(found.devices.size(), 1U);
  EXPECT_EQ(found.reasons, std::vector<std::string>{""});
  EXPECT_EQ(found.driver, "13.0");
  EXPECT_THAT(survey("/nowhere/libcuda.so.1").problem, HasSubstr("was not found"));
}

}  // namespace
}  // namespace sluice::cuda
