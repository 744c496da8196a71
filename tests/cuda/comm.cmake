# Collectives on device memory under mpirun; mpi_main opens the world before CUDA is used.
get_directory_property(PLSC_MPI_ENVIRONMENT DIRECTORY ${PROJECT_SOURCE_DIR}/tests/dist DEFINITION PLSC_MPI_ENVIRONMENT)

foreach(part nccl staged)
  add_executable(test_standin_comm_${part} ${part}_test.cpp)
  set_target_properties(test_standin_comm_${part} PROPERTIES PLSC_STANDIN ON)
  target_link_libraries(test_standin_comm_${part} PRIVATE plsc_mpi_test_main plsc_runtime plsc_cuda_standin)
  plsc_tests(test_standin_comm_${part})
  foreach(ranks 1 2 3 4)
    plsc_mpi_test(standin.comm_${part}.${ranks} test_standin_comm_${part} ${ranks})
    set_tests_properties(standin.comm_${part}.${ranks} PROPERTIES LABELS standin
      ENVIRONMENT "${PLSC_MPI_ENVIRONMENT};PLSC_STANDIN_DEVICES=4")
  endforeach()
endforeach()

# What happens when a rank dies, hangs or fails: a program of its own, started by mpirun.
add_executable(gpu_rank_program gpu_rank_program.cpp ${PROJECT_SOURCE_DIR}/src/app/world.cpp)
set_target_properties(gpu_rank_program PROPERTIES PLSC_STANDIN ON)
target_link_libraries(gpu_rank_program PRIVATE plsc_runtime)
find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_test(NAME standin.nccl_faults COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/nccl_faults_test.py)
set_tests_properties(standin.nccl_faults PROPERTIES LABELS standin TIMEOUT 600 PROCESSORS 4
  ENVIRONMENT "${PLSC_MPI_ENVIRONMENT};PLSC_GPU_RANK_PROGRAM=$<TARGET_FILE:gpu_rank_program>;PLSC_MPIRUN=${MPIEXEC_EXECUTABLE}")
