// What NVIDIA's own assembler says of the one-instruction kernels.
#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <memory>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "ptx/opcodes.h"
#include "tests/ptx/instruction.h"
#include "tests/support/temp_folder.h"

namespace sluice::ptx {
namespace {

// What a command prints, standard error too.
std::string output_of(const std::string& command) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> pipe(popen((command + " 2>&1").c_str(), "r"), pclose);
  std::string text;
  std::array<char, 4096> part{};
  while (const std::size_t n = std::fread(part.data(), 1, part.size(), pipe.get()))
    text.append(part.data(), n);
  return text;
}

std::string last_line(std::string_view text) {
  while (text.ends_with('\n')) text.remove_suffix(1);
  return std::string(text.substr(text.rfind('\n') + 1));
}

void expect_as_assembled(std::span<const Case> cases, std::uint32_t target, const std::string& nvcc) {
  std::string text = module_head(target);
  const auto next_line = [&] { return 1 + std::ranges::count(text, '\n'); };
  // Where each kernel begins. Of those that must be refused, some: many errors take the assembler long.
  std::map<std::ptrdiff_t, const Case*> begins;
  std::ptrdiff_t line = next_line();
  std::size_t n_refused = 0;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    if (first_target(split_opcode(cases[i].opcode)) > target && n_refused++ % 16 != 0) continue;
    const std::string kernel = kernel_text(cases[i].plan, i);
    begins[line] = &cases[i];
    line += std::ranges::count(kernel, '\n');
    text += kernel;
  }
  // An error at the end, so that nothing is compiled.
  begins[line] = nullptr;
  text += ".visible .entry last()\n{\n.reg .b32 %r<3>;\nadd.rz.s32 %r0, %r1, %r2;\n}\n";
  const test::TempFolder folder;
  const std::string file = folder.write("instructions.ptx", text).string();
  const std::string said =
      output_of(fmt::format("'{0}' -arch=sm_{1} -cubin -o '{2}.cubin' '{2}'", nvcc, target, file));
  std::map<const Case*, std::string> refused;
  const std::string mark = file + ", line ";
  for (std::size_t at = said.find(mark); at != std::string::npos; at = said.find(mark, at + 1)) {
    const std::string_view rest = std::string_view(said).substr(at + mark.size());
    const auto after = begins.upper_bound(std::stol(std::string(rest.substr(0, 12))));
    ASSERT_NE(after, begins.begin());
    refused.emplace(std::prev(after)->second, rest.substr(0, rest.find('\n')));
  }
  ASSERT_TRUE(refused.contains(nullptr)) << said.substr(0, 2000);
  for (const auto& [begin, one] : begins) {
    if (one == nullptr) continue;
    const bool takes = first_target(split_opcode(one->opcode)) <= target;
    const auto found = refused.find(one);
    EXPECT_EQ(found == refused.end(), takes)
        << one->opcode << " for sm_" << target << ": " << (takes ? found->second : "the assembler takes it");
  }
}

}  // namespace

void expect_as_assembled(std::span<const Case> cases) {
  const std::string nvcc = last_line(output_of("'" SLUICE_SOURCE_DIR "/tools/get_nvcc.sh'"));
  if (!nvcc.starts_with('/')) GTEST_SKIP() << nvcc;
  for (const std::uint32_t target : {75U, 80U, 86U, 90U}) expect_as_assembled(cases, target, nvcc);
}

}  // namespace sluice::ptx
