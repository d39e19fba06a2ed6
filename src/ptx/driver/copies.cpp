// Copies and fills: NVIDIA, "CUDA Driver API", section Memory Management. All are operations of a stream; the synchronous
// forms are operations of the default stream that the host waits for.
#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "ptx/driver/state.h"

namespace sluice::ptx::api {
namespace {

using Wait = std::vector<CompletionPointer>;

enum class Side : std::uint8_t { kHost, kDevice, kEither };

// Rows of bytes on one side of a copy.
struct Rows {
  std::uint64_t address = 0;
  size_t pitch = 0;
  Side side = Side::kEither;
};

bool is_known(const Driver& state, std::uint64_t address) {
  return state.memory.find(address).has_value();
}

// Device memory that the program has given back, or told a stream to give back.
bool is_freed(const Driver& state, std::uint64_t address) {
  const std::optional<Allocation> allocation = state.memory.find(address);
  if (!allocation) return state.memory.is_device(address);
  return allocation->kind == AllocationKind::kDevice && !state.owned.contains(allocation->address);
}

// Throws if the device's side of it leaves its allocation. Host memory that the device doesn't know is taken as it is.
void check_rows(const Driver& state, const Rows& rows, size_t width, size_t height) {
  require(!is_freed(state, rows.address), CUDA_ERROR_INVALID_VALUE,
          fmt::format("{} at {:#x}: device memory that isn't allocated, or was freed", counted(width, "byte"),
                      rows.address));
  if (rows.side == Side::kHost || (rows.side == Side::kEither && !is_known(state, rows.address))) {
    require(rows.address != 0);
    return;
  }
  require(height == 1 || rows.pitch >= width);
  require(rows.pitch == 0 || height - 1 <= state.memory.capacity() / rows.pitch);
  try {
    static_cast<void>(state.memory.bytes(rows.address, (height - 1) * rows.pitch + width));
  } catch (const Error& error) {
    throw Failure{CUDA_ERROR_INVALID_VALUE, error.what()};
  }
}

void copy_rows(const Rows& to, const Rows& from, size_t width, size_t height) {
  for (size_t row = 0; row < height; ++row)
    std::memmove(reinterpret_cast<std::byte*>(to.address) + row * to.pitch,
                 reinterpret_cast<const std::byte*>(from.address) + row * from.pitch, width);
}

// Host memory that the device doesn't know is the caller's again when the call returns: what is read from it is read now, and
// the caller waits for what is written to it.
Wait copy(Driver& state, Context& context, Stream& stream, Rows to, Rows from, size_t width, size_t height,
          bool wait) {
  if (width == 0 || height == 0) return {};
  check_rows(state, to, width, height);
  check_rows(state, from, width, height);
  std::shared_ptr<std::vector<std::byte>> snapshot;
  if (!wait && !is_known(state, from.address)) {
    snapshot = std::make_shared<std::vector<std::byte>>(width * height);
    const Rows held{reinterpret_cast<std::uint64_t>(snapshot->data()), width};
    copy_rows(held, from, width, height);
    from = held;
  }
  CompletionPointer done =
      enqueue(context, stream, [to, from, width, height, snapshot] { copy_rows(to, from, width, height); });
  return wait || !is_known(state, to.address) ? Wait{std::move(done)} : Wait{};
}

CUresult copy_now(Rows to, Rows from, size_t width, size_t height = 1) {
  return in_context_waiting([&](Driver& state, Context& context) {
    return copy(state, context, *context.legacy, to, from, width, height, true);
  });
}

CUresult copy_later(Rows to, Rows from, size_t width, size_t height, CUstream stream) {
  return in_context_waiting([&](Driver& state, Context& context) {
    return copy(state, context, checked_stream(state, context, stream), to, from, width, height, false);
  });
}

Rows device(CUdeviceptr address) {
  return {address, 0, Side::kDevice};
}

Rows host(const void* data) {
  return {reinterpret_cast<std::uint64_t>(data), 0, Side::kHost};
}

Rows either(CUdeviceptr address) {
  return {address, 0, Side::kEither};
}

Rows rows_of(int type, const void* data, CUdeviceptr address, size_t x, size_t y, size_t pitch) {
  Rows rows{type == CU_MEMORYTYPE_HOST ? reinterpret_cast<std::uint64_t>(data) : address, pitch,
            Side::kEither};
  if (type == CU_MEMORYTYPE_HOST) rows.side = Side::kHost;
  if (type == CU_MEMORYTYPE_DEVICE) rows.side = Side::kDevice;
  require(type != CU_MEMORYTYPE_ARRAY, CUDA_ERROR_NOT_SUPPORTED, "cuMemcpy2D: there are no CUDA arrays");
  require(type == CU_MEMORYTYPE_HOST || type == CU_MEMORYTYPE_DEVICE || type == CU_MEMORYTYPE_UNIFIED);
  rows.address += y * pitch + x;
  return rows;
}

template <typename Copy>
CUresult copy_2d(const CUDA_MEMCPY2D* given, Copy&& how) {
  if (given == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return guarded([&] {
    const Rows to = rows_of(given->dstMemoryType, given->dstHost, given->dstDevice, given->dstXInBytes,
                            given->dstY, given->dstPitch);
    const Rows from = rows_of(given->srcMemoryType, given->srcHost, given->srcDevice, given->srcXInBytes,
                              given->srcY, given->srcPitch);
    return how(to, from);
  });
}

// Fills `width` elements in each of `height` rows.
template <typename T>
Wait fill(Driver& state, Context& context, Stream& stream, Rows rows, T value, size_t width, size_t height,
          bool wait) {
  if (width == 0 || height == 0) return {};
  require(width <= state.memory.capacity() / sizeof(T));
  require(rows.address % sizeof(T) == 0 && rows.pitch % sizeof(T) == 0);
  check_rows(state, rows, width * sizeof(T), height);
  CompletionPointer done = enqueue(context, stream, [rows, value, width, height] {
    for (size_t row = 0; row < height; ++row) {
      T* const to = reinterpret_cast<T*>(rows.address + row * rows.pitch);
      std::fill(to, to + width, value);
    }
  });
  return wait ? Wait{std::move(done)} : Wait{};
}

template <typename T>
CUresult fill_now(CUdeviceptr to, size_t pitch, T value, size_t width, size_t height) {
  return in_context_waiting([&](Driver& state, Context& context) {
    return fill(state, context, *context.legacy, {to, pitch, Side::kDevice}, value, width, height, true);
  });
}

template <typename T>
CUresult fill_later(CUdeviceptr to, size_t pitch, T value, size_t width, size_t height, CUstream stream) {
  return in_context_waiting([&](Driver& state, Context& context) {
    return fill(state, context, checked_stream(state, context, stream), {to, pitch, Side::kDevice}, value,
                width, height, false);
  });
}

}  // namespace

extern "C" {

CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  return copy_now(either(to), either(from), bytes);
}

CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return copy_later(either(to), either(from), bytes, 1, stream);
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t bytes) {
  return copy_now(device(to), host(from), bytes);
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
  return copy_later(device(to), host(from), bytes, 1, stream);
}

CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t bytes) {
  return copy_now(host(to), device(from), bytes);
}

CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return copy_later(host(to), device(from), bytes, 1, stream);
}

CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  return copy_now(device(to), device(from), bytes);
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return copy_later(device(to), device(from), bytes, 1, stream);
}

CUresult cuMemcpyPeer(CUdeviceptr to, CUcontext /*to_context*/, CUdeviceptr from, CUcontext /*from_context*/,
                      size_t bytes) {
  return copy_now(device(to), device(from), bytes);
}

CUresult cuMemcpyPeerAsync(CUdeviceptr to, CUcontext /*to_context*/, CUdeviceptr from,
                           CUcontext /*from_context*/, size_t bytes, CUstream stream) {
  return copy_later(device(to), device(from), bytes, 1, stream);
}

CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D* copy) {
  return copy_2d(copy, [&](const Rows& to, const Rows& from) {
    return copy_now(to, from, copy->WidthInBytes, copy->Height);
  });
}

CUresult cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D* copy) {
  return cuMemcpy2D_v2(copy);
}

CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D* copy, CUstream stream) {
  return copy_2d(copy, [&](const Rows& to, const Rows& from) {
    return copy_later(to, from, copy->WidthInBytes, copy->Height, stream);
  });
}

CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t count) {
  return fill_now(to, 0, value, count, 1);
}

CUresult cuMemsetD16_v2(CUdeviceptr to, unsigned short value, size_t count) {
  return fill_now(to, 0, value, count, 1);
}

CUresult cuMemsetD32_v2(CUdeviceptr to, unsigned value, size_t count) {
  return fill_now(to, 0, value, count, 1);
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream stream) {
  return fill_later(to, 0, value, count, 1, stream);
}

CUresult cuMemsetD16Async(CUdeviceptr to, unsigned short value, size_t count, CUstream stream) {
  return fill_later(to, 0, value, count, 1, stream);
}

CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t count, CUstream stream) {
  return fill_later(to, 0, value, count, 1, stream);
}

CUresult cuMemsetD2D8_v2(CUdeviceptr to, size_t pitch, unsigned char value, size_t width, size_t height) {
  return fill_now(to, pitch, value, width, height);
}

CUresult cuMemsetD2D16_v2(CUdeviceptr to, size_t pitch, unsigned short value, size_t width, size_t height) {
  return fill_now(to, pitch, value, width, height);
}

CUresult cuMemsetD2D32_v2(CUdeviceptr to, size_t pitch, unsigned value, size_t width, size_t height) {
  return fill_now(to, pitch, value, width, height);
}

CUresult cuMemsetD2D8Async(CUdeviceptr to, size_t pitch, unsigned char value, size_t width, size_t height,
                           CUstream stream) {
  return fill_later(to, pitch, value, width, height, stream);
}

CUresult cuMemsetD2D16Async(CUdeviceptr to, size_t pitch, unsigned short value, size_t width, size_t height,
                            CUstream stream) {
  return fill_later(to, pitch, value, width, height, stream);
}

CUresult cuMemsetD2D32Async(CUdeviceptr to, size_t pitch, unsigned value, size_t width, size_t height,
                            CUstream stream) {
  return fill_later(to, pitch, value, width, height, stream);
}

}  // extern "C"
}  // namespace sluice::ptx::api
