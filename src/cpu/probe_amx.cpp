// AMX: products of 16 × 32 by 32 × 16 bf16, or 16 × 64 by 64 × 16 bytes. Four accumulators hide the latency (52 cycles, one
// product every 16: Intel, Optimization Reference Manual, chapter 20). The process must have been allowed to use tiles.
#if defined(__x86_64__)
#include <cstddef>
#include <cstdint>

#include <immintrin.h>

#include "cpu/probe_kernels.h"

namespace sluice::cpu {
namespace {

// Intel SDM volume 1, 18.3.2.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};

struct alignas(64) Operand {
  std::uint32_t words[256];
};

// Tiles for the loops below. The thread's configuration may be one that kernels rely on: it comes back in the end.
class Tiles {
 public:
  explicit Tiles(std::uint32_t word) {
    _tile_storeconfig(&before_);
    __asm__ volatile("" : "+m"(before_));
    load(word);
  }
  ~Tiles() {
    if (before_.palette == 0) {
      _tile_release();
    } else {
      _tile_loadconfig(&before_);
    }
  }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

 private:
  static void load(std::uint32_t word);
  TileConfig before_;
};

void Tiles::load(std::uint32_t word) {
  TileConfig config;
  for (std::size_t tile = 0; tile < 8; ++tile) {
    config.row_bytes[tile] = 64;
    config.rows[tile] = 16;
  }
  // GCC 12's intrinsic tells the compiler about 8 of the 64 bytes.
  __asm__ volatile("" : "+m"(config));
  _tile_loadconfig(&config);
  Operand operand;
  for (std::uint32_t& value : operand.words) value = word;
  __asm__ volatile("" : "+m"(operand));
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, &operand, 64);
  _tile_loadd(5, &operand, 64);
  _tile_loadd(6, &operand, 64);
  _tile_loadd(7, &operand, 64);
}

void bf16(std::size_t rounds) {
  const Tiles tiles(0x3D003D00);
  for (std::size_t round = 0; round < rounds; ++round) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
}

void int8(std::size_t rounds) {
  const Tiles tiles(0x03030303);
  for (std::size_t round = 0; round < rounds; ++round) {
    _tile_dpbusd(0, 4, 6);
    _tile_dpbusd(1, 4, 7);
    _tile_dpbusd(2, 5, 6);
    _tile_dpbusd(3, 5, 7);
  }
}

}  // namespace

const ArithmeticLoop kAmxBf16 = {"tdpbf16ps", std::size_t{4} * 2 * 16 * 16 * 32, bf16};
const ArithmeticLoop kAmxInt8 = {"tdpbusd", std::size_t{4} * 2 * 16 * 16 * 64, int8};

}  // namespace sluice::cpu
#endif
