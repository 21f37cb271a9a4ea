# graft_bundle: the programs that scripts/make_bundle.sh packs for a machine with a GPU. Their names go to bundle_programs in
# the build folder, one a line.
set(programs "")
foreach(program graft graft_cuda graft_tests_kernels graft_tests_models graft_bench graft_train_step graft_update_step
                graft_feature_cache graft_ceilings)
  if(TARGET ${program})
    list(APPEND programs ${program})
  endif()
endforeach()
add_custom_target(graft_bundle DEPENDS ${programs})

list(TRANSFORM programs REPLACE "(.+)" "$<TARGET_FILE:\\1>")
list(JOIN programs "\n" lines)
file(GENERATE OUTPUT ${PROJECT_BINARY_DIR}/bundle_programs CONTENT "${lines}\n")
