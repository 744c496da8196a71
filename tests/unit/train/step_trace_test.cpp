// The trace file: who was in which phase when, and what was communicated meanwhile.
#include "train/step_trace.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/files.h"
#include "support/catch.h"
#include "support/cpu_context.h"
#include "support/error_text.h"
#include "support/temp_folder.h"

using namespace plsc;
using namespace plsc::test;
using Json = nlohmann::json;

namespace {

constexpr int kRanks = 3;

/// Steps 10 to 15 of a run that goes on from step 10: one phase with a sum that it waits for, one without.
void run_steps(ThreadRank& self, const LogConfig& config, int64_t last) {
  CpuContext rank(self);
  CommTimes times;
  const auto comm = make_timed_collective(*rank.backend.device, self.comm, times);
  times.listen(true);
  StepTrace trace(rank.context, config, 10);
  Tensor t = rank.backend.device->zeros({1000});
  for (int64_t step = 10; step < last; ++step) {
    trace.phase(step, "backward", 2);
    Pending one = comm->start_all_reduce(t, ReduceOp::sum), other = comm->start_all_reduce(t, ReduceOp::max);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    comm->wait(std::move(one), "bucket 0");
    comm->wait(std::move(other), "bucket 1");
    trace.phase(step, "update");
    trace.add(step, times.take());
    if (trace.complete(step + 1)) trace.write();
  }
  trace.write();
  trace.write();  // once is enough
}

std::vector<Json> slices(const Json& file, int rank, int track) {
  std::vector<Json> out;
  for (const Json& e : file["traceEvents"])
    if (e["ph"] == "X" && e["pid"] == rank && e["tid"] == track) out.push_back(e);
  return out;
}

double end_of(const Json& slice) { return slice["ts"].get<double>() + slice["dur"].get<double>(); }

}  // namespace

TEST_CASE("a trace has the phases and collectives of its steps, of every rank, in one file") {
  const TempFolder folder;
  LogConfig config;
  config.trace = folder / "trace.json";
  config.trace_first = 2;
  config.trace_steps = 3;
  run_ranks(kRanks, [&](ThreadRank& self) { run_steps(self, config, 20); });
  const Json file = Json::parse(read_text(config.trace));
  double first = 1e300;
  for (int r = 0; r < kRanks; ++r) {
    std::vector<Json> host = slices(file, r, 0), sums;
    std::vector<Json> phases, waits;
    for (const Json& e : host) (e["args"].contains("step") ? phases : waits).push_back(e);
    REQUIRE(phases.size() == 6);
    for (size_t i = 0; i < phases.size(); ++i) {
      CHECK(phases[i]["name"] == (i % 2 == 0 ? "backward" : "update"));
      CHECK(phases[i]["args"].value("micro-batch", -1) == (i % 2 == 0 ? 3 : -1));  // from 1; the update has none
      CHECK(phases[i]["args"]["step"] == static_cast<int>(13 + i / 2));  // counted from 1, as the metrics count
      first = std::min(first, phases[i]["ts"].get<double>());
    }
    REQUIRE(waits.size() == 6);
    for (size_t i = 0; i < waits.size(); ++i) {  // each lies in its step's backward pass
      const Json& phase = phases[i / 2 * 2];
      CHECK(waits[i]["ts"].get<double>() >= phase["ts"].get<double>());
      CHECK(end_of(waits[i]) <= end_of(phase) + 1e-3);  // of a microsecond: a double's rounding
    }
    for (const int track : {2, 3}) {  // two at a time
      for (const Json& e : slices(file, r, track)) sums.push_back(e);
      const std::vector<Json> lane = slices(file, r, track);
      for (size_t i = 0; i + 1 < lane.size(); ++i) CHECK(end_of(lane[i]) <= lane[i + 1]["ts"].get<double>());
    }
    REQUIRE(sums.size() == 6);
    for (const Json& e : sums) {
      CHECK(e["args"]["kind"] == "all-reduce");
      CHECK(e["args"]["bytes"] == 4000);
      CHECK(e["args"]["not hidden, us"].get<double>() >= 0);
      CHECK(e["dur"].get<double>() >= 0);
    }
  }
  CHECK(first == 0);  // the file's time begins with its first phase
}

TEST_CASE("a run that ends sooner writes what there is; one without a traced step writes nothing") {
  const TempFolder folder;
  LogConfig config;
  config.trace = folder / "trace.json";
  config.trace_first = 2;
  config.trace_steps = 100;
  run_ranks(kRanks, [&](ThreadRank& self) { run_steps(self, config, 12); });
  CHECK(!std::filesystem::exists(config.trace));
  run_ranks(kRanks, [&](ThreadRank& self) { run_steps(self, config, 14); });
  CHECK(slices(Json::parse(read_text(config.trace)), 2, 3).size() == 2);
}

TEST_CASE("a trace that cannot be written ends no run that has begun") {
  const TempFolder folder;
  LogConfig config;
  config.trace = folder / "no/such/folder/trace.json";
  config.trace_first = 0;
  CHECK_NOTHROW(run_ranks(kRanks, [&](ThreadRank& self) { run_steps(self, config, 14); }));
}

TEST_CASE("a trace's folder is made at the start, and one that cannot be is an error on every rank") {
  const TempFolder folder;
  const auto why = [&](const std::string& path) {
    std::vector<std::string> errors(kRanks);
    run_ranks(kRanks, [&](ThreadRank& self) {
      CpuContext rank(self);
      LogConfig config;
      config.trace = path;
      errors[static_cast<size_t>(self.rank)] = error_text([&] { require_trace_file(rank.context, config); });
    });
    for (const std::string& error : errors) CHECK(error == errors[0]);
    return errors[0];
  };
  CHECK(why(folder / "new/folder/trace.json").empty());
  CHECK(std::filesystem::is_empty(folder / "new/folder"));
  write_text_atomically(folder / "old.json", "old");
  CHECK(why(folder / "old.json").empty());
  CHECK(read_text(folder / "old.json") == "old");
  CHECK(why("").empty());  // none is wanted
  for (const char* path : {"old.json/trace.json", "new/folder"})
    CHECK(contains_all(why(folder / path), {"log.trace: " + folder / path, "choose another log.trace"}));
}
