// The part of the CUDA driver API's ABI that the library speaks, declared by itself: it is built where no CUDA toolkit is.
// Handles point to objects of ours. tests/ptx/driver/abi_check.cpp compares all of it with NVIDIA's cuda.h where there is one.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sluice::ptx::api {

class Stream;
struct Context;
struct DriverModule;
struct Event;
struct Function;

using CUdevice = int;
using CUdeviceptr = unsigned long long;
using cuuint64_t = std::uint64_t;
using std::size_t;

using CUcontext = Context*;
using CUevent = Event*;
using CUfunction = Function*;
using CUkernel = Function*;  // a library's function is the same in all contexts
using CUlibrary = DriverModule*;
using CUmodule = DriverModule*;
using CUstream = Stream*;

enum CUresult : int {
#define SLUICE_CUDA_RESULT(name, value, text) name = (value),
#include "ptx/driver/results.inc"
#undef SLUICE_CUDA_RESULT
};

// Enumerations arrive as whatever number the caller has, so they are ints here, with the constants that are told apart.
using CUdevice_attribute = int;
using CUfunc_cache = int;
using CUfunction_attribute = int;
using CUjit_option = int;
using CUlibraryOption = int;
using CUpointer_attribute = int;
using CUdriverProcAddressQueryResult = int;
struct CUexecAffinityParam;

enum CudaConstant : int {
#define SLUICE_CUDA_CONSTANT(name, value) name = (value),
#define SLUICE_DEVICE_ATTRIBUTE(name, value, of_gpu) CU_DEVICE_ATTRIBUTE_##name = (value),
#include "ptx/driver/constants.inc"
#undef SLUICE_CUDA_CONSTANT
#undef SLUICE_DEVICE_ATTRIBUTE
};

struct CUctxCreateParams {
  CUexecAffinityParam* execAffinityParams;
  int numExecAffinityParams;
  void* cigParams;
};

struct CUuuid {
  char bytes[16];
};

struct CUlaunchAttribute {
  int id;
  char pad[4];
  union {
    char bytes[64];
    int cooperative;
    std::uint64_t alignment;
  } value;
};

struct CUlaunchConfig {
  unsigned gridDimX, gridDimY, gridDimZ;
  unsigned blockDimX, blockDimY, blockDimZ;
  unsigned sharedMemBytes;
  CUstream hStream;
  CUlaunchAttribute* attrs;
  unsigned numAttrs;
};

using CUhostFn = void (*)(void* data);
using CUoccupancyB2DSize = size_t (*)(int block_size);

}  // namespace sluice::ptx::api
