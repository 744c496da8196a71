# The stand-in's own tests. Those of whole processes and of NCCL run in processes that are forked before anything used
# CUDA.
standin_test(runtime DEPS plsc_cuda_standin SOURCES
  ${CMAKE_CURRENT_SOURCE_DIR}/standin_graph_test.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/standin_memory_test.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/standin_options_test.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/standin_stream_test.cpp)
standin_test(processes DEPS plsc_cuda_standin nlohmann_json::nlohmann_json SOURCES
  ${CMAKE_CURRENT_SOURCE_DIR}/standin_nccl_test.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/standin_process_test.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/standin_ranks.cpp)
