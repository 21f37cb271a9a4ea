# Installs graft to a fresh prefix, builds tests/package/ against it with find_package(graft), and runs the result.
#   cmake -D BUILD_DIR=… -D SOURCE_DIR=… -D WORK_DIR=… -D GENERATOR=… -P package_test.cmake
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(result)
    message(FATAL_ERROR "failed (${result}): ${ARGN}\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

file(REMOVE_RECURSE ${WORK_DIR})
run(${CMAKE_COMMAND} --install ${BUILD_DIR} --prefix ${WORK_DIR}/prefix)
run(${CMAKE_COMMAND} -E copy_directory ${SOURCE_DIR} ${WORK_DIR}/source)
run(${CMAKE_COMMAND} -G ${GENERATOR} -S ${WORK_DIR}/source -B ${WORK_DIR}/build
    -DCMAKE_PREFIX_PATH=${WORK_DIR}/prefix -DCMAKE_BUILD_TYPE=Release)
run(${CMAKE_COMMAND} --build ${WORK_DIR}/build)
run(${WORK_DIR}/build/app)
message("${output}")

if(PROGRAM)  # the installed program must start from its own place
  run(${WORK_DIR}/prefix/${PROGRAM} --version)
endif()
