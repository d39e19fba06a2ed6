// Memory and copies of the driver library.
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
  EXPECT_RESULT(cuMemAllocManaged(&address, 16, 1), CUDA_ERROR_NOT_SUPPORTED);
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
  const CUdeviceptr freed_later = device(Bytes(16));
  CUstream stream = nullptr;
  EXPECT_GOOD(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  const CUfunction wait_for_host = function(kVectorAdd, "wait_for_host");
  EXPECT_GOOD(cuMemFree_v2(freed));
  const Held held(wait_for_host, stream);
  EXPECT_GOOD(cuMemFreeAsync(freed_later, stream));  // behind the kernel, which still runs
  for (const CUdeviceptr address : {freed, freed + 4, freed_later}) {
    const auto refused = [](CUresult result) {
      EXPECT_STREQ(name_of(result), "CUDA_ERROR_INVALID_VALUE");
      EXPECT_THAT(testing::internal::GetCapturedStderr(), testing::HasSubstr("was freed\n"));
      testing::internal::CaptureStderr();
    };
    CUDA_MEMCPY2D rows{};
    rows.srcMemoryType = rows.dstMemoryType = CU_MEMORYTYPE_UNIFIED;
    rows.srcDevice = address;
    rows.dstDevice = other;
    rows.srcPitch = rows.dstPitch = 4;
    rows.WidthInBytes = 4;
    rows.Height = 2;
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
    refused(cuMemcpy2D_v2(&rows));
    refused(cuMemcpy2DAsync_v2(&rows, stream));
    refused(cuMemsetD8_v2(address, 1, 4));
    refused(cuMemsetD32Async(address, 1, 1, stream));
    refused(cuMemsetD2D16_v2(address, 4, 1, 2, 2));
    static_cast<void>(testing::internal::GetCapturedStderr());
  }
  held.let_go();
  EXPECT_GOOD(cuStreamDestroy_v2(stream));
}

TEST_F(DriverTest, CopiesOfRows) {
  const Bytes in = numbered(12);  // 3 rows of 4
  CUdeviceptr pitched = 0;
  size_t pitch = 0;
  EXPECT_GOOD(cuMemAllocPitch_v2(&pitched, &pitch, 4, 3, 4));
  EXPECT_GE(pitch, 4);
  EXPECT_GOOD(cuMemsetD8_v2(pitched, 0, pitch * 3));
  CUDA_MEMCPY2D copy{};
  copy.srcMemoryType = CU_MEMORYTYPE_HOST;
  copy.srcHost = in.data();
  copy.srcPitch = 4;
  copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  copy.dstDevice = pitched;
  copy.dstPitch = pitch;
  copy.WidthInBytes = 3;
  copy.Height = 2;
  copy.srcXInBytes = 1;
  copy.srcY = 1;
  EXPECT_GOOD(cuMemcpy2D_v2(&copy));
  const Bytes rows = host<std::uint8_t>(pitched, pitch + 4);
  EXPECT_EQ(Bytes(rows.begin(), rows.begin() + 4), (Bytes{6, 7, 8, 0}));
  EXPECT_EQ(Bytes(rows.begin() + static_cast<std::ptrdiff_t>(pitch), rows.end()), (Bytes{10, 11, 12, 0}));
  copy.Height = 4;
  copy.dstY = 1;
  testing::internal::CaptureStderr();
  EXPECT_RESULT(cuMemcpy2D_v2(&copy), CUDA_ERROR_INVALID_VALUE);
  static_cast<void>(testing::internal::GetCapturedStderr());
}

TEST_F(DriverTest, Fills) {
  CUdeviceptr memory = device(Bytes(32));
  EXPECT_GOOD(cuMemsetD8_v2(memory, 1, 3));
  EXPECT_GOOD(cuMemsetD16_v2(memory + 4, 0x0203, 2));
  EXPECT_GOOD(cuMemsetD32_v2(memory + 8, 0x04050607, 1));
  EXPECT_GOOD(cuMemsetD2D8_v2(memory + 16, 4, 9, 2, 3));
  EXPECT_EQ(host<std::uint8_t>(memory, 32), (Bytes{1, 1, 1, 0, 3, 2, 3, 2, 7, 6, 5, 4, 0, 0, 0, 0,
                                                   9, 9, 0, 0, 9, 9, 0, 0, 9, 9, 0, 0, 0, 0, 0, 0}));
  EXPECT_RESULT(cuMemsetD32_v2(memory + 2, 0, 1), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(DriverTest, PinnedAndRegisteredMemory) {
  void* pinned = nullptr;
  EXPECT_GOOD(cuMemAllocHost_v2(&pinned, 4096));
  const auto address = reinterpret_cast<CUdeviceptr>(pinned);
  unsigned type = 0;
  EXPECT_GOOD(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address + 8));
  EXPECT_EQ(type, CU_MEMORYTYPE_HOST);
  CUcontext owner = nullptr;
  EXPECT_GOOD(cuPointerGetAttribute(static_cast<void*>(&owner), CU_POINTER_ATTRIBUTE_CONTEXT, address));
  EXPECT_EQ(owner, context_);

  alignas(64) std::array<float, 64> own{};
  own.fill(1.5F);
  EXPECT_GOOD(cuMemHostRegister_v2(own.data(), sizeof(own), 0));
  CUdeviceptr mapped = 0;
  EXPECT_GOOD(cuMemHostGetDevicePointer_v2(&mapped, own.data(), 0));
  CUdeviceptr out = address;
  unsigned count = 64;
  void* parameters[] = {&mapped, &mapped, &out, &count};
  EXPECT_GOOD(
      cuLaunchKernel(function(kVectorAdd, "vector_add"), 1, 1, 1, 64, 1, 1, 0, nullptr, parameters, nullptr));
  EXPECT_GOOD(cuCtxSynchronize());
  EXPECT_EQ(static_cast<float*>(pinned)[63], 3.0F);
  EXPECT_GOOD(cuMemHostUnregister(own.data()));
  EXPECT_RESULT(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, mapped),
                CUDA_ERROR_INVALID_VALUE);
  testing::internal::CaptureStderr();
  EXPECT_RESULT(cuMemHostUnregister(own.data()), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
  EXPECT_RESULT(cuMemFreeHost(own.data()), CUDA_ERROR_INVALID_VALUE);
  static_cast<void>(testing::internal::GetCapturedStderr());
  EXPECT_GOOD(cuMemFreeHost(pinned));

  // All at once, for a pointer that the device doesn't know.
  CUpointer_attribute attributes[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL};
  int ordinal = 0;
  void* values[] = {&type, &ordinal};
  type = 9;
  EXPECT_GOOD(cuPointerGetAttributes(2, attributes, values, reinterpret_cast<CUdeviceptr>(own.data())));
  EXPECT_EQ(type, 0);
  EXPECT_EQ(ordinal, -2);
}

TEST_F(DriverTest, StreamOrderedAllocation) {
  CUstream stream = nullptr;
  CUdeviceptr address = 0;
  CUmemoryPool pool = nullptr;
  size_t before = 0;
  size_t after = 0;
  EXPECT_GOOD(cuMemGetInfo_v2(&before, nullptr));
  EXPECT_GOOD(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  EXPECT_GOOD(cuDeviceGetDefaultMemPool(&pool, 0));
  EXPECT_GOOD(cuMemAllocFromPoolAsync(&address, 1024, pool, stream));
  cuuint64_t threshold = 77;
  cuuint64_t used = 0;
  int reuse = 0;
  EXPECT_GOOD(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold));
  EXPECT_GOOD(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC, &reuse));
  threshold = 0;
  reuse = 9;
  EXPECT_GOOD(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold));
  EXPECT_EQ(threshold, 77);
  EXPECT_GOOD(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC, &reuse));
  EXPECT_EQ(reuse, 0);
  EXPECT_GOOD(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used));
  EXPECT_GE(used, 1024);
  EXPECT_RESULT(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used),
                CUDA_ERROR_INVALID_VALUE);
  EXPECT_GOOD(cuMemsetD8Async(address, 5, 1024, stream));
  Bytes out(1024);
  EXPECT_GOOD(cuMemcpyDtoHAsync_v2(out.data(), address, 1024, stream));
  EXPECT_EQ(out, Bytes(1024, 5));
  EXPECT_GOOD(cuMemFreeAsync(address, stream));
  EXPECT_GOOD(cuStreamSynchronize(stream));
  EXPECT_GOOD(cuMemGetInfo_v2(&after, nullptr));
  EXPECT_EQ(before, after);
  EXPECT_GOOD(cuStreamDestroy_v2(stream));
}

}  // namespace
}  // namespace sluice::ptx::test
