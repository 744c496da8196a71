# The stand-in's own tests. NCCL's run in processes of their own, forked before anything used CUDA.
standin_test(runtime DEPS plsc_cuda_standin SOURCES
  ${CMAKE_CURRENT_SOURCE_DIR}/standin_graph_test.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/standin_memory_test.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/standin_stream_test.cpp)
standin_test(nccl DEPS plsc_cuda_standin SOURCES
  ${CMAKE_CURRENT_SOURCE_DIR}/standin_nccl_test.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/standin_ranks.cpp)
