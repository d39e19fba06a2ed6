#include "ptx/program.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "base/error.h"
#include "ptx/decode.h"

namespace sluice::ptx {
namespace {

[[noreturn]] void fail(const Module& module, std::uint32_t line, std::string_view what) {
  throw Error(what, fmt::format("{}:{}", module.name, line));
}

// Gives variables of one space their places, one after the other.
struct Layout {
  const Module& module;
  std::uint32_t end = 0;

  std::uint32_t place(const Variable& variable) {
    const std::uint64_t begin = (std::uint64_t{end} + variable.align - 1) / variable.align * variable.align;
    if (begin + variable.size > (1U << 30U)) {
      fail(module, variable.ptx_line,
           fmt::format("{}: more than 1 GB in a space of the block or thread", variable.name));
    }
    end = static_cast<std::uint32_t>(begin + variable.size);
    return static_cast<std::uint32_t>(begin);
  }
};

}  // namespace

Program::Program(Module parsed, Memory& device_memory, const Gpu& gpu)
    : module(std::move(parsed)), memory(device_memory) {
  code.module = &module;
  const std::uint32_t gpu_target = gpu.compute_capability;
  if (module.target > gpu_target) {
    throw Error(fmt::format("the module is for sm_{}, {} is sm_{}", module.target, gpu.name, gpu_target),
                module.name, "compile for an older architecture, or choose another GPU");
  }
  constant(0, 0);
  try {
    place_variables();
    decode_functions();
  } catch (...) {
    for (const auto& [name, allocation] : variables) memory.free(allocation.address);
    throw;
  }
}

// NOLINTNEXTLINE(bugprone-exception-escape): free throws for what isn't allocated, and these are
Program::~Program() {
  for (const auto& [name, allocation] : variables) memory.free(allocation.address);
}

Row Program::constant(std::uint64_t bits, std::uint32_t width) {
  if (width == 2) bits &= 0xffffU;
  if (width == 4 || width == 0) bits &= 0xffffffffU;
  const std::size_t at = constants.size();
  const auto [found, added] = constant_rows_.try_emplace({bits, width}, static_cast<Row>(at | 1U));
  if (!added) return found->second;
  // A predicate is one word, in a row of 64 bytes.
  constants.resize(at + (width == 0 ? 64 : std::size_t{width} * kLanes));
  for (std::uint32_t i = 0; i < (width == 0 ? 1 : kLanes); ++i)
    std::memcpy(&constants[at + std::size_t{i} * width], &bits, width == 0 ? 4 : width);
  return found->second;
}

std::optional<std::uint64_t> Program::symbol(std::string_view name) const {
  const auto found = symbols_.find(std::string(name));
  if (found == symbols_.end()) return std::nullopt;
  return found->second;
}

void Program::place_variables() {
  for (std::size_t i = 0; i < module.functions.size(); ++i)
    symbols_[module.functions[i].name] = kCodeWindow + i + 1;
  Layout shared{module};
  for (const Variable& variable : module.variables) {
    if (symbols_.contains(variable.name))
      fail(module, variable.ptx_line, fmt::format("{} is declared twice", variable.name));
    if (variable.space == Space::kShared) {
      if (!variable.external) symbols_[variable.name] = shared.place(variable);
      continue;
    }
    if (variable.external) {
      fail(module, variable.ptx_line,
           fmt::format("{} is external, and modules are not linked", variable.name));
    }
    const AllocationKind kind =
        variable.space == Space::kConst ? AllocationKind::kConstant : AllocationKind::kGlobalVariable;
    const std::uint64_t address = memory.allocate(variable.size, kind, variable.name);
    variables[variable.name] = {address, variable.size, kind, variable.name};
    symbols_[variable.name] = address;
    auto* bytes = reinterpret_cast<std::byte*>(address);
    std::memset(bytes, 0, variable.size);
    std::ranges::copy(variable.initial, bytes);
  }
  module_shared_ = shared.end;
  for (const Variable& variable : module.variables) {
    for (const Variable::Address& patch : variable.addresses) {
      const auto target = symbol(patch.symbol);
      if (!target) fail(module, variable.ptx_line, fmt::format("{} is not declared", patch.symbol));
      const std::uint64_t value = *target + static_cast<std::uint64_t>(patch.addend);
      std::memcpy(reinterpret_cast<std::byte*>(variables[variable.name].address + patch.offset), &value,
                  sizeof(value));
    }
  }
}

// Whether any static shared memory counts for a kernel: its own, a variable of the module's, or what functions that it calls
// may use.
bool Program::uses_shared(const Function& kernel) const {
  const auto names_one = [&](const Operand& operand) {
    const Variable* variable = module.find_variable(operand.name);
    return variable != nullptr && variable->space == Space::kShared && !variable->external;
  };
  return std::ranges::any_of(kernel.variables, [](const Variable& v) { return v.space == Space::kShared; }) ||
         std::ranges::any_of(kernel.instructions, [&](const Instruction& instruction) {
           return instruction.opcode.starts_with("call") ||
                  std::ranges::any_of(instruction.operands, names_one);
         });
}

// Places of a function's variables and parameters, from these ends on.
DeclaredNames Program::place_names(const Function& function, Frame& frame, std::uint32_t& local_end,
                                   std::uint32_t& shared_end) const {
  DeclaredNames names;
  Layout local{module, (local_end + 15) / 16 * 16};
  Layout shared{module, shared_end};
  Layout parameters{module};
  const auto place = [&](const Variable& variable, Layout& layout, Space space) {
    const std::uint32_t at = layout.place(variable);
    names[variable.name] = {space, at, variable.size};
    return at;
  };
  for (const Variable& variable : function.variables) {
    const bool is_shared = variable.space == Space::kShared;
    if (variable.space == Space::kGlobal || (is_shared && variable.external)) {
      fail(module, variable.ptx_line,
           fmt::format("{}: a variable of this kind is not supported in a function", variable.name));
    }
    place(variable, is_shared ? shared : local, is_shared ? Space::kShared : Space::kLocal);
  }
  for (const Variable& parameter : function.parameters) {
    frame.parameters.push_back(function.entry ? place(parameter, parameters, Space::kParam)
                                              : place(parameter, local, Space::kLocal));
  }
  for (const Variable& result : function.returns)
    frame.returns.push_back(place(result, local, Space::kLocal));
  constexpr std::uint32_t kMaxLocal = 512U << 10U;  // CUDA C++ Programming Guide: of a thread
  if (local.end > kMaxLocal) {
    fail(module, function.ptx_line,
         fmt::format("function {} needs {} bytes of local memory, a thread has {}", function.name, local.end,
                     kMaxLocal));
  }
  frame.local_bytes = local_end = local.end;
  shared_end = shared.end;
  return names;
}

// Device functions first, each behind the one before; then kernels, over each other.
void Program::decode_functions() {
  std::vector<std::uint32_t> order;
  for (const bool entries : {false, true}) {
    for (std::uint32_t i = 0; i < module.functions.size(); ++i)
      if (module.functions[i].defined && module.functions[i].entry == entries) order.push_back(i);
  }
  frames.resize(module.functions.size());
  // All places before any code: a call names those of the function that it calls.
  std::vector<DeclaredNames> names(module.functions.size());
  std::vector<std::uint32_t> shared_ends(module.functions.size());
  std::uint32_t functions_local = 0;
  std::uint32_t functions_shared = module_shared_;
  for (const std::uint32_t i : order) {
    std::uint32_t local_end = functions_local;
    shared_ends[i] = functions_shared;
    names[i] = place_names(module.functions[i], frames[i], local_end, shared_ends[i]);
    if (module.functions[i].entry) continue;
    functions_local = local_end;
    functions_shared = shared_ends[i];
  }
  std::uint32_t functions_end = 64;  // row 0 is the predicate of all lanes
  for (const std::uint32_t i : order) {
    const Function& function = module.functions[i];
    Frame& frame = frames[i];
    std::uint32_t begin = functions_end;
    if (!function.entry) {
      frame.return_row = begin;
      begin += kLanes * 4;
    }
    frame.entry = static_cast<std::uint32_t>(operations.size());
    const RowPlan plan = FunctionDecoder(*this, i, names[i]).run(begin);
    frame.register_bytes = plan.end;
    if (!function.entry) {
      functions_end = plan.end;
      continue;
    }
    Kernel kernel;
    kernel.name = function.name;
    for (std::size_t p = 0; p < function.parameters.size(); ++p) {
      const Variable& parameter = function.parameters[p];
      const auto size = static_cast<std::uint32_t>(parameter.size);
      kernel.parameters.push_back(
          {parameter.name, parameter.type, frame.parameters[p], size, parameter.align});
      kernel.parameter_bytes = frame.parameters[p] + size;
    }
    kernel.static_shared = uses_shared(function) ? shared_ends[i] : 0;
    kernel.local_bytes = frame.local_bytes;
    kernel.registers = plan.live_words;
    kernel.max_threads = function.max_threads;
    kernel.required_threads = function.required_threads;
    kernel.program = this;
    kernel.function = i;
    kernels.push_back(std::move(kernel));
  }
}

}  // namespace sluice::ptx
