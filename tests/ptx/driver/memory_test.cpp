// Memory and copies of the driver library.
#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>

#include "tests/ptx/driver/driver_fixture.h"

namespace sluice::ptx::test {
namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes numbered(std::size_t count) {
  Bytes bytes(count);
  std::iota(bytes.begin(), bytes.end(), std::uint8_t{1});
  return bytes;
}

TEST_F(DriverTest, AllocationsAreCounted) {
  size_t before = 0;
  size_t after = 0;
  size_t total = 0;
  CUdeviceptr address = 0;
  EXPECT_GOOD(cuMemGetInfo_v2(&before, &total));
  EXPECT_GOOD(cuMemAlloc_v2(&address, 100'000));
  EXPECT_EQ(address % 256, 0);
  EXPECT_GOOD(cuMemGetInfo_v2(&after, &total));
  EXPECT_GE(before - after, 100'000);
  testing::internal::CaptureStderr();
  EXPECT_RESULT(cuMemFree_v2(address + 256), CUDA_ERROR_INVALID_VALUE);
  EXPECT_GOOD(cuMemFree_v2(address));
  EXPECT_RESULT(cuMemFree_v2(address), CUDA_ERROR_INVALID_VALUE);
  EXPECT_RESULT(cuMemAlloc_v2(&address, total + 1), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_RESULT(cuMemAlloc_v2(&address, 0), CUDA_ERROR_INVALID_VALUE);
  static_cast<void>(testing::internal::GetCapturedStderr());
  EXPECT_GOOD(cuMemFree_v2(0));
  EXPECT_GOOD(cuMemGetInfo_v2(&after, &total));
  EXPECT_EQ(before, after);
}

TEST_F(DriverTest, CopiesInAllDirections) {
  const Bytes in = numbered(100);
  CUdeviceptr a = device(in);
  CUdeviceptr b = device(Bytes(100));
  EXPECT_GOOD(cuMemcpyDtoD_v2(b + 10, a, 90));
  Bytes expected(100);
  std::copy_n(in.begin(), 90, expected.begin() + 10);
  EXPECT_EQ(host<std::uint8_t>(b, 100), expected);
  Bytes out(100);
  EXPECT_GOOD(cuMemcpy(reinterpret_cast<CUdeviceptr>(out.data()), b, 100));
  EXPECT_EQ(out, expected);
  EXPECT_GOOD(cuMemcpy(a, reinterpret_cast<CUdeviceptr>(expected.data()), 100));
  EXPECT_EQ(host<std::uint8_t>(a, 100), expected);

  // Out of an allocation's bounds.
  testing::internal::CaptureStderr();
  EXPECT_RESULT(cuMemcpyHtoD_v2(a + 1, in.data(), 100), CUDA_ERROR_INVALID_VALUE);
  EXPECT_RESULT(cuMemcpyDtoH_v2(out.data(), b + 100, 1), CUDA_ERROR_INVALID_VALUE);
  EXPECT_RESULT(cuMemcpyHtoD_v2(16, in.data(), 4), CUDA_ERROR_INVALID_VALUE);
  EXPECT_RESULT(cuMemsetD8_v2(a, 0, 101), CUDA_ERROR_INVALID_VALUE);
  static_cast<void>(testing::internal::GetCapturedStderr());
}

// On either side, at once or later: the call refuses it, and says why.
TEST_F(DriverTest, FreedMemoryIsRefused) {
  Bytes out(16);
  const auto own = reinterpret_cast<CUdeviceptr>(out.data());
  const CUdeviceptr other = device(Bytes(16));
  const CUdeviceptr freed = device(Bytes(16));
  CUstream stream = nullptr;
  EXPECT_GOOD(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  EXPECT_GOOD(cuMemFree_v2(freed));
  for (const CUdeviceptr address : {freed, freed + 4}) {
    const auto refused = [](CUresult result) {
      EXPECT_STREQ(name_of(result), "CUDA_ERROR_INVALID_VALUE");
      EXPECT_THAT(testing::internal::GetCapturedStderr(), testing::HasSubstr("was freed\n"));
      testing::internal::CaptureStderr();
    };
    testing::internal::CaptureStderr();
    refused(cuMemcpy(own, address, 4));
    refused(cuMemcpy(address, own, 4));
    refused(cuMemcpyAsync(own, address, 4, stream));
    refused(cuMemcpyAsync(address, own, 4, stream));
    refused(cuMemcpyHtoD_v2(address, out.data(), 4));
    refused(cuMemcpyHtoD_v2(other, reinterpret_cast<void*>(address), 4));
    refused(cuMemcpyDtoH_v2(out.data(), address, 4));
    refused(cuMemcpyDtoHAsync_v2(out.data(), address, 4, stream));
    refused(cuMemcpyDtoD_v2(other, address, 4));
    refused(cuMemcpyDtoDAsync_v2(address, other, 4, stream));
    refused(cuMemsetD8_v2(address, 1, 4));
    refused(cuMemsetD32Async(address, 1, 1, stream));
    static_cast<void>(testing::internal::GetCapturedStderr());
  }
  EXPECT_GOOD(cuStreamDestroy_v2(stream));
}

TEST_F(DriverTest, Fills) {
  CUdeviceptr memory = device(Bytes(32));
  EXPECT_GOOD(cuMemsetD8_v2(memory, 1, 3));
  EXPECT_GOOD(cuMemsetD16_v2(memory + 4, 0x0203, 2));
  EXPECT_GOOD(cuMemsetD32_v2(memory + 8, 0x04050607, 1));
  EXPECT_GOOD(cuMemsetD8_v2(memory + 16, 9, 2));
  EXPECT_EQ(host<std::uint8_t>(memory, 32), (Bytes{1, 1, 1, 0, 3, 2, 3, 2, 7, 6, 5, 4, 0, 0, 0, 0,
                                                   9, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_RESULT(cuMemsetD32_v2(memory + 2, 0, 1), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(DriverTest, PinnedMemory) {
  constexpr unsigned kCount = 64;
  void* pinned = nullptr;
  void* out = nullptr;
  EXPECT_GOOD(cuMemAllocHost_v2(&pinned, kCount * sizeof(float)));
  EXPECT_GOOD(cuMemHostAlloc(&out, kCount * sizeof(float), 7));
  std::fill_n(static_cast<float*>(pinned), kCount, 1.5F);
  CUdeviceptr mapped = 0;
  CUdeviceptr mapped_out = 0;
  EXPECT_GOOD(cuMemHostGetDevicePointer_v2(&mapped, pinned, 0));
  EXPECT_GOOD(cuMemHostGetDevicePointer_v2(&mapped_out, out, 0));
  unsigned count = kCount;
  void* parameters[] = {&mapped, &mapped, &mapped_out, &count};
  EXPECT_GOOD(
      cuLaunchKernel(function(kVectorAdd, "vector_add"), 1, 1, 1, 64, 1, 1, 0, nullptr, parameters, nullptr));
  EXPECT_GOOD(cuCtxSynchronize());
  EXPECT_EQ(static_cast<float*>(out)[kCount - 1], 3.0F);
  std::array<float, kCount> own{};
  EXPECT_RESULT(cuMemHostGetDevicePointer_v2(&mapped, own.data(), 0), CUDA_ERROR_INVALID_VALUE);
  testing::internal::CaptureStderr();
  EXPECT_RESULT(cuMemFreeHost(own.data()), CUDA_ERROR_INVALID_VALUE);
  EXPECT_RESULT(cuMemFree_v2(mapped_out), CUDA_ERROR_INVALID_VALUE);
  EXPECT_RESULT(cuMemcpyHtoD_v2(mapped_out, own.data(), sizeof(own) + 4), CUDA_ERROR_INVALID_VALUE);
  static_cast<void>(testing::internal::GetCapturedStderr());
  EXPECT_GOOD(cuMemFreeHost(pinned));
  EXPECT_GOOD(cuMemFreeHost(out));
}

}  // namespace
}  // namespace sluice::ptx::test
