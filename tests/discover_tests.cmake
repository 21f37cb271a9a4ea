# ctest entries of one test program, listed when ctest runs. As gtest_discover_tests(), but where `groups_cases` is set a
# parameterised test is one entry with all its cases: thousands of cases that take an instant each would spend their time
# on starting thousands of processes.
#
# Included by ctest with `program`, `prefix`, `label`, `timeout` and `groups_cases` set (graft_discover_tests() in
# CMakeLists.txt).
cmake_policy(PUSH)
cmake_policy(SET CMP0057 NEW)  # IN_LIST
if(NOT EXISTS "${program}")
  add_test("${prefix}NOT_BUILT" "${program}")
  cmake_policy(POP)
  return()
endif()
execute_process(COMMAND "${program}" --gtest_list_tests OUTPUT_VARIABLE listing RESULT_VARIABLE result TIMEOUT 60)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${program} --gtest_list_tests ended with ${result}")
endif()

string(REGEX REPLACE "  +# [^\n]*" "" listing "${listing}")  # what a parameter is
string(REPLACE "\n" ";" lines "${listing}")
# Tests that run side by side must not spin. Where networks are made and dropped all the time, a third of the time would
# go to fetching the same memory from the kernel again and again.
set(environment OMP_WAIT_POLICY=passive)
if(label MATCHES "^(models|strategies)$")
  list(APPEND environment
       GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.trim_threshold=8589934592:glibc.malloc.mmap_threshold=8589934592)
endif()
# SharedModel.IsMade, where a program has it, writes the model file from which its other tests start (shared_model.h).
set(shares_model OFF)
if("SharedModel." IN_LIST lines)
  set(shares_model ON)
  list(APPEND environment "GRAFT_TEST_MODEL=${program}_model.h5")
endif()

set(seen)
foreach(line IN LISTS lines)
  if(line MATCHES "^[^ ]+\\.$")
    set(suite "${line}")
  elseif(line MATCHES "^  ([^ /]+)(/?)([^ ]*)")
    set(name "${suite}${CMAKE_MATCH_1}")
    set(filter "${name}")
    if(CMAKE_MATCH_2 AND groups_cases)
      string(APPEND filter "/*")
    elseif(CMAKE_MATCH_2)
      string(APPEND name "/${CMAKE_MATCH_3}")
      set(filter "${name}")
    endif()
    if(NOT name IN_LIST seen AND NOT name MATCHES "(^|[./])DISABLED_")
      list(APPEND seen "${name}")
      add_test("${prefix}${name}" "${program}" "--gtest_filter=${filter}")
      if(filter MATCHES "\\*$")
        set_tests_properties("${prefix}${name}" PROPERTIES COST 1)  # many cases: begun first, so that it is not alone at the end
      endif()
      set(own_environment "${environment}")
      # Small networks gain nothing from more threads while tests run side by side, and lose a sixth to their meetings. How
      # much memory threads take is a test of its own.
      if(label STREQUAL "strategies" AND NOT name MATCHES "EstimatedMemory")
        list(APPEND own_environment OMP_THREAD_LIMIT=1)
      endif()
      # Skipped is an entry of which every case was: the list of them is the last that it prints. A failed case would be
      # listed behind it, and ctest calls whatever matches skipped, failed or not.
      set_tests_properties("${prefix}${name}" PROPERTIES LABELS "${label}" TIMEOUT ${timeout}
                           ENVIRONMENT "${own_environment}" SKIP_REGULAR_EXPRESSION
                           "\\[  PASSED  \\] 0 tests\\.(\n\\[  SKIPPED \\][^\n]*)+[ \n]*$")
      if(name STREQUAL "SharedModel.IsMade")
        set_tests_properties("${prefix}${name}" PROPERTIES FIXTURES_SETUP ${prefix}shared_model)
      elseif(shares_model)
        set_tests_properties("${prefix}${name}" PROPERTIES FIXTURES_REQUIRED ${prefix}shared_model)
      endif()
    endif()
  endif()
endforeach()
cmake_policy(POP)
