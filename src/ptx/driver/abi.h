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
struct Library;
struct LibraryKernel;
struct Link;
struct Pool;

using CUdevice = int;
using CUdeviceptr = unsigned long long;
using cuuint64_t = std::uint64_t;
using std::size_t;

using CUcontext = Context*;
using CUevent = Event*;
using CUfunction = Function*;
using CUgreenCtx = struct GreenContext*;  // there are none
using CUkernel = LibraryKernel*;
using CUlibrary = Library*;
using CUlinkState = Link*;
using CUmemoryPool = Pool*;
using CUmodule = DriverModule*;
using CUstream = Stream*;

enum CUresult : int {
#define SLUICE_CUDA_RESULT(name, value, text) name = (value),
#include "ptx/driver/results.inc"
#undef SLUICE_CUDA_RESULT
};

// Enumerations arrive as whatever number the caller has, so they are ints here, with the constants that are told apart.
using CUdevice_attribute = int;
using CUdevice_P2PAttribute = int;
using CUfunc_cache = int;
using CUfunction_attribute = int;
using CUfunctionLoadingState = int;
using CUjit_option = int;
using CUjitInputType = int;
using CUlibraryOption = int;
using CUlimit = int;
using CUmemPool_attribute = int;
using CUmoduleLoadingMode = int;
using CUpointer_attribute = int;
using CUsharedconfig = int;
using CUstreamCaptureStatus = int;
using CUdriverProcAddressQueryResult = int;
struct CUexecAffinityParam;

enum CudaConstant : int {
#define SLUICE_CUDA_CONSTANT(name, value) name = (value),
#include "ptx/driver/constants.inc"
#undef SLUICE_CUDA_CONSTANT
};

struct CUctxCreateParams {
  CUexecAffinityParam* execAffinityParams;
  int numExecAffinityParams;
  void* cigParams;
};

struct CUuuid {
  char bytes[16];
};

struct CUdevprop {
  int maxThreadsPerBlock;
  int maxThreadsDim[3];
  int maxGridSize[3];
  int sharedMemPerBlock;
  int totalConstantMemory;
  int SIMDWidth;
  int memPitch;
  int regsPerBlock;
  int clockRate;
  int textureAlign;
};

struct CUDA_MEMCPY2D {
  size_t srcXInBytes;
  size_t srcY;
  int srcMemoryType;
  const void* srcHost;
  CUdeviceptr srcDevice;
  void* srcArray;
  size_t srcPitch;
  size_t dstXInBytes;
  size_t dstY;
  int dstMemoryType;
  void* dstHost;
  CUdeviceptr dstDevice;
  void* dstArray;
  size_t dstPitch;
  size_t WidthInBytes;
  size_t Height;
};

struct CUlaunchAttribute {
  int id;
  char pad[4];
  union {
    char bytes[64];
    int cooperative;
    unsigned clusterDim[3];
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

using CUstreamCallback = void (*)(CUstream stream, CUresult status, void* data);
using CUhostFn = void (*)(void* data);
using CUoccupancyB2DSize = size_t (*)(int block_size);

}  // namespace sluice::ptx::api
