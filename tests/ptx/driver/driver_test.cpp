// The driver library as a program sees it: devices, contexts, modules, memory, launches.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <thread>

#include "tests/ptx/driver/driver_fixture.h"
#include "tests/support/temp_folder.h"

namespace sluice::ptx::test {
namespace {

using testing::HasSubstr;

int attribute(CudaConstant which) {
  int value = -1;
  EXPECT_GOOD(cuDeviceGetAttribute(&value, which, 0));
  return value;
}

// NVIDIA's figures of an RTX 3090 and of compute capability 8.6 ("CUDA C++ Programming Guide", table of technical
// specifications).
TEST_F(DriverTest, DeviceIsAnRtx3090) {
  int count = 0;
  EXPECT_GOOD(cuDeviceGetCount(&count));
  EXPECT_EQ(count, 1);
  std::array<char, 64> name{};
  EXPECT_GOOD(cuDeviceGetName(name.data(), name.size(), 0));
  EXPECT_THAT(name.data(), HasSubstr("RTX 3090"));
  EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR), 8);
  EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR), 6);
  EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT), 82);
  EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK), 48 * 1024);
  EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN), 99 * 1024);
  EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR), 100 * 1024);
  EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR), 1536);
  EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR), 16);
  EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH), 384);
  EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH), 1);
  EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE), 6 * 1024 * 1024);
  int value = 0;
  EXPECT_RESULT(cuDeviceGetAttribute(&value, 100000, 0), CUDA_ERROR_INVALID_VALUE);
  CUdevice device = 0;
  EXPECT_RESULT(cuDeviceGet(&device, 1), CUDA_ERROR_INVALID_DEVICE);
  size_t bytes = 0;
  EXPECT_GOOD(cuDeviceTotalMem_v2(&bytes, 0));
  EXPECT_GT(bytes, 23ULL << 30U);
}

TEST_F(DriverTest, TheDeviceCanBeToldApart) {
  CUuuid uuid{};
  CUuuid older{};
  EXPECT_GOOD(cuDeviceGetUuid_v2(&uuid, 0));
  EXPECT_GOOD(cuDeviceGetUuid(&older, 0));
  EXPECT_EQ(std::memcmp(&uuid, &older, sizeof(uuid)), 0);
  EXPECT_NE(std::string(uuid.bytes, sizeof(uuid.bytes)), std::string(sizeof(uuid.bytes), '\0'));
  EXPECT_RESULT(cuDeviceGetUuid_v2(&uuid, 1), CUDA_ERROR_INVALID_DEVICE);
  std::array<char, 13> id{};
  EXPECT_GOOD(cuDeviceGetPCIBusId(id.data(), id.size(), 0));
  EXPECT_EQ(std::string(id.data()),
            "0000:0" + std::to_string(attribute(CU_DEVICE_ATTRIBUTE_PCI_BUS_ID)) + ":00.0");
  EXPECT_GOOD(cuDeviceGetPCIBusId(id.data(), 5, 0));
  EXPECT_STREQ(id.data(), "0000");
  EXPECT_RESULT(cuDeviceGetPCIBusId(id.data(), 0, 0), CUDA_ERROR_INVALID_VALUE);
  int major = 0;
  int minor = 0;
  EXPECT_GOOD(cuDeviceComputeCapability(&major, &minor, 0));
  EXPECT_EQ(major * 10 + minor, 86);
  EXPECT_RESULT(cuDeviceComputeCapability(&major, nullptr, 0), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(DriverTest, ContextsStackUp) {
  CUcontext other = nullptr;
  CUcontext current = nullptr;
  EXPECT_GOOD(cuCtxCreate_v4(&other, nullptr, 0, 0));
  EXPECT_GOOD(cuCtxGetCurrent(&current));
  EXPECT_EQ(current, other);
  EXPECT_GOOD(cuCtxPopCurrent_v2(&current));
  EXPECT_EQ(current, other);
  EXPECT_GOOD(cuCtxGetCurrent(&current));
  EXPECT_EQ(current, context_);
  CUdevice device = -1;
  unsigned version = 0;
  EXPECT_GOOD(cuCtxGetDevice(&device));
  EXPECT_EQ(device, 0);
  device = -1;
  EXPECT_GOOD(cuCtxGetDevice_v2(&device, other));
  EXPECT_EQ(device, 0);
  EXPECT_GOOD(cuCtxGetDevice_v2(&device, nullptr));
  EXPECT_GOOD(cuCtxGetApiVersion(other, &version));
  EXPECT_EQ(version, 3020);
  EXPECT_GOOD(cuCtxGetApiVersion(nullptr, &version));
  EXPECT_GOOD(cuCtxPushCurrent_v2(other));
  EXPECT_GOOD(cuCtxDestroy_v2(other));
  EXPECT_RESULT(cuCtxGetDevice_v2(&device, other), CUDA_ERROR_INVALID_CONTEXT);
  EXPECT_RESULT(cuCtxGetApiVersion(other, &version), CUDA_ERROR_INVALID_CONTEXT);
  EXPECT_GOOD(cuCtxGetCurrent(&current));
  EXPECT_EQ(current, context_);
  EXPECT_RESULT(cuCtxPushCurrent_v2(other), CUDA_ERROR_INVALID_CONTEXT);

  // Another thread has none until it sets one.
  std::thread([&] {
    size_t free = 0;
    EXPECT_RESULT(cuMemGetInfo_v2(&free, nullptr), CUDA_ERROR_INVALID_CONTEXT);
    EXPECT_RESULT(cuCtxGetDevice(&device), CUDA_ERROR_INVALID_CONTEXT);
    EXPECT_RESULT(cuCtxGetApiVersion(nullptr, &version), CUDA_ERROR_INVALID_CONTEXT);
    EXPECT_GOOD(cuCtxSetCurrent(context_));
    EXPECT_GOOD(cuMemGetInfo_v2(&free, nullptr));
  }).join();

  CUcontext primary = nullptr;
  unsigned flags = 1;
  int active = 1;
  EXPECT_GOOD(cuDevicePrimaryCtxGetState(0, &flags, &active));
  EXPECT_EQ(flags, 0);
  EXPECT_EQ(active, 0);
  EXPECT_RESULT(cuDevicePrimaryCtxRelease_v2(0), CUDA_ERROR_INVALID_CONTEXT);
  EXPECT_GOOD(cuDevicePrimaryCtxRetain(&primary, 0));
  EXPECT_GOOD(cuDevicePrimaryCtxRetain(&current, 0));
  EXPECT_EQ(primary, current);
  EXPECT_RESULT(cuCtxDestroy_v2(primary), CUDA_ERROR_INVALID_CONTEXT);
  EXPECT_GOOD(cuDevicePrimaryCtxRelease_v2(0));
  EXPECT_GOOD(cuDevicePrimaryCtxGetState(0, &flags, &active));
  EXPECT_EQ(active, 1);
  EXPECT_GOOD(cuCtxPushCurrent_v2(primary));  // it lives as long as it is held once
  EXPECT_RESULT(cuCtxDestroy_v2(primary), CUDA_ERROR_INVALID_CONTEXT);
  EXPECT_GOOD(cuCtxGetCurrent(&current));
  EXPECT_EQ(current, primary);  // what can't be destroyed stays current
  EXPECT_GOOD(cuCtxPopCurrent_v2(nullptr));
  EXPECT_GOOD(cuDevicePrimaryCtxRelease_v2(0));
  EXPECT_RESULT(cuCtxPushCurrent_v2(primary), CUDA_ERROR_INVALID_CONTEXT);
  EXPECT_RESULT(cuDevicePrimaryCtxRelease_v2(0), CUDA_ERROR_INVALID_CONTEXT);
}

TEST_F(DriverTest, VectorAdd) {
  const CUfunction add = function(kVectorAdd, "vector_add");
  constexpr unsigned kCount = 1000;
  std::vector<float> a(kCount);
  std::vector<float> b(kCount);
  std::iota(a.begin(), a.end(), 0.0F);
  std::iota(b.begin(), b.end(), 0.5F);
  CUdeviceptr in = device(a);
  CUdeviceptr other = device(b);
  CUdeviceptr out = device(std::vector<float>(kCount, -1));
  unsigned count = kCount;
  void* parameters[] = {&in, &other, &out, &count};
  EXPECT_GOOD(cuLaunchKernel(add, 8, 1, 1, 128, 1, 1, 0, nullptr, parameters, nullptr));
  EXPECT_GOOD(cuCtxSynchronize());
  const std::vector<float> sums = host<float>(out, kCount);
  for (unsigned i = 0; i < kCount; ++i) ASSERT_EQ(sums[i], a[i] + b[i]) << i;

  // The same through a packed buffer.
  EXPECT_GOOD(cuMemsetD8_v2(out, 0, kCount * sizeof(float)));
  struct {
    CUdeviceptr in, other, out;
    unsigned count;
  } packed{in, other, out, kCount};
  size_t bytes = sizeof(packed);
  void* extra[] = {reinterpret_cast<void*>(1), &packed, reinterpret_cast<void*>(2), &bytes, nullptr};
  EXPECT_GOOD(cuLaunchKernel(add, 8, 1, 1, 128, 1, 1, 0, nullptr, nullptr, extra));
  EXPECT_EQ(host<float>(out, kCount), sums);
  bytes = 8;
  EXPECT_RESULT(cuLaunchKernel(add, 8, 1, 1, 128, 1, 1, 0, nullptr, nullptr, extra),
                CUDA_ERROR_INVALID_VALUE);
}

TEST_F(DriverTest, ModulesTellWhatTheyHold) {
  CUmodule module = nullptr;
  CUfunction found = nullptr;
  CUdeviceptr address = 0;
  size_t bytes = 0;
  EXPECT_GOOD(cuModuleLoadData(&module, kVectorAdd.c_str()));
  EXPECT_RESULT(cuModuleGetFunction(&found, module, "no_such"), CUDA_ERROR_NOT_FOUND);
  EXPECT_GOOD(cuModuleGetGlobal_v2(&address, &bytes, module, "calls"));
  EXPECT_EQ(bytes, 4);
  EXPECT_EQ(host<std::uint32_t>(address, 1)[0], 41);
  EXPECT_GOOD(cuModuleGetFunction(&found, module, "vector_add"));
  int threads = 0;
  EXPECT_GOOD(cuFuncGetAttribute(&threads, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, found));
  EXPECT_EQ(threads, 1024);
  EXPECT_GOOD(cuModuleUnload(module));
  EXPECT_RESULT(cuModuleUnload(module), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_RESULT(cuFuncGetAttribute(&threads, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, found),
                CUDA_ERROR_INVALID_HANDLE);
}

TEST_F(DriverTest, ImagesThatCannotBeUsed) {
  CUmodule module = nullptr;
  std::array<char, 512> log{};
  CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
  void* values[] = {log.data(), reinterpret_cast<void*>(log.size())};
  testing::internal::CaptureStderr();
  const CUresult result = cuModuleLoadDataEx(
      &module, ".version 8.0\n.target sm_75\n.address_size 64\n.entry k() { frobnicate.u32 %r1; }\n", 2,
      options, values);
  EXPECT_STREQ(name_of(result), "CUDA_ERROR_INVALID_PTX");
  EXPECT_THAT(log.data(), HasSubstr("frobnicate"));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(values[1]), std::strlen(log.data()));
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("frobnicate"));

  testing::internal::CaptureStderr();
  EXPECT_RESULT(cuModuleLoadData(&module,
                                 "\x7f"
                                 "ELF and so on"),
                CUDA_ERROR_NO_BINARY_FOR_GPU);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("cubin"));
  EXPECT_RESULT(cuModuleLoadData(&module, ".version 9.0\n.target sm_90\n.address_size 64\n"),
                CUDA_ERROR_INVALID_PTX);
  EXPECT_RESULT(cuModuleLoad(&module, "/no/such/file"), CUDA_ERROR_FILE_NOT_FOUND);
}

TEST_F(DriverTest, Libraries) {
  CUlibrary library = nullptr;
  CUkernel kernel = nullptr;
  CUfunction found = nullptr;
  EXPECT_GOOD(cuLibraryLoadData(&library, kVectorAdd.c_str(), nullptr, nullptr, 0, nullptr, nullptr, 0));
  EXPECT_GOOD(cuLibraryGetKernel(&kernel, library, "sum_of_threads"));
  EXPECT_GOOD(cuKernelGetFunction(&found, kernel));
  CUdeviceptr out = device(std::vector<std::uint32_t>(2));
  void* parameters[] = {&out};
  EXPECT_GOOD(cuLaunchKernel(found, 1, 1, 1, 64, 1, 1, 64 * 4, nullptr, parameters, nullptr));
  // A kernel stands for its function, as in NVIDIA's driver.
  EXPECT_GOOD(cuLaunchKernel(reinterpret_cast<CUfunction>(kernel), 2, 1, 1, 33, 1, 1, 64 * 4, nullptr,
                             parameters, nullptr));
  EXPECT_EQ(host<std::uint32_t>(out, 2), (std::vector<std::uint32_t>{528, 528}));  // 0 + ... + 32

  CUdeviceptr address = 0;
  size_t bytes = 0;
  EXPECT_GOOD(cuLibraryGetGlobal(&address, &bytes, library, "calls"));
  EXPECT_EQ(bytes, 4);
  EXPECT_EQ(host<std::uint32_t>(address, 1)[0], 41);
  EXPECT_RESULT(cuLibraryGetGlobal(&address, &bytes, library, "no_such"), CUDA_ERROR_NOT_FOUND);

  int value = 0;
  constexpr CUfunction_attribute kDynamic = CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
  EXPECT_GOOD(cuKernelGetAttribute(&value, kDynamic, kernel, 0));
  EXPECT_EQ(value, 48 * 1024);
  EXPECT_GOOD(cuKernelSetAttribute(kDynamic, 64 * 1024, kernel, 0));
  EXPECT_GOOD(cuKernelGetAttribute(&value, kDynamic, kernel, 0));
  EXPECT_EQ(value, 64 * 1024);
  EXPECT_GOOD(cuFuncGetAttribute(&value, kDynamic, found));
  EXPECT_EQ(value, 64 * 1024);
  EXPECT_RESULT(cuKernelSetAttribute(kDynamic, 100 * 1024, kernel, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_RESULT(cuKernelGetAttribute(&value, kDynamic, kernel, 1), CUDA_ERROR_INVALID_DEVICE);
  EXPECT_RESULT(cuKernelSetAttribute(kDynamic, 0, kernel, 1), CUDA_ERROR_INVALID_DEVICE);
  const CUfunction of_module = function(kVectorAdd, "sum_of_threads");
  EXPECT_RESULT(cuKernelGetAttribute(&value, kDynamic, of_module, 0), CUDA_ERROR_INVALID_HANDLE);

  EXPECT_GOOD(cuLibraryUnload(library));
  EXPECT_RESULT(cuLibraryGetGlobal(&address, &bytes, library, "calls"), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_RESULT(cuKernelSetAttribute(kDynamic, 0, kernel, 0), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_RESULT(cuKernelGetFunction(&found, kernel), CUDA_ERROR_INVALID_HANDLE);
}

TEST_F(DriverTest, SharedMemoryLimitsAndOccupancy) {
  const CUfunction sum = function(kVectorAdd, "sum_of_threads");
  int value = 0;
  EXPECT_GOOD(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, sum));
  EXPECT_EQ(value, 48 * 1024);
  EXPECT_GOOD(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, sum));
  EXPECT_EQ(value, 1024);
  CUdeviceptr out = device(std::vector<std::uint32_t>(1));
  void* parameters[] = {&out};
  const auto run = [&](unsigned threads, unsigned shared) {
    return cuLaunchKernel(sum, 1, 1, 1, threads, 1, 1, shared, nullptr, parameters, nullptr);
  };
  EXPECT_GOOD(run(32, 48 * 1024));
  EXPECT_RESULT(run(32, 48 * 1024 + 4), CUDA_ERROR_INVALID_VALUE);
  EXPECT_RESULT(run(1025, 4096), CUDA_ERROR_INVALID_VALUE);
  EXPECT_RESULT(run(0, 4096), CUDA_ERROR_INVALID_VALUE);
  EXPECT_RESULT(cuFuncSetAttribute(sum, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 99 * 1024 + 1),
                CUDA_ERROR_INVALID_VALUE);
  EXPECT_GOOD(cuFuncSetAttribute(sum, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 99 * 1024));
  EXPECT_GOOD(run(32, 99 * 1024));
  EXPECT_GOOD(cuCtxSynchronize());

  int blocks = 0;
  const auto resident = [&](int threads, size_t shared) {
    EXPECT_GOOD(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, sum, threads, shared));
    return blocks;
  };
  EXPECT_EQ(resident(1024, 0), 1);    // 1536 threads
  EXPECT_EQ(resident(512, 0), 3);     // 1536 threads
  EXPECT_EQ(resident(32, 0), 16);     // 16 blocks
  EXPECT_EQ(resident(32, 49152), 2);  // 100 KB less 1 KB for each block
  EXPECT_EQ(resident(32, 99 * 1024), 1);
  EXPECT_GOOD(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(&blocks, sum, 512, 0,
                                                                   CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE));
  EXPECT_EQ(blocks, 3);
  EXPECT_RESULT(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(&blocks, sum, 512, 0, 2),
                CUDA_ERROR_INVALID_VALUE);
  EXPECT_GOOD(cuFuncSetCacheConfig(sum, CU_FUNC_CACHE_PREFER_EQUAL));
  EXPECT_RESULT(cuFuncSetCacheConfig(sum, CU_FUNC_CACHE_PREFER_EQUAL + 1), CUDA_ERROR_INVALID_VALUE);
  int grid = 0;
  int threads = 0;
  EXPECT_GOOD(cuOccupancyMaxPotentialBlockSize(&grid, &threads, sum, nullptr, 0, 0));
  EXPECT_EQ(threads * grid, 82 * 1536);
  // The caller's function may call the API. At 100 bytes a thread 31 warps fit, as one block: 99200 bytes and 1 KB.
  EXPECT_GOOD(cuOccupancyMaxPotentialBlockSize(
      &grid, &threads, sum,
      [](int size) {
        CUcontext current = nullptr;
        EXPECT_GOOD(cuCtxGetCurrent(&current));
        return static_cast<size_t>(size) * 100;
      },
      0, 0));
  EXPECT_EQ(threads, 992);
  EXPECT_EQ(grid, 82);

  const auto cooperative = [&](unsigned count) {
    return cuLaunchCooperativeKernel(sum, count, 1, 1, 32, 1, 1, 99 * 1024, nullptr, parameters);
  };
  EXPECT_RESULT(cooperative(83), CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
  EXPECT_GOOD(cooperative(1));
  EXPECT_EQ(host<std::uint32_t>(out, 1)[0], 496);  // 0 + ... + 31

  CUlaunchAttribute attributes[2] = {};
  attributes[0].id = CU_LAUNCH_ATTRIBUTE_IGNORE;
  attributes[1].id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
  attributes[1].value.cooperative = 1;
  CUlaunchConfig config = {83, 1, 1, 32, 1, 1, 99 * 1024, nullptr, attributes, 2};
  EXPECT_RESULT(cuLaunchKernelEx(&config, sum, parameters, nullptr), CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
  attributes[1].value.cooperative = 0;
  config.gridDimX = 1;
  config.blockDimX = 16;
  EXPECT_GOOD(cuLaunchKernelEx(&config, sum, parameters, nullptr));
  EXPECT_EQ(host<std::uint32_t>(out, 1)[0], 120);  // 0 + ... + 15
  attributes[0].id = 8;                            // a priority
  testing::internal::CaptureStderr();
  EXPECT_RESULT(cuLaunchKernelEx(&config, sum, parameters, nullptr), CUDA_ERROR_NOT_SUPPORTED);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("attribute 8"));
  config.attrs = nullptr;
  EXPECT_RESULT(cuLaunchKernelEx(&config, sum, parameters, nullptr), CUDA_ERROR_INVALID_VALUE);
  EXPECT_RESULT(cuLaunchKernelEx(nullptr, sum, parameters, nullptr), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(DriverTest, EntryPointsByVersion) {
  const auto entry = [](const char* name, int version, CUdriverProcAddressQueryResult& result) {
    void* function = nullptr;
    result = -1;
    cuGetProcAddress_v2(name, &function, version, 0, &result);
    return function;
  };
  CUdriverProcAddressQueryResult result = 0;
  EXPECT_EQ(entry("cuMemAlloc", 13000, result), reinterpret_cast<void*>(&cuMemAlloc_v2));
  EXPECT_EQ(result, CU_GET_PROC_ADDRESS_SUCCESS);
  EXPECT_EQ(entry("cuCtxCreate", 3020, result), reinterpret_cast<void*>(&cuCtxCreate_v2));
  EXPECT_EQ(entry("cuCtxCreate", 12050, result), reinterpret_cast<void*>(&cuCtxCreate_v4));
  EXPECT_EQ(entry("cuCtxSynchronize", 12080, result), reinterpret_cast<void*>(&cuCtxSynchronize));
  EXPECT_EQ(entry("cuCtxSynchronize", 13000, result), reinterpret_cast<void*>(&cuCtxSynchronize_v2));
  EXPECT_EQ(entry("cuLibraryLoadData", 11080, result), nullptr);
  EXPECT_EQ(result, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
  EXPECT_EQ(entry("cuTexObjectCreate", 13000, result), nullptr);
  EXPECT_EQ(result, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
  const void* table = &result;
  testing::internal::CaptureStderr();
  EXPECT_RESULT(cuGetExportTable(&table, nullptr), CUDA_ERROR_NOT_SUPPORTED);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("driver API"));
  EXPECT_EQ(table, nullptr);
}

TEST_F(DriverTest, WrongHandlesAreErrors) {
  auto* const nonsense = reinterpret_cast<void*>(0x1234);
  CUfunction found = nullptr;
  EXPECT_RESULT(cuModuleGetFunction(&found, static_cast<CUmodule>(nonsense), "k"), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_RESULT(cuStreamSynchronize(static_cast<CUstream>(nonsense)), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_RESULT(cuEventSynchronize(static_cast<CUevent>(nonsense)), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_RESULT(
      cuLaunchKernel(static_cast<CUfunction>(nonsense), 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr),
      CUDA_ERROR_INVALID_HANDLE);
  EXPECT_RESULT(cuCtxSetCurrent(static_cast<CUcontext>(nonsense)), CUDA_ERROR_INVALID_CONTEXT);
  const CUfunction add = function(kVectorAdd, "vector_add");
  EXPECT_RESULT(cuLaunchKernel(add, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr),
                CUDA_ERROR_INVALID_VALUE);
}

// What a kernel does wrong is on stderr and in the report, and ends the context.
struct Fault {
  const char* kernel;
  unsigned blocks, threads;
  const char* result;
};
class FaultTest : public DriverTest, public testing::WithParamInterface<Fault> {};

TEST_P(FaultTest, IsReportedByTheNextCallThatWaits) {
  const sluice::test::TempFolder folder;
  const std::string report = (folder.path() / "report.jsonl").string();
  ::setenv("SLUICE_PTX_REPORT", report.c_str(), 1);
  const CUfunction faulty = function(kFaults, GetParam().kernel);
  CUdeviceptr word = device(std::vector<std::uint32_t>(16));
  void* parameters[] = {&word};
  testing::internal::CaptureStderr();
  EXPECT_GOOD(cuLaunchKernel(faulty, GetParam().blocks, 1, 1, GetParam().threads, 1, 1, 0, nullptr,
                             parameters, nullptr));
  EXPECT_STREQ(name_of(cuCtxSynchronize()), GetParam().result);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_THAT(said, HasSubstr(std::string("kernel ") + GetParam().kernel));
  EXPECT_THAT(said, HasSubstr("seed"));
  // It stays.
  size_t free = 0;
  EXPECT_STREQ(name_of(cuMemGetInfo_v2(&free, nullptr)), GetParam().result);
  ::unsetenv("SLUICE_PTX_REPORT");
  std::ifstream lines(report);
  std::string line;
  ASSERT_TRUE(std::getline(lines, line));
  EXPECT_THAT(line, HasSubstr(std::string("\"kernel\":\"") + GetParam().kernel + "\""));
  EXPECT_THAT(line, HasSubstr("\"findings\":[{"));
  EXPECT_FALSE(std::getline(lines, line));
}

INSTANTIATE_TEST_SUITE_P(Kernels, FaultTest,
                         testing::Values(Fault{"out_of_bounds", 1, 1, "CUDA_ERROR_ILLEGAL_ADDRESS"},
                                         Fault{"misaligned", 1, 1, "CUDA_ERROR_MISALIGNED_ADDRESS"},
                                         Fault{"race", 2, 1, "CUDA_ERROR_LAUNCH_FAILED"},
                                         Fault{"traps", 1, 1, "CUDA_ERROR_LAUNCH_FAILED"},
                                         Fault{"waits_for_nobody", 1, 64, "CUDA_ERROR_LAUNCH_TIMEOUT"}),
                         [](const auto& info) { return std::string(info.param.kernel); });

TEST_F(DriverTest, AnotherContextGoesOnAfterAFault) {
  CUcontext other = nullptr;
  EXPECT_GOOD(cuCtxCreate_v2(&other, 0, 0));
  const CUfunction faulty = function(kFaults, "traps");
  CUdeviceptr word = device(std::vector<std::uint32_t>(1));
  void* parameters[] = {&word};
  testing::internal::CaptureStderr();
  EXPECT_GOOD(cuLaunchKernel(faulty, 1, 1, 1, 1, 1, 1, 0, nullptr, parameters, nullptr));
  EXPECT_RESULT(cuCtxSynchronize(), CUDA_ERROR_LAUNCH_FAILED);
  static_cast<void>(testing::internal::GetCapturedStderr());
  EXPECT_GOOD(cuCtxDestroy_v2(other));
  EXPECT_GOOD(cuCtxSynchronize());
  size_t free = 0;
  size_t total = 0;
  EXPECT_GOOD(cuMemGetInfo_v2(&free, &total));
  EXPECT_EQ(free, total);  // the other context's memory went with it
}

}  // namespace
}  // namespace sluice::ptx::test
