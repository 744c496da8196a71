# The benches and scripts/gpu_check.sh on the stand-in: what ends in an error would cost time on a real GPU, which is
# dear.
foreach(bench step head knn)
  plsc_standin_bench(${bench})
endforeach()
find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_test(NAME standin.gpu_check COMMAND ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/tests/scripts/test_gpu_check.py)
set_tests_properties(standin.gpu_check PROPERTIES LABELS standin TIMEOUT 900 RUN_SERIAL ON
  ENVIRONMENT "PLSC_BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
