#include "tests/ptx/litmus.h"

#include <algorithm>
#include <regex>

namespace sluice::ptx {
namespace {

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

// Addresses: NAME, NAME+number, NAME+%lane4 and so on, NAME+%lane4+number.
std::string with_addresses(const std::string& code) {
  static const std::regex address(R"(\b(SX|SF|X|Y|F|G)\b(\+%(lane|other)(4|16))?(\+(\d+))?)");
  std::string result;
  std::string setup;
  auto begin = code.cbegin();
  int used = 0;
  for (std::smatch found; std::regex_search(begin, code.cend(), found, address); begin = found[0].second) {
    result.append(begin, found[0].first);
    const std::string name = found[1];
    const bool shared = name[0] == 'S';
    const std::string offset = found[6].matched ? "+" + found[6].str() : "";
    if (found[2].matched) {
      const std::string base = "%a" + std::to_string(used++);
      setup += "mul.wide.u32 " + base + ", %" + found[3].str() + ", " + found[4].str() + "; add.u64 " + base +
               ", " + base + ", %" + name + "; ";
      result += "[" + base + offset + "]";
    } else {
      result += (shared ? "[%" : "[%") + name + offset + "]";
    }
  }
  result.append(begin, code.cend());
  return setup + result;
}

// WAIT(opcode address, value) and WAIT(opcode address, operands: value).
std::string with_waits(const std::string& code, std::size_t warp) {
  static const std::regex wait(R"(WAIT\((\S+) (\w+), ([^:)]+)(: (\w+))?\))");
  std::string result;
  auto begin = code.cbegin();
  int used = 0;
  for (std::smatch found; std::regex_search(begin, code.cend(), found, wait); begin = found[0].second) {
    result.append(begin, found[0].first);
    const std::string label = "W" + std::to_string(warp) + "_" + std::to_string(used++);
    const std::string opcode = found[1];
    const bool cas = found[4].matched;
    const bool atom = opcode.starts_with("atom");
    const std::string operands = cas ? ", " + found[3].str() : atom ? ", 0" : "";
    const std::string value = cas ? found[5].str() : found[3].str();
    result += label + ": " + opcode + " %v9, " + found[2].str() + operands + "; setp.ne.u32 %q, %v9, " +
              value + "; @%q nanosleep.u32 20; @%q bra " + label + ";";
  }
  result.append(begin, code.cend());
  return result;
}

}  // namespace

std::string ptx_of(const Litmus& litmus) {
  std::uint32_t warps = 1;
  for (const LitmusWarp& warp : litmus.warps) warps = std::max(warps, warp.warp + 1);
  std::string text = R"(.version 8.4
.target sm_80
.address_size 64
.visible .entry litmus(.param .u64 buffer)
{
.reg .pred %first, %q, %mine;
.reg .b32 %v<10>, %lane, %other, %number, %block;
.reg .b64 %w<2>, %a<8>, %X, %Y, %F, %G, %SX, %SF;
.shared .align 16 .b8 shared_x[1024];
.shared .align 16 .b8 shared_f[16];
ld.param.u64 %X, [buffer];
cvta.to.global.u64 %X, %X;
add.u64 %Y, %X, 1024;
add.u64 %F, %X, 2048;
add.u64 %G, %X, 3072;
mov.u64 %SX, shared_x;
mov.u64 %SF, shared_f;
mov.u32 %v0, %tid.x;
and.b32 %lane, %v0, 31;
xor.b32 %other, %lane, 5;
shr.u32 %number, %v0, 5;
mov.u32 %block, %ctaid.x;
mad.lo.u32 %number, %block, )" +
                     std::to_string(warps) +
                     R"(, %number;
setp.eq.u32 %first, %lane, 0;
)";
  std::string bodies;
  for (std::size_t i = 0; i < litmus.warps.size(); ++i) {
    const LitmusWarp& warp = litmus.warps[i];
    const std::string number = std::to_string(i);
    text += "setp.eq.u32 %mine, %number, " + std::to_string(warp.block * warps + warp.warp) +
            ";\n@%mine bra WARP" + number + ";\n";
    std::string code = with_addresses(with_waits(std::string(warp.code), i));
    replace_all(code, "$", number);
    replace_all(code, "; ", ";\n");
    bodies += "WARP" + number + ":\n" + (warp.all_lanes ? "" : "@!%first bra END;\n") + code + "\nret;\n";
  }
  return text + "ret;\n" + bodies + "END:\nret;\n}\n";
}

}  // namespace sluice::ptx
