// A program for the CUDA driver API as others write them, with NVIDIA's cuda.h: vector_add IMAGE adds two arrays with the
// kernels in IMAGE (PTX or a fat binary), which it loads as a file, as data, and as a library.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <vector>

#include <cuda.h>

namespace {

void check(CUresult result, const char* what) {
  if (result == CUDA_SUCCESS) return;
  const char* text = nullptr;
  cuGetErrorString(result, &text);
  std::fprintf(stderr, "%s: %s\n", what, text == nullptr ? "?" : text);
  std::exit(1);
}
#define CHECK(call) check(call, #call)

void add(CUfunction function, float factor) {
  constexpr int kCount = 50'000;
  std::vector<float> a(kCount), b(kCount), c(kCount);
  for (int i = 0; i < kCount; ++i) {
    a[i] = static_cast<float>(i);
    b[i] = static_cast<float>(3 * i);
  }
  const size_t bytes = kCount * sizeof(float);
  CUdeviceptr device[3];
  for (CUdeviceptr& each : device) CHECK(cuMemAlloc(&each, bytes));
  CHECK(cuMemcpyHtoD(device[0], a.data(), bytes));
  CHECK(cuMemcpyHtoD(device[1], b.data(), bytes));
  int count = kCount;
  void* parameters[] = {&device[0], &device[1], &device[2], &count};
  CHECK(cuLaunchKernel(function, (kCount + 255) / 256, 1, 1, 256, 1, 1, 0, nullptr, parameters, nullptr));
  CHECK(cuMemcpyDtoH(c.data(), device[2], bytes));
  for (int i = 0; i < kCount; ++i)
    if (c[i] != factor * (a[i] + b[i])) {
      std::fprintf(stderr, "element %d is %g\n", i, c[i]);
      std::exit(1);
    }
  for (const CUdeviceptr each : device) CHECK(cuMemFree(each));
}

}  // namespace

int main(int, char** arguments) {
  CHECK(cuInit(0));
  CUdevice device;
  CHECK(cuDeviceGet(&device, 0));
  char name[100];
  CHECK(cuDeviceGetName(name, sizeof(name), device));
  CUcontext context;
#if CUDA_VERSION >= 13000
  CUctxCreateParams nothing_special = {};
  CHECK(cuCtxCreate(&context, &nothing_special, 0, device));
#else
  CHECK(cuCtxCreate(&context, 0, device));
#endif
  CUmodule module;
  CUfunction function;
  CHECK(cuModuleLoad(&module, arguments[1]));
  CHECK(cuModuleGetFunction(&function, module, "add"));
  add(function, 1);
  CHECK(cuModuleUnload(module));

  std::ifstream stream(arguments[1], std::ios::binary);
  std::vector<char> image{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  image.push_back('\0');
  CHECK(cuModuleLoadData(&module, image.data()));
  CHECK(cuModuleGetFunction(&function, module, "add_twice"));
  add(function, 2);

  CUlibrary library;
  CUkernel kernel;
  CHECK(cuLibraryLoadData(&library, image.data(), nullptr, nullptr, 0, nullptr, nullptr, 0));
  CHECK(cuLibraryGetKernel(&kernel, library, "add_twice"));
  add(reinterpret_cast<CUfunction>(kernel), 2);
  CHECK(cuCtxDestroy(context));
  std::printf("%s: passed\n", name);
}
