# Writes SLUICE_COMMIT, the commit of the sources, into OUTPUT: "unknown" outside a git checkout.

cmake_minimum_required(VERSION 3.25)
set(commit unknown)
find_program(git git)
if(git)
  execute_process(COMMAND ${git} -C ${SOURCE} describe --always --dirty --abbrev=12 --exclude=*
                  RESULT_VARIABLE failed OUTPUT_VARIABLE answer ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT failed AND answer MATCHES "^[0-9a-f]+(-dirty)?$")
    set(commit ${answer})
  endif()
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "#pragma once\n#define SLUICE_COMMIT \"@commit@\"\n" @ONLY)
