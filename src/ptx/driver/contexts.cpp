// Contexts, the primary one and created ones: NVIDIA, "CUDA Driver API", sections Primary Context Management and Context
// Management. They share the device's memory; each owns its streams, events, modules and allocations.
#include <algorithm>
#include <utility>

#include "ptx/driver/state.h"

namespace sluice::ptx::api {
namespace {

constexpr size_t kDefaultStack = 1024;
constexpr size_t kDefaultPrintfFifo = size_t{1} << 20U;
constexpr size_t kDefaultHeap = size_t{8} << 20U;
constexpr int kLeastPriority = 0;
constexpr int kGreatestPriority = -5;

Context& make_context(Driver& state, unsigned flags, bool primary, unsigned api_version) {
  require((flags & ~static_cast<unsigned>(CU_CTX_FLAGS_MASK)) == 0);
  auto context = std::make_unique<Context>();
  context->id = state.next_id++;
  context->flags = flags;
  context->primary = primary;
  context->api_version = api_version;
  context->legacy = std::make_shared<Stream>(context.get(), 0, 0, state.next_id++);
  context->limits = {{CU_LIMIT_STACK_SIZE, kDefaultStack},
                     {CU_LIMIT_PRINTF_FIFO_SIZE, kDefaultPrintfFifo},
                     {CU_LIMIT_MALLOC_HEAP_SIZE, kDefaultHeap}};
  Context& made = *context;
  state.contexts.emplace(&made, std::move(context));
  return made;
}

// Ends it and frees what it owns, once everything it was told has been done.
CUresult destroy(Driver& state, Context* context) {
  std::vector<CompletionPointer> to_wait_for;
  {
    const std::lock_guard lock(state.mutex);
    to_wait_for = everything(checked_context(state, context));
  }
  for (const CompletionPointer& completion : to_wait_for) completion->wait();

  const std::lock_guard lock(state.mutex);
  checked_context(state, context).legacy->close();
  for (const auto& [_, stream] : context->per_thread) stream->close();
  for (const auto& [_, stream] : context->streams) stream->close();
  for (auto allocation = state.owned.begin(); allocation != state.owned.end();) {
    if (allocation->second.context != context) {
      ++allocation;
      continue;
    }
    release(state, allocation->first, allocation->second);
    allocation = state.owned.erase(allocation);
  }
  for (const auto& [_, library] : state.libraries) library->modules.erase(context);
  if (state.primary == context) state.primary = nullptr;
  state.contexts.erase(context);
  return CUDA_SUCCESS;
}

CUresult create(CUcontext* context, unsigned flags, CUdevice device, unsigned api_version) {
  return call([&](Driver& state) {
    require(context != nullptr);
    require_device(device);
    *context = &make_context(state, flags, false, api_version);
    context_stack().push_back(*context);
  });
}

// Destroys the primary context, if there is one and `last` says so.
template <typename Last>
CUresult end_primary(CUdevice device, Last&& last) {
  return guarded([&] {
    Driver& state = driver();
    Context* context = nullptr;
    {
      const std::lock_guard lock(state.mutex);
      require_device(device);
      if (last(state)) context = state.primary;
    }
    return context == nullptr ? CUDA_SUCCESS : destroy(state, context);
  });
}

}  // namespace

extern "C" {

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  return call([&](Driver& state) {
    require(context != nullptr);
    require_device(device);
    if (state.primary == nullptr) state.primary = &make_context(state, state.primary_flags, true, 3020);
    ++state.primary_references;
    *context = state.primary;
  });
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  return end_primary(device, [](Driver& state) {
    require(state.primary_references > 0, CUDA_ERROR_INVALID_CONTEXT);
    return --state.primary_references == 0;
  });
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice device) {
  return end_primary(device, [](Driver&) { return true; });
}

CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned flags) {
  return call([&](Driver& state) {
    require_device(device);
    require((flags & ~static_cast<unsigned>(CU_CTX_FLAGS_MASK)) == 0);
    state.primary_flags = flags;
    if (state.primary != nullptr) state.primary->flags = flags;
  });
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned* flags, int* active) {
  return call([&](Driver& state) {
    require_device(device);
    require(flags != nullptr && active != nullptr);
    *flags = state.primary_flags;
    *active = state.primary == nullptr ? 0 : 1;
  });
}

CUresult cuCtxCreate_v2(CUcontext* context, unsigned flags, CUdevice device) {
  return create(context, flags, device, 3020);
}

CUresult cuCtxCreate_v3(CUcontext* context, CUexecAffinityParam* affinity, int count, unsigned flags,
                        CUdevice device) {
  if (affinity != nullptr || count != 0) return CUDA_ERROR_NOT_SUPPORTED;
  return create(context, flags, device, 3020);
}

CUresult cuCtxCreate_v4(CUcontext* context, CUctxCreateParams* parameters, unsigned flags, CUdevice device) {
  if (parameters != nullptr && (parameters->numExecAffinityParams != 0 || parameters->cigParams != nullptr))
    return CUDA_ERROR_NOT_SUPPORTED;
  return create(context, flags, device, 3020);
}

CUresult cuCtxDestroy_v2(CUcontext context) {
  return guarded([&] {
    Driver& state = driver();
    {
      const std::lock_guard lock(state.mutex);
      require(!checked_context(state, context).primary, CUDA_ERROR_INVALID_CONTEXT);
    }
    const CUresult result = destroy(state, context);
    if (!context_stack().empty() && context_stack().back() == context) context_stack().pop_back();
    return result;
  });
}

CUresult cuCtxPushCurrent_v2(CUcontext context) {
  return call([&](Driver& state) { context_stack().push_back(&checked_context(state, context)); });
}

CUresult cuCtxPopCurrent_v2(CUcontext* context) {
  return call([&](Driver&) {
    require(!context_stack().empty(), CUDA_ERROR_INVALID_CONTEXT);
    if (context != nullptr) *context = context_stack().back();
    context_stack().pop_back();
  });
}

CUresult cuCtxSetCurrent(CUcontext context) {
  return call([&](Driver& state) {
    Context* const next = context == nullptr ? nullptr : &checked_context(state, context);
    if (!context_stack().empty()) context_stack().pop_back();
    if (next != nullptr) context_stack().push_back(next);
  });
}

CUresult cuCtxGetCurrent(CUcontext* context) {
  return call([&](Driver&) {
    require(context != nullptr);
    *context = context_stack().empty() ? nullptr : context_stack().back();
  });
}

CUresult cuCtxGetDevice(CUdevice* device) {
  return in_context([&](Driver&, Context&) {
    require(device != nullptr);
    *device = 0;
  });
}

CUresult cuCtxGetDevice_v2(CUdevice* device, CUcontext context) {
  if (context == nullptr) return cuCtxGetDevice(device);
  return call([&](Driver& state) {
    require(device != nullptr);
    checked_context(state, context);
    *device = 0;
  });
}

CUresult cuCtxGetFlags(unsigned* flags) {
  return in_context([&](Driver&, Context& context) {
    require(flags != nullptr);
    *flags = context.flags;
  });
}

CUresult cuCtxSetFlags(unsigned flags) {
  return in_context([&](Driver&, Context& context) {
    require((flags & ~static_cast<unsigned>(CU_CTX_FLAGS_MASK)) == 0);
    context.flags = flags;
  });
}

CUresult cuCtxGetId(CUcontext context, unsigned long long* id) {
  return call([&](Driver& state) {
    require(id != nullptr);
    if (context == nullptr) require(!context_stack().empty(), CUDA_ERROR_INVALID_CONTEXT);
    *id = checked_context(state, context == nullptr ? context_stack().back() : context).id;
  });
}

CUresult cuCtxSynchronize() {
  return in_context_waiting([](Driver&, Context& context) { return everything(context); });
}

CUresult cuCtxSynchronize_v2(CUcontext context) {
  if (context == nullptr) return cuCtxSynchronize();
  return guarded([&] {
    Driver& state = driver();
    {
      const std::lock_guard lock(state.mutex);
      checked_context(state, context);
    }
    context_stack().push_back(context);
    const CUresult result = cuCtxSynchronize();
    context_stack().pop_back();
    return result;
  });
}

// Limits are remembered, not enforced: what they limit grows as needed here.
CUresult cuCtxSetLimit(CUlimit limit, size_t value) {
  return in_context([&](Driver&, Context& context) {
    require(context.limits.contains(limit), CUDA_ERROR_UNSUPPORTED_LIMIT);
    context.limits[limit] = value;
  });
}

CUresult cuCtxGetLimit(size_t* value, CUlimit limit) {
  return in_context([&](Driver&, Context& context) {
    require(value != nullptr);
    require(context.limits.contains(limit), CUDA_ERROR_UNSUPPORTED_LIMIT);
    *value = context.limits[limit];
  });
}

CUresult cuCtxGetCacheConfig(CUfunc_cache* config) {
  return in_context([&](Driver&, Context& context) {
    require(config != nullptr);
    *config = context.cache_config;
  });
}

CUresult cuCtxSetCacheConfig(CUfunc_cache config) {
  return in_context([&](Driver&, Context& context) { context.cache_config = config; });
}

CUresult cuCtxGetApiVersion(CUcontext context, unsigned* version) {
  return call([&](Driver& state) {
    require(version != nullptr);
    if (context == nullptr) require(!context_stack().empty(), CUDA_ERROR_INVALID_CONTEXT);
    *version = checked_context(state, context == nullptr ? context_stack().back() : context).api_version;
  });
}

// Priorities are remembered; the streams' threads all run alike.
CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) {
  return in_context([&](Driver&, Context&) {
    if (least != nullptr) *least = kLeastPriority;
    if (greatest != nullptr) *greatest = kGreatestPriority;
  });
}

CUresult cuCtxResetPersistingL2Cache() {
  return in_context([](Driver&, Context&) {});
}

}  // extern "C"
}  // namespace sluice::ptx::api
