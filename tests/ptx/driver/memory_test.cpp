// Memory and copies of the driver library.
#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>
#include <utility>

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
  CUdeviceptr base = 0;
  size_t bytes = 0;
  EXPECT_GOOD(cuMemGetAddressRange_v2(&base, &bytes, address + 77));
  EXPECT_EQ(base, address);
  EXPECT_EQ(bytes, 100'000);
  testing::internal::CaptureStderr();
  EXPECT_RESULT(cuMemFree_v2(address + 256), CUDA_ERROR_INVALID_VALUE);
  EXPECT_GOOD(cuMemFree_v2(address));
  EXPECT_RESULT(cuMemFree_v2(address), CUDA_ERROR_INVALID_VALUE);
  EXPECT_RESULT(cuMemGetAddressRange_v2(&base, &bytes, address), CUDA_ERROR_NOT_FOUND);
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

TEST_F(DriverTest, RegisteredMemory) {
  constexpr unsigned kCount = 64;
  alignas(64) std::array<float, kCount> own{};
  own.fill(1.5F);
  EXPECT_GOOD(cuMemHostRegister_v2(own.data(), sizeof(own), 0));
  CUdeviceptr mapped = 0;
  EXPECT_GOOD(cuMemHostGetDevicePointer_v2(&mapped, own.data(), 0));
  CUdeviceptr out = device(std::vector<float>(kCount));
  unsigned count = kCount;
  void* parameters[] = {&mapped, &mapped, &out, &count};
  EXPECT_GOOD(
      cuLaunchKernel(function(kVectorAdd, "vector_add"), 1, 1, 1, 64, 1, 1, 0, nullptr, parameters, nullptr));
  EXPECT_EQ(host<float>(out, kCount), std::vector<float>(kCount, 3.0F));

  testing::internal::CaptureStderr();
  EXPECT_RESULT(cuMemHostRegister_v2(own.data() + 1, 4, 0), CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
  EXPECT_RESULT(cuMemHostRegister_v2(reinterpret_cast<void*>(out), 4, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_RESULT(cuMemHostRegister_v2(own.data(), 0, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_RESULT(cuMemHostRegister_v2(own.data(), SIZE_MAX, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_RESULT(cuMemFreeHost(own.data()), CUDA_ERROR_INVALID_VALUE);
  EXPECT_RESULT(cuMemHostUnregister(own.data() + 1), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
  EXPECT_GOOD(cuMemHostUnregister(own.data()));
  EXPECT_RESULT(cuMemHostUnregister(own.data()), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
  static_cast<void>(testing::internal::GetCapturedStderr());
  EXPECT_RESULT(cuMemHostUnregister(nullptr), CUDA_ERROR_INVALID_VALUE);
  EXPECT_RESULT(cuMemHostGetDevicePointer_v2(&mapped, own.data(), 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(own[kCount - 1], 1.5F);  // it is still the caller's

  // A context that ends takes only what it registered off the device.
  CUcontext other = nullptr;
  EXPECT_GOOD(cuCtxCreate_v2(&other, 0, 0));
  EXPECT_GOOD(cuMemHostRegister_v2(own.data(), sizeof(own), 0));
  EXPECT_GOOD(cuCtxDestroy_v2(other));
  EXPECT_EQ(own[0], 1.5F);
  EXPECT_GOOD(cuMemHostRegister_v2(own.data(), sizeof(own), 0));
  EXPECT_GOOD(cuMemHostUnregister(own.data()));
}

TEST_F(DriverTest, PointersTellWhatTheyAre) {
  void* pinned = nullptr;
  EXPECT_GOOD(cuMemAllocHost_v2(&pinned, 4096));
  const std::pair<CUdeviceptr, CudaConstant> pointers[] = {
      {reinterpret_cast<CUdeviceptr>(pinned), CU_MEMORYTYPE_HOST}, {device(Bytes(16)), CU_MEMORYTYPE_DEVICE}};
  unsigned type = 0;
  for (const auto& [address, expected] : pointers) {
    EXPECT_GOOD(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address + 8));
    EXPECT_EQ(type, static_cast<unsigned>(expected));
    CUcontext owner = nullptr;
    EXPECT_GOOD(cuPointerGetAttribute(static_cast<void*>(&owner), CU_POINTER_ATTRIBUTE_CONTEXT, address + 8));
    EXPECT_EQ(owner, context_);
    CUdeviceptr on_device = 0;
    EXPECT_GOOD(cuPointerGetAttribute(&on_device, CU_POINTER_ATTRIBUTE_DEVICE_POINTER, address + 8));
    EXPECT_EQ(on_device, address + 8);
  }
  testing::internal::CaptureStderr();
  EXPECT_RESULT(cuPointerGetAttribute(&type, 5, pointers[0].first), CUDA_ERROR_NOT_SUPPORTED);  // tokens
  EXPECT_THAT(testing::internal::GetCapturedStderr(), testing::HasSubstr("attribute 5"));
  // What the device doesn't know has none of them.
  EXPECT_RESULT(
      cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, reinterpret_cast<CUdeviceptr>(&type)),
      CUDA_ERROR_INVALID_VALUE);
  EXPECT_RESULT(cuPointerGetAttribute(nullptr, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, pointers[0].first),
                CUDA_ERROR_INVALID_VALUE);
  EXPECT_GOOD(cuMemFreeHost(pinned));
}

}  // namespace
}  // namespace sluice::ptx::test
