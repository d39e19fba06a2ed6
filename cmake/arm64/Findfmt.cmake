# fmt's library from the host's headers, which hold all of its source.
if(NOT TARGET fmt::fmt)
  set(source ${CMAKE_CURRENT_BINARY_DIR}/fmt.cpp)
  file(CONFIGURE OUTPUT ${source} CONTENT [=[
#include <fmt/format-inl.h>
template auto fmt::detail::thousands_sep_impl<char>(locale_ref) -> thousands_sep_result<char>;
template auto fmt::detail::decimal_point_impl(locale_ref) -> char;
template void fmt::detail::buffer<char>::append(const char*, const char*);
template void fmt::detail::vformat_to(buffer<char>&, string_view, basic_format_args<buffer_context<char>>, locale_ref);
template auto fmt::detail::dragonbox::to_decimal(float) noexcept -> decimal_fp<float>;
template auto fmt::detail::dragonbox::to_decimal(double) noexcept -> decimal_fp<double>;
]=] @ONLY)
  add_library(sluice_fmt STATIC EXCLUDE_FROM_ALL ${source})
  add_library(fmt::fmt ALIAS sluice_fmt)
endif()
set(fmt_FOUND TRUE)
