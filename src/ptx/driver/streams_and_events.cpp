// Streams, events and host functions: NVIDIA, "CUDA Driver API", sections Stream Management, Event Management, Execution Control.
#include <chrono>
#include <utility>

#include "ptx/driver/state.h"

namespace sluice::ptx::api {
namespace {

// Whether the last operation of a context's or one stream's has ended.
CUresult ready(const CompletionPointer& completion) {
  return completion == nullptr || completion->finished() ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

void record(Driver& state, Context& context, CUevent event, CUstream stream) {
  Event& checked = checked_event(state, event);
  checked.recorded = enqueue(context, checked_stream(state, context, stream), [] {});
}

}  // namespace

extern "C" {

CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned flags, int priority) {
  return in_context([&](Driver& state, Context& context) {
    require(stream != nullptr && (flags & ~static_cast<unsigned>(CU_STREAM_NON_BLOCKING)) == 0);
    auto made = std::make_shared<Stream>(&context, flags, priority, state.next_id++);
    *stream = made.get();
    context.streams.emplace(made.get(), std::move(made));
  });
}

CUresult cuStreamCreate(CUstream* stream, unsigned flags) {
  return cuStreamCreateWithPriority(stream, flags, 0);
}

// What it was told before is still done.
CUresult cuStreamDestroy_v2(CUstream stream) {
  return in_context([&](Driver&, Context& context) {
    const auto found = context.streams.find(stream);
    require(found != context.streams.end(), CUDA_ERROR_INVALID_HANDLE);
    if (const CompletionPointer last = found->second->last(); last != nullptr)
      context.orphans.push_back(last);
    found->second->close();
    context.streams.erase(found);
  });
}

CUresult cuStreamSynchronize(CUstream stream) {
  return in_context_waiting([&](Driver& state, Context& context) {
    const CompletionPointer last = checked_stream(state, context, stream).last();
    std::vector<CompletionPointer> to_wait_for;
    if (&checked_stream(state, context, stream) == context.legacy.get())
      to_wait_for = everything_blocking(context);
    else if (last != nullptr)
      to_wait_for.push_back(last);
    return to_wait_for;
  });
}

CUresult cuStreamQuery(CUstream stream) {
  CUresult result = CUDA_SUCCESS;
  const CUresult called = in_context([&](Driver& state, Context& context) {
    result = ready(checked_stream(state, context, stream).last());
  });
  return called != CUDA_SUCCESS ? called : result;
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags) {
  return in_context([&](Driver& state, Context& context) {
    require(flags <= 1);  // CU_EVENT_WAIT_EXTERNAL concerns captures
    const Event& checked = checked_event(state, event);
    Stream& waiting = checked_stream(state, context, stream);
    if (checked.recorded != nullptr) enqueue(context, waiting, [] {}, {checked.recorded});
  });
}

CUresult cuStreamAddCallback(CUstream stream, CUstreamCallback callback, void* data, unsigned flags) {
  return in_context([&](Driver& state, Context& context) {
    require(callback != nullptr && flags == 0);
    Stream& checked = checked_stream(state, context, stream);
    enqueue_always(context, checked,
                   [&context, callback, data, stream] { callback(stream, context.fault.load(), data); });
  });
}

CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void* data) {
  return in_context([&](Driver& state, Context& context) {
    require(function != nullptr);
    enqueue(context, checked_stream(state, context, stream), [function, data] { function(data); });
  });
}

CUresult cuStreamGetFlags(CUstream stream, unsigned* flags) {
  return in_context([&](Driver& state, Context& context) {
    require(flags != nullptr);
    *flags = checked_stream(state, context, stream).flags();
  });
}

CUresult cuStreamGetPriority(CUstream stream, int* priority) {
  return in_context([&](Driver& state, Context& context) {
    require(priority != nullptr);
    *priority = checked_stream(state, context, stream).priority();
  });
}

CUresult cuStreamGetCtx(CUstream stream, CUcontext* result) {
  return in_context([&](Driver& state, Context& context) {
    require(result != nullptr);
    *result = checked_stream(state, context, stream).context();
  });
}

CUresult cuStreamGetCtx_v2(CUstream stream, CUcontext* result, CUgreenCtx* green) {
  if (green != nullptr) *green = nullptr;
  return cuStreamGetCtx(stream, result);
}

CUresult cuStreamGetId(CUstream stream, unsigned long long* id) {
  return in_context([&](Driver& state, Context& context) {
    require(id != nullptr);
    *id = checked_stream(state, context, stream).id();
  });
}

CUresult cuStreamGetDevice(CUstream stream, CUdevice* device) {
  return in_context([&](Driver& state, Context& context) {
    require(device != nullptr);
    checked_stream(state, context, stream);
    *device = 0;
  });
}

CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus* status) {
  return in_context([&](Driver& state, Context& context) {
    require(status != nullptr);
    checked_stream(state, context, stream);
    *status = CU_STREAM_CAPTURE_STATUS_NONE;
  });
}

CUresult cuEventCreate(CUevent* event, unsigned flags) {
  constexpr unsigned kKnown = CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING;
  return in_context([&](Driver&, Context& context) {
    require(event != nullptr && (flags & ~kKnown) == 0);
    auto made = std::make_unique<Event>();
    made->flags = flags;
    *event = made.get();
    context.events.emplace(made.get(), std::move(made));
  });
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
  return in_context([&](Driver& state, Context& context) { record(state, context, event, stream); });
}

CUresult cuEventRecordWithFlags(CUevent event, CUstream stream, unsigned flags) {
  return in_context([&](Driver& state, Context& context) {
    require(flags <= 1);  // CU_EVENT_RECORD_EXTERNAL concerns captures
    record(state, context, event, stream);
  });
}

CUresult cuEventQuery(CUevent event) {
  CUresult result = CUDA_SUCCESS;
  const CUresult called =
      in_context([&](Driver& state, Context&) { result = ready(checked_event(state, event).recorded); });
  return called != CUDA_SUCCESS ? called : result;
}

CUresult cuEventSynchronize(CUevent event) {
  return in_context_waiting([&](Driver& state, Context&) {
    const CompletionPointer recorded = checked_event(state, event).recorded;
    return recorded == nullptr ? std::vector<CompletionPointer>() : std::vector{recorded};
  });
}

CUresult cuEventDestroy_v2(CUevent event) {
  return in_context([&](Driver& state, Context&) {
    checked_event(state, event);
    for (const auto& [_, context] : state.contexts) context->events.erase(event);
  });
}

// In milliseconds of the host's clock: how long the machine took, not how long a GPU would.
CUresult cuEventElapsedTime_v2(float* milliseconds, CUevent begin, CUevent end) {
  CUresult result = CUDA_SUCCESS;
  const CUresult called = in_context([&](Driver& state, Context&) {
    require(milliseconds != nullptr);
    const Event& first = checked_event(state, begin);
    const Event& second = checked_event(state, end);
    for (const Event* event : {&first, &second})
      require(event->recorded != nullptr && (event->flags & CU_EVENT_DISABLE_TIMING) == 0,
              CUDA_ERROR_INVALID_HANDLE);
    if (!first.recorded->finished() || !second.recorded->finished()) {
      result = CUDA_ERROR_NOT_READY;
      return;
    }
    const std::chrono::duration<float, std::milli> elapsed = second.recorded->when() - first.recorded->when();
    *milliseconds = elapsed.count();
  });
  return called != CUDA_SUCCESS ? called : result;
}

CUresult cuEventElapsedTime(float* milliseconds, CUevent begin, CUevent end) {
  return cuEventElapsedTime_v2(milliseconds, begin, end);
}

}  // extern "C"
}  // namespace sluice::ptx::api
