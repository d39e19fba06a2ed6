// The decoded operation, and the layout of the registers that it works on.
//
// A warp's registers are rows of 32 lanes: 2, 4 or 8 bytes per lane by the register's size, each row at a multiple of 64
// bytes. A predicate is a word of 32 bits, one per lane. Constants lie beside the registers as rows of the same form, so that
// every operand is one number: the row's offset, with bit 0 set if it is a constant.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <string>

#include "ptx/checks.h"
#include "ptx/module.h"

namespace sluice::ptx {

using Row = std::uint32_t;

struct Rows {
  std::byte* base[2];  // registers, constants

  template <class T>
  T* at(Row row) const {
    return reinterpret_cast<T*>(base[row & 1U] + (row & ~1U));
  }
};

// Of the launch that this thread runs, and not 0, if results that PTX only bounds are to vary (LaunchOptions::vary_inexact).
extern constinit thread_local std::uint64_t inexact_seed;

struct Operation;
class Executor;
struct Lanes;  // a group of lanes that the executor runs

// What an operation does to the lanes of `mask` that needs nothing but their registers.
using RowFunction = void (*)(const Operation& op, const Rows& rows, std::uint32_t mask);
// Everything else: memory, control, exchange between lanes. False: the group can't go on now.
using WarpFunction = bool (*)(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask);

enum class Rounding : std::uint8_t { kNearest, kZero, kDown, kUp };

struct Operation {
  RowFunction row = nullptr;    // either this
  WarpFunction warp = nullptr;  // or that
  RowFunction inner = nullptr;  // what `row` does in another rounding mode, or `warp` when its lanes have met
  std::uint64_t (*change)(std::uint64_t old, std::uint64_t b, std::uint64_t c) = nullptr;  // of atomics
  Row rows[5] = {};            // destination first
  Row guard = 0;               // a predicate; row 0 is all ones
  const Row* more = nullptr;   // further operands, of matrices and vectors
  std::int64_t immediate = 0;  // offset of an address, table of lop3, target of a branch
  bool guard_negated = false;
  bool hidden = false;  // part of an instruction that another operation counts as
  Rounding rounding = Rounding::kNearest;
  // Of memory and exchange.
  Space space = Space::kGeneric;
  AccessKind access = AccessKind::kLoad;
  Order order = Order::kWeak;
  Scope scope = Scope::kNone;
  std::uint8_t element = 0;  // bytes of one element in memory
  std::uint8_t width = 0;    // bytes of one lane of its register
  std::uint8_t count = 1;    // elements
  bool sign_extend = false;
  std::uint8_t variant = 0;  // what the function tells apart
};

// One line of the instruction set: what computes it, and the types of its operands.
struct Form {
  RowFunction function = nullptr;
  enum class Rounds : std::uint8_t { kNever, kOptional, kRequired } rounds = Rounds::kNever;
  Type destination = Type::kNone;
  Type sources[4] = {};
  std::uint8_t n_sources = 0;
  std::uint8_t registers[4] = {};  // of mma's D, A, B and C
};

// Which forms_*.h fill in: NAME.MODIFIERS.TYPE, without the rounding that the decoder handles.
struct FormTable {
  void add(std::initializer_list<const char*> name,
           const Form& form);  // parts that dots join; empty ones are left out

  std::map<std::string, Form, std::less<>> all;
};

// What 32 addresses come to, those of the lanes in a mask.
struct AddressSummary {
  std::uint64_t lowest = 0, highest = 0;
  std::uint64_t bits = 0;   // of all of them, or-ed: for alignment
  bool contiguous = false;  // all lanes access, each `size` bytes after the one before it
};

// What is compiled once for each instruction set of the CPU.
struct Kernels {
  const char* name;
  void (*list_forms)(FormTable& table);
  // addresses[i] = base[i] + offset, for a base of 4 or 8 bytes per lane; lanes outside the mask get the address of one inside.
  AddressSummary (*addresses)(const void* base, bool wide, std::int64_t offset, std::uint32_t mask,
                              std::uint32_t size, std::uint64_t* addresses);
};
extern const Kernels kPortableKernels, kAvx2Kernels, kAvx512Kernels;
const Kernels& kernels();  // the best that this CPU has

}  // namespace sluice::ptx
