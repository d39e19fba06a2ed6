// A decoded module: operations whose operands are rows (operation.h), variables in device memory, frames.
//
// Every function has one frame of registers and local memory for each lane, whoever calls it: lanes are independent, so only
// recursion would need more, and that is refused. Kernels share the space from 0, device functions lie behind the largest.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/aligned_allocator.h"
#include "ptx/machine.h"
#include "ptx/operation.h"

namespace sluice::ptx {

inline constexpr Row kTrue = 0;  // a predicate that all lanes have

struct Frame {
  std::uint32_t entry = 0;           // first operation
  std::uint32_t register_bytes = 0;  // of a whole warp, where the frame ends
  std::uint32_t local_bytes = 0;     // of a lane
  Row return_row = 0;  // of a device function: where each lane goes back to, 0 if it is not in it
  std::vector<std::uint32_t> parameters;  // offsets in local memory of its formal parameters
  std::vector<std::uint32_t> returns;
};

// A call's arguments and results: where the caller has them in its local memory, and their sizes.
struct CallSite {
  std::vector<std::uint32_t> arguments, results;  // offsets in the caller's local memory
  std::vector<std::uint32_t> argument_sizes, result_sizes;
};

// Where a variable of a function lies: offset in its space.
struct DeclaredName {
  Space space = Space::kLocal;
  std::uint64_t address = 0;
  std::uint64_t size = 0;
};
using DeclaredNames = std::unordered_map<std::string, DeclaredName>;

class Program {
 public:
  Program(Module parsed, Memory& device_memory, const Gpu& gpu);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // The address of a variable of the module in its space, or of a function.
  std::optional<std::uint64_t> symbol(std::string_view name) const;
  // A row of constants of that value in `width` bytes per lane.
  Row constant(std::uint64_t bits, std::uint32_t width);

  Module module;
  Memory& memory;
  Code code;
  std::vector<Operation> operations;
  std::deque<std::vector<Row>> more;                     // what Operation::more points to
  std::deque<std::vector<std::uint32_t>> branch_tables;  // targets of brx
  std::vector<CallSite> calls;
  std::vector<Frame> frames;  // by function
  std::vector<Kernel> kernels;
  std::map<std::string, Allocation, std::less<>> variables;
  std::vector<std::byte, AlignedAllocator<std::byte>> constants;

 private:
  void place_variables();
  DeclaredNames place_names(const Function& function, Frame& frame, std::uint32_t& local_end,
                            std::uint32_t& shared_end) const;
  void decode_functions();
  bool uses_shared(const Function& kernel) const;

  std::unordered_map<std::string, std::uint64_t> symbols_;
  std::map<std::pair<std::uint64_t, std::uint32_t>, Row> constant_rows_;
  std::uint32_t module_shared_ = 0;  // bytes of .shared variables outside functions
};

}  // namespace sluice::ptx
