// Contexts, the primary one and created ones: NVIDIA, "CUDA Driver API", sections Primary Context Management and Context
// Management. They share the device's memory; each owns its streams, events, modules and allocations.
#include "ptx/driver/state.h"

namespace sluice::ptx::api {
namespace {

Context& make_context(Driver& driver, bool primary) {
  auto& context = driver.make<Context>(nullptr);
  context.primary = primary;
  context.stream = &driver.make<Stream>(&context, 0U);
  return context;
}

CUresult create(CUcontext* context, unsigned flags, CUdevice device) {
  return call([&](Driver& driver) {
    require_device(device);
    require((flags & ~static_cast<unsigned>(CU_CTX_FLAGS_MASK)) == 0);
    out(context) = &make_context(driver, false);
    context_stack().push_back(*context);
  });
}

// Ends the context that `which` gives, if any, and frees what it owns, once everything it was told has been done.
CUresult end(const std::function<Context*(Driver& driver)>& which) {
  Context* context = nullptr;
  return call_waiting(
      [&](Driver& driver) {
        context = which(driver);
        return context == nullptr ? std::vector<Completion>() : ends_of(driver, *context);
      },
      [&](Driver& driver) {
        if (context == nullptr) return;
        driver.checked(context);  // another thread may have been faster
        std::erase_if(driver.objects, [&](const auto& entry) { return entry.second->context == context; });
        for (auto next = driver.allocated.begin(); next != driver.allocated.end();) {
          const auto here = next++;
          if (here->second.by == context) release(driver, here->first);
        }
        if (driver.primary == context) driver.primary = nullptr;
        driver.objects.erase(context);
      });
}

}  // namespace

extern "C" {

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  return call([&](Driver& driver) {
    require_device(device);
    if (driver.primary == nullptr) driver.primary = &make_context(driver, true);
    out(context) = driver.primary;
    ++driver.primary_references;
  });
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  return end([&](Driver& driver) {
    require_device(device);
    require(driver.primary_references > 0, CUDA_ERROR_INVALID_CONTEXT);
    return --driver.primary_references == 0 ? driver.primary : nullptr;
  });
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned* flags, int* active) {
  return call([&](Driver& driver) {
    require_device(device);
    require(flags != nullptr && active != nullptr);
    *flags = 0;  // nothing sets them
    *active = driver.primary == nullptr ? 0 : 1;
  });
}

CUresult cuCtxCreate_v2(CUcontext* context, unsigned flags, CUdevice device) {
  return create(context, flags, device);
}

CUresult cuCtxCreate_v3(CUcontext* context, CUexecAffinityParam* affinity, int count, unsigned flags,
                        CUdevice device) {
  if (affinity != nullptr || count != 0) return CUDA_ERROR_NOT_SUPPORTED;
  return create(context, flags, device);
}

CUresult cuCtxCreate_v4(CUcontext* context, CUctxCreateParams* parameters, unsigned flags, CUdevice device) {
  if (parameters != nullptr && (parameters->numExecAffinityParams != 0 || parameters->cigParams != nullptr))
    return CUDA_ERROR_NOT_SUPPORTED;
  return create(context, flags, device);
}

CUresult cuCtxDestroy_v2(CUcontext context) {
  const CUresult result = end([&](Driver& driver) {
    require(!driver.checked(context).primary, CUDA_ERROR_INVALID_CONTEXT);
    return context;
  });
  if (result == CUDA_SUCCESS && !context_stack().empty() && context_stack().back() == context)
    context_stack().pop_back();
  return result;
}

CUresult cuCtxPushCurrent_v2(CUcontext context) {
  return call([&](Driver& driver) { context_stack().push_back(&driver.checked(context)); });
}

CUresult cuCtxPopCurrent_v2(CUcontext* context) {
  return call([&](Driver&) {
    require(!context_stack().empty(), CUDA_ERROR_INVALID_CONTEXT);
    if (context != nullptr) *context = context_stack().back();
    context_stack().pop_back();
  });
}

CUresult cuCtxSetCurrent(CUcontext context) {
  return call([&](Driver& driver) {
    if (context != nullptr) driver.checked(context);
    if (!context_stack().empty()) context_stack().pop_back();
    if (context != nullptr) context_stack().push_back(context);
  });
}

CUresult cuCtxGetCurrent(CUcontext* context) {
  return call([&](Driver&) { out(context) = context_stack().empty() ? nullptr : context_stack().back(); });
}

CUresult cuCtxGetDevice(CUdevice* device) {
  return in_context([&](Driver&, Context&) { out(device) = 0; });
}

CUresult cuCtxGetDevice_v2(CUdevice* device, CUcontext context) {
  if (context == nullptr) return cuCtxGetDevice(device);
  return call([&](Driver& driver) {
    driver.checked(context);
    out(device) = 0;
  });
}

CUresult cuCtxGetApiVersion(CUcontext context, unsigned* version) {
  constexpr unsigned kVersion = 3020;  // of all contexts since CUDA 3.2
  return call([&](Driver& driver) {
    if (context == nullptr) require(!context_stack().empty(), CUDA_ERROR_INVALID_CONTEXT);
    driver.checked(context == nullptr ? context_stack().back() : context);
    out(version) = kVersion;
  });
}

CUresult cuCtxSynchronize() {
  return in_context_waiting([](Driver& driver, Context& context) { return ends_of(driver, context); });
}

CUresult cuCtxSynchronize_v2(CUcontext context) {
  if (context == nullptr) return cuCtxSynchronize();
  if (const CUresult pushed = cuCtxPushCurrent_v2(context); pushed != CUDA_SUCCESS) return pushed;
  const CUresult result = cuCtxSynchronize();
  context_stack().pop_back();
  return result;
}

}  // extern "C"
}  // namespace sluice::ptx::api
