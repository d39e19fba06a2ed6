// Compares our declarations of the CUDA driver API with NVIDIA's: compiling this is the test (abi_test.py). With
// SLUICE_ABI_MISTAKE one of them is wrong, and it must not compile.
#include <cstddef>
#include <type_traits>

#include <cuda.h>
#include <cudaTypedefs.h>

#include "ptx/driver/abi.h"

// Older forms that CUDA 13's header leaves out and its driver still has.
extern "C" CUresult cuCtxCreate_v2(CUcontext* context, unsigned flags, CUdevice device);
extern "C" CUresult cuCtxCreate_v3(CUcontext* context, CUexecAffinityParam* affinity, int count,
                                   unsigned flags, CUdevice device);

namespace sluice::ptx::api {
namespace {

template <typename T, typename = void>
struct IsComplete : std::false_type {};
template <typename T>
struct IsComplete<T, std::void_t<decltype(sizeof(T))>> : std::true_type {};

// Whether the caller of a function with a parameter of type A may as well call one with a B.
template <typename A, typename B>
constexpr bool same_abi() {
  if constexpr (std::is_pointer_v<A> && std::is_pointer_v<B>) {
    using To = std::remove_cv_t<std::remove_pointer_t<A>>;
    using Other = std::remove_cv_t<std::remove_pointer_t<B>>;
    if constexpr (std::is_function_v<To> || std::is_function_v<Other>)
      return std::is_function_v<To> && std::is_function_v<Other>;
    else if constexpr (!IsComplete<To>::value || !IsComplete<Other>::value)  // handles, void
      return std::is_void_v<To> == std::is_void_v<Other>;
    else
      return same_abi<To, Other>();
  } else if constexpr (std::is_class_v<A> || std::is_class_v<B>) {
    return std::is_class_v<A> && std::is_class_v<B> && sizeof(A) == sizeof(B) && alignof(A) == alignof(B);
  } else {
    return sizeof(A) == sizeof(B) && std::is_pointer_v<A> == std::is_pointer_v<B>;
  }
}

template <typename Ours, typename Theirs>
struct SameFunction : std::false_type {};
template <typename... Ours, typename... Theirs>
struct SameFunction<api::CUresult(Ours...), ::CUresult (*)(Theirs...)>
    : std::bool_constant<sizeof...(Ours) == sizeof...(Theirs)> {};
template <typename... Ours, typename... Theirs>
  requires(sizeof...(Ours) == sizeof...(Theirs))
struct SameFunction<api::CUresult(Ours...), ::CUresult (*)(Theirs...)>
    : std::bool_constant<(same_abi<Ours, Theirs>() && ...)> {};

#define SLUICE_CUDA_FUNCTION(name, suffix, since, parameters)                         \
  static_assert(SameFunction<api::CUresult parameters, PFN_##name##_v##since>::value, \
                #name " of " #since " differs");
#include "ptx/driver/functions.inc"
#ifdef SLUICE_ABI_MISTAKE
SLUICE_CUDA_FUNCTION(cuMemAlloc, _v2, 3020, (CUdeviceptr * address, unsigned bytes))
#endif
#undef SLUICE_CUDA_FUNCTION

// Each symbol is the one that cuda.h's macros make of the name, or an older form of it.
#define SLUICE_CUDA_FUNCTION(name, suffix, since, parameters) static_assert(&::name##suffix != nullptr);
#include "ptx/driver/functions.inc"
#undef SLUICE_CUDA_FUNCTION

#define SLUICE_CUDA_RESULT(name, value, text) static_assert(::name == value);
#include "ptx/driver/results.inc"
#undef SLUICE_CUDA_RESULT

#define SLUICE_CUDA_CONSTANT(name, value) static_assert(static_cast<int>(::name) == value);
#define SLUICE_DEVICE_ATTRIBUTE(name, value, of_gpu) SLUICE_CUDA_CONSTANT(CU_DEVICE_ATTRIBUTE_##name, value)
#include "ptx/driver/constants.inc"
#undef SLUICE_CUDA_CONSTANT
#undef SLUICE_DEVICE_ATTRIBUTE

#define SAME_FIELD(type, field) \
  static_assert(offsetof(api::type, field) == offsetof(::type, field) && sizeof(api::type) == sizeof(::type))
SAME_FIELD(CUuuid, bytes);
SAME_FIELD(CUlaunchAttribute, id);
SAME_FIELD(CUlaunchAttribute, value);
SAME_FIELD(CUlaunchConfig, blockDimX);
SAME_FIELD(CUlaunchConfig, sharedMemBytes);
SAME_FIELD(CUlaunchConfig, hStream);
SAME_FIELD(CUlaunchConfig, attrs);
SAME_FIELD(CUlaunchConfig, numAttrs);
SAME_FIELD(CUctxCreateParams, numExecAffinityParams);
SAME_FIELD(CUctxCreateParams, cigParams);

}  // namespace
}  // namespace sluice::ptx::api
