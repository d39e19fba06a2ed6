// Streams, events and host functions: NVIDIA, "CUDA Driver API", sections Stream Management, Event Management, Execution Control.
#include <chrono>
#include <utility>

#include "ptx/driver/state.h"

namespace sluice::ptx::api {
extern "C" {

// Streams take turns, whatever their priorities: they are hints, and CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED is 0.
CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned flags, int /*priority*/) {
  return in_context([&](Driver& driver, Context& context) {
    require(flags <= CU_STREAM_NON_BLOCKING);
    out(stream) = &driver.make<Stream>(&context, flags);
  });
}

CUresult cuStreamCreate(CUstream* stream, unsigned flags) {
  return cuStreamCreateWithPriority(stream, flags, 0);
}

// What it was told before is still done.
CUresult cuStreamDestroy_v2(CUstream stream) {
  return in_context([&](Driver& driver, Context& context) {
    std::erase_if(context.ends, is_finished);
    context.ends.push_back(driver.checked(stream, &context).last);
    driver.objects.erase(stream);
  });
}

CUresult cuStreamSynchronize(CUstream stream) {
  return in_context_waiting([&](Driver& driver, Context& context) {
    const Stream& checked = driver.stream_of(context, stream);
    return &checked == context.stream ? ends_of(driver, context, true) : std::vector{checked.last};
  });
}

CUresult cuStreamQuery(CUstream stream) {
  return in_context([&](Driver& driver, Context& context) {
    require(is_finished(driver.stream_of(context, stream).last), CUDA_ERROR_NOT_READY);
  });
}

CUresult cuStreamGetFlags(CUstream stream, unsigned* flags) {
  return in_context(
      [&](Driver& driver, Context& context) { out(flags) = driver.stream_of(context, stream).flags; });
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags) {
  return in_context([&](Driver& driver, Context& context) {
    require(flags <= 1);  // CU_EVENT_WAIT_EXTERNAL concerns captures
    const Completion& recorded = driver.checked(event).recorded;
    Stream& waiting = driver.stream_of(context, stream);
    if (recorded.valid()) enqueue(driver, waiting, [] {}, {recorded});
  });
}

CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void* data) {
  return in_context([&](Driver& driver, Context& context) {
    require(function != nullptr);
    enqueue(driver, driver.stream_of(context, stream), [function, data] { function(data); });
  });
}

CUresult cuEventCreate(CUevent* event, unsigned flags) {
  return in_context([&](Driver& driver, Context& context) {
    require((flags & ~static_cast<unsigned>(CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING)) == 0);
    auto& made = driver.make<Event>(&context);
    made.flags = flags;
    out(event) = &made;
  });
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
  return in_context([&](Driver& driver, Context& context) {
    driver.checked(event).recorded = enqueue(driver, driver.stream_of(context, stream), [] {});
  });
}

CUresult cuEventQuery(CUevent event) {
  return in_context([&](Driver& driver, Context&) {
    require(is_finished(driver.checked(event).recorded), CUDA_ERROR_NOT_READY);
  });
}

CUresult cuEventSynchronize(CUevent event) {
  return in_context_waiting(
      [&](Driver& driver, Context&) { return std::vector{driver.checked(event).recorded}; });
}

CUresult cuEventDestroy_v2(CUevent event) {
  return in_context([&](Driver& driver, Context&) {
    driver.checked(event);
    driver.objects.erase(event);
  });
}

// In milliseconds of the host's clock: how long the machine took, not how long a GPU would.
CUresult cuEventElapsedTime_v2(float* milliseconds, CUevent begin, CUevent end) {
  return in_context([&](Driver& driver, Context&) {
    const Event& first = driver.checked(begin);
    const Event& second = driver.checked(end);
    for (const Event* event : {&first, &second})
      require(event->recorded.valid() && (event->flags & CU_EVENT_DISABLE_TIMING) == 0,
              CUDA_ERROR_INVALID_HANDLE);
    require(is_finished(first.recorded) && is_finished(second.recorded), CUDA_ERROR_NOT_READY);
    const std::chrono::duration<float, std::milli> elapsed = second.recorded.get() - first.recorded.get();
    out(milliseconds) = elapsed.count();
  });
}

CUresult cuEventElapsedTime(float* milliseconds, CUevent begin, CUevent end) {
  return cuEventElapsedTime_v2(milliseconds, begin, end);
}

}  // extern "C"
}  // namespace sluice::ptx::api
