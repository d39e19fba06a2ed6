// Streams and events of the driver library: what runs when.
#include <atomic>
#include <cstdint>
#include <thread>

#include "tests/ptx/driver/driver_fixture.h"

namespace sluice::ptx::test {
namespace {

class StreamTest : public DriverTest {
 protected:
  static CUstream stream(unsigned flags = CU_STREAM_NON_BLOCKING) {
    CUstream made = nullptr;
    EXPECT_GOOD(cuStreamCreate(&made, flags));
    return made;
  }
  static CUevent event(unsigned flags = 0) {
    CUevent made = nullptr;
    EXPECT_GOOD(cuEventCreate(&made, flags));
    return made;
  }
  CUfunction wait_for_host() { return function(kVectorAdd, "wait_for_host"); }
};

// The host goes on while the kernel runs, each sees what the other writes into mapped memory, and the kernel ends when told.
TEST_F(StreamTest, AKernelRunsBesideTheHost) {
  const CUstream on = stream();
  const Held held(wait_for_host(), on);
  held.wait_until_running();
  EXPECT_RESULT(cuStreamQuery(on), CUDA_ERROR_NOT_READY);
  const CUevent end = event();
  EXPECT_GOOD(cuEventRecord(end, on));
  EXPECT_RESULT(cuEventQuery(end), CUDA_ERROR_NOT_READY);
  held.let_go();
  EXPECT_GOOD(cuEventSynchronize(end));
  EXPECT_GOOD(cuEventQuery(end));
  EXPECT_GOOD(cuStreamQuery(on));
}

TEST_F(StreamTest, OperationsOfAStreamAreInOrder) {
  const CUstream on = stream();
  CUdeviceptr memory = device(std::vector<std::uint32_t>(4));
  void* pinned = nullptr;
  EXPECT_GOOD(cuMemAllocHost_v2(&pinned, 16));
  auto* const words = static_cast<std::uint32_t*>(pinned);
  for (std::uint32_t round = 1; round <= 50; ++round) {
    words[0] = 0;
    EXPECT_GOOD(cuMemsetD32Async(memory, round, 4, on));
    EXPECT_GOOD(cuMemcpyDtoDAsync_v2(memory + 8, memory, 8, on));
    EXPECT_GOOD(cuMemsetD32Async(memory, 0, 2, on));
    EXPECT_GOOD(cuMemcpyDtoHAsync_v2(pinned, memory, 16, on));
    EXPECT_GOOD(cuStreamSynchronize(on));
    ASSERT_EQ(words[0], 0);
    ASSERT_EQ(words[3], round);
  }
}

// A copy from memory that isn't pinned takes what is there at the call; one from pinned memory what is there when it runs.
TEST_F(StreamTest, PageableMemoryIsReadAtTheCall) {
  const CUstream on = stream();
  const Held held(wait_for_host(), on);
  CUdeviceptr memory = 0;
  EXPECT_GOOD(cuMemAlloc_v2(&memory, 8));
  void* pinned = nullptr;
  EXPECT_GOOD(cuMemAllocHost_v2(&pinned, 4));
  auto* const word = static_cast<std::uint32_t*>(pinned);
  std::uint32_t pageable = 1;
  *word = 1;
  EXPECT_GOOD(cuMemcpyHtoDAsync_v2(memory, &pageable, 4, on));
  EXPECT_GOOD(cuMemcpyHtoDAsync_v2(memory + 4, pinned, 4, on));
  pageable = 2;
  *word = 2;
  held.let_go();
  EXPECT_GOOD(cuStreamSynchronize(on));
  EXPECT_EQ(host<std::uint32_t>(memory, 2), (std::vector<std::uint32_t>{1, 2}));
}

TEST_F(StreamTest, AnEventOrdersTwoStreams) {
  const CUstream first = stream();
  const CUstream second = stream();
  const CUevent between = event(CU_EVENT_DISABLE_TIMING);
  CUdeviceptr word = device(std::vector<std::uint32_t>(1, 7));
  const Held held(wait_for_host(), first);
  EXPECT_GOOD(cuMemsetD32Async(word, 1, 1, first));
  EXPECT_GOOD(cuEventRecord(between, first));
  EXPECT_GOOD(cuStreamWaitEvent(second, between, 0));
  EXPECT_GOOD(cuMemsetD32Async(word, 2, 1, second));
  EXPECT_RESULT(cuStreamQuery(second), CUDA_ERROR_NOT_READY);
  held.let_go();
  EXPECT_GOOD(cuStreamSynchronize(second));
  EXPECT_EQ(host<std::uint32_t>(word, 1)[0], 2);
  float milliseconds = 0;
  EXPECT_RESULT(cuEventElapsedTime(&milliseconds, between, between),
                CUDA_ERROR_INVALID_HANDLE);  // it takes no time
}

TEST_F(StreamTest, TheDefaultStreamWaitsForBlockingStreamsOnly) {
  const CUstream blocking = stream(0);
  const CUstream other = stream();
  CUdeviceptr word = device(std::vector<std::uint32_t>(1, 7));
  const CUevent of_default = event();
  {
    const Held held(wait_for_host(), other);
    EXPECT_GOOD(cuMemsetD32_v2(word, 1, 1));  // does not wait
    held.let_go();
    EXPECT_GOOD(cuStreamSynchronize(other));  // one kernel runs at a time
  }
  const Held held(wait_for_host(), blocking);
  EXPECT_GOOD(cuEventRecord(of_default, nullptr));
  EXPECT_RESULT(cuEventQuery(of_default), CUDA_ERROR_NOT_READY);
  EXPECT_GOOD(cuMemsetD32Async(word, 3, 1, other));  // nor does this
  EXPECT_GOOD(cuStreamSynchronize(other));
  held.let_go();
  EXPECT_GOOD(cuEventSynchronize(of_default));
  EXPECT_EQ(host<std::uint32_t>(word, 1)[0], 3);
}

TEST_F(StreamTest, HostFunctionsTakeTheirTurn) {
  const CUstream on = stream();
  std::atomic<int> calls = 0;
  const Held held(wait_for_host(), on);
  EXPECT_GOOD(cuLaunchHostFunc(on, [](void* data) { ++*static_cast<std::atomic<int>*>(data); }, &calls));
  held.wait_until_running();
  EXPECT_EQ(calls, 0);
  held.let_go();
  EXPECT_GOOD(cuStreamSynchronize(on));
  EXPECT_EQ(calls, 1);
}

// Whether a stream waits for the default one is asked of it; priorities change nothing.
TEST_F(StreamTest, StreamsTellTheirFlags) {
  CUstream first = nullptr;
  unsigned flags = 7;
  EXPECT_GOOD(cuStreamCreateWithPriority(&first, CU_STREAM_NON_BLOCKING, -1));
  EXPECT_GOOD(cuStreamGetFlags(first, &flags));
  EXPECT_EQ(flags, static_cast<unsigned>(CU_STREAM_NON_BLOCKING));
  for (const CUstream blocking : {stream(0), CUstream{nullptr}}) {
    flags = 7;
    EXPECT_GOOD(cuStreamGetFlags(blocking, &flags));
    EXPECT_EQ(flags, 0);
  }
  CUdeviceptr word = device(std::vector<std::uint32_t>(1, 7));
  EXPECT_GOOD(cuMemsetD32Async(word, 9, 1, first));
  EXPECT_GOOD(cuStreamSynchronize(first));
  EXPECT_EQ(host<std::uint32_t>(word, 1)[0], 9);
  EXPECT_RESULT(cuStreamCreateWithPriority(&first, 2, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_GOOD(cuStreamDestroy_v2(first));
  EXPECT_RESULT(cuStreamGetFlags(first, &flags), CUDA_ERROR_INVALID_HANDLE);
}

TEST_F(StreamTest, EventsTellTime) {
  const CUstream on = stream();
  const CUevent begin = event();
  const CUevent end = event();
  float milliseconds = -1;
  EXPECT_RESULT(cuEventElapsedTime(&milliseconds, begin, end), CUDA_ERROR_INVALID_HANDLE);  // not recorded
  EXPECT_GOOD(cuEventRecord(begin, on));
  EXPECT_GOOD(cuLaunchHostFunc(
      on, [](void*) { std::this_thread::sleep_for(std::chrono::milliseconds(20)); }, nullptr));
  EXPECT_GOOD(cuEventRecord(end, on));
  EXPECT_GOOD(cuEventSynchronize(end));
  EXPECT_GOOD(cuEventElapsedTime(&milliseconds, begin, end));
  EXPECT_GE(milliseconds, 20.0F);
  EXPECT_GOOD(cuEventDestroy_v2(begin));
  EXPECT_RESULT(cuEventQuery(begin), CUDA_ERROR_INVALID_HANDLE);
}

// A destroyed stream still does what it was told, and the context waits for it.
TEST_F(StreamTest, DestroyedStreamsFinish) {
  const CUstream on = stream();
  CUdeviceptr word = device(std::vector<std::uint32_t>(1, 7));
  const Held held(wait_for_host(), on);
  EXPECT_GOOD(cuMemsetD32Async(word, 9, 1, on));
  EXPECT_GOOD(cuStreamDestroy_v2(on));
  EXPECT_RESULT(cuStreamSynchronize(on), CUDA_ERROR_INVALID_HANDLE);
  held.let_go();
  EXPECT_GOOD(cuCtxSynchronize());
  EXPECT_EQ(host<std::uint32_t>(word, 1)[0], 9);
}

}  // namespace
}  // namespace sluice::ptx::test
