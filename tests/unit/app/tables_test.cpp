// Class centres in host memory must fit it for all ranks of a host together, though each looks for itself.
#include "app/build.h"
#include "base/memory.h"
#include "support/catch.h"
#include "support/cpu_context.h"
#include "support/error_text.h"

namespace plsc::test {
namespace {

Config config_of(const std::string& store) {
  return parse_config("data: {train: synthetic}\nmodel: {embedding_size: 512}\nhead: {store: " + store + "}\n", "f")
      .config;
}

/// Classes whose rows of 512 columns of this many bytes take about so many times the memory that is left here.
int64_t classes_for(double times, int64_t element) {
  return static_cast<int64_t>(times * static_cast<double>(available_memory()) / (512.0 * static_cast<double>(element)));
}

/// What each rank of two is told, "" where it may go on. Nothing of that memory is ever taken.
std::vector<std::string> told(const std::string& store, int64_t classes, int local_ranks) {
  std::vector<std::string> out(2);
  run_ranks(2, [&](ThreadRank& rank) {
    CpuContext cpu(rank);
    out[static_cast<size_t>(cpu.context.rank())] =
        error_text([&] { require_tables(cpu.context, config_of(store), classes, local_ranks); });
  });
  return out;
}

TEST_CASE("two ranks whose class centres fit a host's memory one by one, but not together, do not start") {
  const std::string bf16 = "{tier: host, dtype: bf16, momentum: bf16}";
  const int64_t most = classes_for(1.4, 2 + 2);  // each rank .7 of it
  CHECK(told(bf16, most, 1) == std::vector<std::string>{"", ""});
  for (const std::string& error : told(bf16, most, 2)) {
    CHECK(error.find("left for each of the 2 rank(s) of this host") != std::string::npos);
    CHECK(error.find("head.store.dtype") != std::string::npos);
  }
  CHECK(told(bf16, classes_for(0.6, 2 + 2), 2) == std::vector<std::string>{"", ""});
  // The same classes in fp32 are twice as much; in a device's memory they are none of the host's.
  for (const std::string& error : told("{tier: host}", classes_for(0.6, 2 + 2), 2)) CHECK_FALSE(error.empty());
  for (const std::string& error : told("{tier: host}", most, 1)) CHECK_FALSE(error.empty());
  CHECK(told("{tier: device}", 100 * most, 2) == std::vector<std::string>{"", ""});
}

}  // namespace
}  // namespace plsc::test
