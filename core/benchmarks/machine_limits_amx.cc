#include <immintrin.h>

#include <array>
#include <cstdint>

#include "machine_limits.h"

namespace naiad {

double SpinTiles(long rounds) {
  struct alignas(64) {
    uint8_t palette = 1;
    std::array<uint8_t, 15> unused = {};
    std::array<uint16_t, 16> row_bytes = {64, 64, 64, 64, 64, 64};
    std::array<uint8_t, 16> rows = {16, 16, 16, 16, 16, 16};
  } const shapes;
  asm volatile("" : : "r"(&shapes) : "memory");  // GCC 12 does not know that all of it is read.
  _tile_loadconfig(&shapes);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  for (long i = 0; i < rounds; ++i) {  // Four chains, as an instruction takes longer than the next one waits.
    _tile_dpbsud(0, 4, 5);
    _tile_dpbsud(1, 4, 5);
    _tile_dpbsud(2, 4, 5);
    _tile_dpbsud(3, 4, 5);
  }
  _tile_release();
  return 2.0 * 16.0 * 16.0 * 64.0 * 4.0 * static_cast<double>(rounds);
}

}  // namespace naiad
