# Makes machine code of PTX, and keeps what ptxas tells: registers, spills, shared memory.
execute_process(COMMAND ${PTXAS} -v -O3 -lineinfo -arch=sm_${ARCHITECTURE} ${PTX} -o ${CUBIN}
                RESULT_VARIABLE failed OUTPUT_VARIABLE said ERROR_VARIABLE said)
file(WRITE ${LOG} "${said}")
if(failed)
  message(FATAL_ERROR "ptxas fails for sm_${ARCHITECTURE}:\n${said}")
endif()
