// What is refused at the start: class centres in host memory that do not fit it for all ranks of a host together,
// though each looks for itself; a class graph that does not fit while it is built.
#include "app/build.h"
#include "backend/dry/dry_backend.h"
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

/// What one rank is told that has this much room, on a GPU that computes nothing or on a CPU.
std::string told_of_graph(bool gpu, const std::string& store, const RankRoom& room, int64_t classes = 1'000'000) {
  Config config = config_of(store);
  config.head.sampling.method = "knn";
  DryTally tally;
  DryOptions options;
  if (gpu) options.kind = DeviceKind::cuda;
  Backend backend = make_dry_backend(options, tally);
  const auto alone = make_single_collective();
  Log log(0, LogLevel::error);
  Context context{backend, *alone, *alone, log, Dtype::f32, 1};
  return error_text([&] { require_sampling(context, config, classes, room); });
}

TEST_CASE("a class graph that does not fit while it is built is refused at the start, on a GPU too") {
  constexpr int64_t kGb = 1'000'000'000;
  // 100 candidates of 12 bytes for each of a million classes, beside 2 KiB of centres and as much of momentum; blocks
  // and tiles beside them are 448 MiB and 8 MiB.
  constexpr int64_t kLists = 1200 * 1'000'000, kRows = 4096 * 1'000'000LL, kWork = 456LL << 20;
  const std::string device = "{tier: device}", host = "{tier: host}";
  CHECK(told_of_graph(true, device, {8 * kGb, kLists + kRows + kWork}) == "");
  const std::string refused = told_of_graph(true, device, {8 * kGb, kLists + kRows + kWork - 1});
  CHECK(contains_all(refused, {"the class graph of 1000000 classes with head.sampling.neighbours 50", "GPU memory",
                               "beside 3.8 GiB of class centres and their momentum", "head.store: {tier: host}"}));
  // In host memory the centres are none of the GPU's.
  CHECK(told_of_graph(true, host, {8 * kGb, kLists + kWork}) == "");
  const std::string far = told_of_graph(true, host, {8 * kGb, kLists + kWork - 1});
  CHECK(contains_all(far, {"GPU memory while it is built, and there are", "more GPUs"}));
  CHECK(far.find("tier: host") == std::string::npos);
  // But the host's: 12 bytes a neighbour and 12 a class, and the new graph.
  CHECK(contains_all(told_of_graph(true, host, {kRows + 700'000'000, 80 * kGb}), {"of a rank's memory", "more hosts"}));
  CHECK(told_of_graph(true, host, {kRows + kGb, 80 * kGb}) == "");
  CHECK(told_of_graph(true, device, {kGb, 80 * kGb}) == "");
  // A CPU's lists are the host's.
  CHECK(told_of_graph(false, device, {kRows + 2 * kGb, {}}).find("of a rank's memory") != std::string::npos);
  CHECK(told_of_graph(false, device, {kRows + 3 * kGb, {}}) == "");
}

}  // namespace
}  // namespace plsc::test
