// Large tables in host memory: what is handed out, what is refused, and which NUMA nodes are asked.
#include "base/large_pages.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>

#include "base/memory.h"
#include "support/catch.h"
#include "support/error_text.h"
#include "support/temp_folder.h"

namespace plsc::test {
namespace {

TEST_CASE("large memory is zero, to be written to its last byte, and begins on a large page") {
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{2} << 20, (size_t{5} << 20) + 3}) {
    void* data = map_large(bytes, "a test's table");
    CHECK(reinterpret_cast<uintptr_t>(data) % (size_t{2} << 20) == 0);
    auto* first = static_cast<unsigned char*>(data);
    CHECK(std::all_of(first, first + bytes, [](unsigned char b) { return b == 0; }));
    std::fill_n(first, bytes, static_cast<unsigned char>(7));
    unmap_large(data, bytes);
  }
}

TEST_CASE("more than the machine has left is an error that says what for, before anything is taken") {
  const auto more = static_cast<size_t>(available_memory()) + (size_t{1} << 40);
  CHECK(
      contains_all(error_text([&] { map_large(more, "a test's table"); }), {"a test's table", "host memory", "bf16"}));
}

TEST_CASE("the NUMA nodes of a process are those of its cores") {
  const TempFolder folder;
  const auto node = [&](const char* name, const char* cores) {
    const auto path = std::filesystem::path(folder.path()) / name;
    std::filesystem::create_directory(path);
    std::ofstream(path / "cpulist") << cores << "\n";
  };
  node("node0", "0-3,8-11");
  node("node1", "4-7");
  node("node10", "12");
  node("nodes", "0-99");
  const std::string root = folder.path();
  CHECK(nodes_of_cores({0}, root) == std::vector<int>{0});
  CHECK(nodes_of_cores({9, 7}, root) == std::vector<int>{0, 1});
  CHECK(nodes_of_cores({12, 4}, root) == std::vector<int>{1, 10});
  CHECK(nodes_of_cores({40}, root).empty());
  CHECK(nodes_of_cores({0}, root + "/nothing").empty());
}

}  // namespace
}  // namespace plsc::test
