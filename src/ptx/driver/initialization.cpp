// Initialization, errors, entry points: NVIDIA, "CUDA Driver API", sections Error Handling, Initialization, Version Management,
// Driver Entry Point Access.
#include <string_view>

#include <fmt/format.h>

#include "base/error.h"
#include "ptx/driver/state.h"

namespace sluice::ptx::api {
namespace {

constexpr int kVersion = 13000;  // CUDA 13.0

struct ResultText {
  CUresult result;
  const char* name;
  const char* text;
};

constexpr ResultText kResults[] = {
#define SLUICE_CUDA_RESULT(name, value, text) {name, #name, text},
#include "ptx/driver/results.inc"
#undef SLUICE_CUDA_RESULT
};

struct EntryPoint {
  std::string_view name;
  int since;
  void* function;
};

const EntryPoint kEntryPoints[] = {
#define SLUICE_CUDA_FUNCTION(name, suffix, since, parameters) \
  {#name, since, reinterpret_cast<void*>(&name##suffix)},
#include "ptx/driver/functions.inc"
#undef SLUICE_CUDA_FUNCTION
};

CUresult text_of(CUresult error, const char** text, const char* ResultText::* field) {
  if (text == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *text = nullptr;
  for (const ResultText& known : kResults) {
    if (known.result != error) continue;
    *text = known.*field;
    return CUDA_SUCCESS;
  }
  return CUDA_ERROR_INVALID_VALUE;
}

}  // namespace

extern "C" {

CUresult cuInit(unsigned flags) {
  return guarded([&] {
    require(flags == 0);
    try {
      make_driver();
    } catch (const Error& error) {
      throw Failure{CUDA_ERROR_INVALID_VALUE, error.what()};
    }
    return CUDA_SUCCESS;
  });
}

CUresult cuDriverGetVersion(int* version) {
  if (version == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *version = kVersion;
  return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult error, const char** text) {
  return text_of(error, text, &ResultText::text);
}

CUresult cuGetErrorName(CUresult error, const char** text) {
  return text_of(error, text, &ResultText::name);
}

// The newest form that a program of CUDA `version` knows.
CUresult cuGetProcAddress_v2(const char* symbol, void** function, int version, cuuint64_t flags,
                             CUdriverProcAddressQueryResult* result) {
  if (symbol == nullptr || function == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *function = nullptr;
  const auto answer = [&](CUdriverProcAddressQueryResult what, CUresult returned) {
    if (result != nullptr) *result = what;
    return returned;
  };
  if ((flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) != 0) {
    say("a default stream for each thread isn't supported: use CU_STREAM_PER_THREAD or streams of your own");
    return answer(CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND, CUDA_ERROR_NOT_SUPPORTED);
  }
  bool known = false;
  int newest = 0;
  for (const EntryPoint& entry : kEntryPoints) {
    if (entry.name != symbol) continue;
    known = true;
    if (entry.since > version || entry.since < newest) continue;
    newest = entry.since;
    *function = entry.function;
  }
  if (!known) return answer(CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND, CUDA_ERROR_NOT_FOUND);
  if (*function == nullptr) return answer(CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT, CUDA_ERROR_NOT_FOUND);
  return answer(CU_GET_PROC_ADDRESS_SUCCESS, CUDA_SUCCESS);
}

CUresult cuGetProcAddress(const char* symbol, void** function, int version, cuuint64_t flags) {
  return cuGetProcAddress_v2(symbol, function, version, flags, nullptr);
}

CUresult cuGetExportTable(const void** table, const CUuuid* /*id*/) {
  if (table != nullptr) *table = nullptr;
  say("cuGetExportTable: the driver's private tables, which the CUDA runtime (libcudart) needs, aren't "
      "there: use the driver "
      "API alone");
  return CUDA_ERROR_NOT_SUPPORTED;
}

}  // extern "C"
}  // namespace sluice::ptx::api
