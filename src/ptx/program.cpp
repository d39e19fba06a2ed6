#include "ptx/program.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "base/error.h"
#include "ptx/decode.h"

namespace sluice::ptx {
namespace {

std::uint32_t round_up(std::uint32_t value, std::uint32_t to) {
  return (value + to - 1) / to * to;
}

// Gives variables of one space their places, one after the other.
class Layout {
 public:
  explicit Layout(std::uint32_t begin) : at_(begin) {}
  std::uint32_t place(const Variable& variable, std::string_view file) {
    const std::uint64_t begin = (at_ + variable.align - 1) / variable.align * variable.align;
    if (begin + variable.size > (1U << 30U)) {
      throw Error(fmt::format("{}: more than 1 GB in a space of the block or thread", variable.name),
                  fmt::format("{}:{}", file, variable.ptx_line));
    }
    at_ = begin + variable.size;
    return static_cast<std::uint32_t>(begin);
  }
  std::uint32_t end() const { return static_cast<std::uint32_t>(at_); }

 private:
  std::uint64_t at_;
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
  const auto [found, added] =
      constant_rows_.try_emplace({bits, width}, static_cast<Row>(constants.size() | 1U));
  if (!added) return found->second;
  if (width == 0) {
    constants.resize(constants.size() + 64);
    std::memcpy(&constants[constants.size() - 64], &bits, 4);
    return found->second;
  }
  const std::size_t at = constants.size();
  constants.resize(at + std::size_t{width} * kLanes);
  for (std::uint32_t i = 0; i < kLanes; ++i)
    std::memcpy(&constants[at + std::size_t{i} * width], &bits, width);
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
  Layout shared(0);
  for (const Variable& variable : module.variables) {
    if (symbols_.contains(variable.name)) {
      throw Error(fmt::format("{} is declared twice", variable.name),
                  fmt::format("{}:{}", module.name, variable.ptx_line));
    }
    if (variable.space == Space::kShared) {
      if (!variable.external) symbols_[variable.name] = shared.place(variable, module.name);
      continue;
    }
    if (variable.external) {
      throw Error(fmt::format("{} is external, and modules are not linked", variable.name),
                  fmt::format("{}:{}", module.name, variable.ptx_line));
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
  module_shared_ = shared.end();
  for (const Variable& variable : module.variables) {
    for (const Variable::Address& patch : variable.addresses) {
      const auto target = symbol(patch.symbol);
      if (!target) {
        throw Error(fmt::format("{} is not declared", patch.symbol),
                    fmt::format("{}:{}", module.name, variable.ptx_line));
      }
      const std::uint64_t value = *target + static_cast<std::uint64_t>(patch.addend);
      std::memcpy(reinterpret_cast<std::byte*>(variables[variable.name].address + patch.offset), &value,
                  sizeof(value));
    }
  }
}

// Whether any static shared memory counts for a kernel: its own, a variable of the module's, or what functions that it calls
// may use.
bool Program::uses_shared(const Function& kernel) const {
  const auto is_shared = [&](const std::string& name) {
    const Variable* variable = module.find_variable(name);
    return variable != nullptr && variable->space == Space::kShared && !variable->external;
  };
  const auto names_one = [&](const Operand& operand) { return is_shared(operand.name); };
  return std::ranges::any_of(kernel.variables, [](const Variable& v) { return v.space == Space::kShared; }) ||
         std::ranges::any_of(kernel.instructions, [&](const Instruction& instruction) {
           return instruction.opcode.starts_with("call") ||
                  std::ranges::any_of(instruction.operands, names_one);
         });
}

void Program::decode_functions() {
  // All places first: a call names those of the function that it calls.
  std::vector<DeclaredNames> names(module.functions.size());
  std::vector<std::uint32_t> shared_end(module.functions.size(), 0);
  frames.resize(module.functions.size());
  std::uint32_t functions_local = 0;
  std::uint32_t functions_shared = module_shared_;
  const auto place = [&](std::size_t i, std::uint32_t local_begin, std::uint32_t shared_begin) {
    const Function& function = module.functions[i];
    Layout local(round_up(local_begin, 16));
    Layout shared(shared_begin);
    for (const Variable& variable : function.variables) {
      const bool is_shared = variable.space == Space::kShared;
      if (variable.space == Space::kGlobal || (is_shared && variable.external)) {
        throw Error(fmt::format("{}: a variable of this kind is not supported in a function", variable.name),
                    fmt::format("{}:{}", module.name, variable.ptx_line));
      }
      const std::uint32_t at =
          is_shared ? shared.place(variable, module.name) : local.place(variable, module.name);
      names[i][variable.name] = {is_shared ? Space::kShared : Space::kLocal, at, variable.size};
    }
    Layout parameters(0);
    for (const Variable& parameter : function.parameters) {
      const std::uint32_t at =
          function.entry ? parameters.place(parameter, module.name) : local.place(parameter, module.name);
      names[i][parameter.name] = {function.entry ? Space::kParam : Space::kLocal, at, parameter.size};
      frames[i].parameters.push_back(at);
    }
    for (const Variable& result : function.returns) {
      const std::uint32_t at = local.place(result, module.name);
      names[i][result.name] = {Space::kLocal, at, result.size};
      frames[i].returns.push_back(at);
    }
    constexpr std::uint32_t kMaxLocal = 512U << 10U;  // CUDA C++ Programming Guide: of a thread
    if (local.end() > kMaxLocal) {
      throw Error(fmt::format("function {} needs {} bytes of local memory, a thread has {}", function.name,
                              local.end(), kMaxLocal),
                  fmt::format("{}:{}", module.name, function.ptx_line));
    }
    frames[i].local_bytes = local.end();
    shared_end[i] = shared.end();
  };
  const auto each = [&](bool entries, const auto& act) {
    for (std::size_t i = 0; i < module.functions.size(); ++i) {
      if (module.functions[i].defined && module.functions[i].entry == entries) act(i);
    }
  };
  each(false, [&](std::size_t i) {
    place(i, functions_local, functions_shared);
    functions_local = frames[i].local_bytes;
    functions_shared = shared_end[i];
  });
  each(true, [&](std::size_t i) { place(i, functions_local, functions_shared); });

  // Rows: row 0 is the predicate of all lanes; device functions first, then kernels over each other.
  std::uint32_t at = 64;
  std::vector<std::uint32_t> words(module.functions.size(), 0);
  const auto decode = [&](std::size_t i) {
    FunctionDecoder decoder(*this, static_cast<std::uint32_t>(i), names[i]);
    frames[i].entry = static_cast<std::uint32_t>(operations.size());
    const RowPlan plan = decoder.run(at);
    frames[i].register_bytes = plan.end;
    words[i] = plan.live_words;
  };
  each(false, [&](std::size_t i) {
    frames[i].return_row = at;
    at += kLanes * 4;
    decode(i);
    at = frames[i].register_bytes;
  });
  each(true, decode);

  each(true, [&](std::size_t i) {
    const Function& function = module.functions[i];
    Kernel kernel;
    kernel.name = function.name;
    for (std::size_t p = 0; p < function.parameters.size(); ++p) {
      const Variable& parameter = function.parameters[p];
      kernel.parameters.push_back({parameter.name, parameter.type, frames[i].parameters[p],
                                   static_cast<std::uint32_t>(parameter.size), parameter.align});
      kernel.parameter_bytes = frames[i].parameters[p] + static_cast<std::uint32_t>(parameter.size);
    }
    kernel.static_shared = uses_shared(function) ? shared_end[i] : 0;
    kernel.local_bytes = frames[i].local_bytes;
    kernel.registers = words[i];
    kernel.max_threads = function.max_threads;
    kernel.required_threads = function.required_threads;
    kernel.program = this;
    kernel.function = static_cast<std::uint32_t>(i);
    kernels.push_back(std::move(kernel));
  });
}

}  // namespace sluice::ptx
