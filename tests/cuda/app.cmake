# The product on the stand-in: plsc-train itself, but for what it is linked with. tests/e2e runs it.
add_executable(plsc-train-standin ${PROJECT_SOURCE_DIR}/src/app/main.cpp)
set_target_properties(plsc-train-standin PROPERTIES PLSC_STANDIN ON)
target_link_libraries(plsc-train-standin PRIVATE plsc_app)
