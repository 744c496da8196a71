// metrics.jsonl on a disk that is full for a while, or to the end.
#include "train/recorder.h"

#include <unistd.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "support/catch.h"
#include "support/error_text.h"
#include "support/file_size_limit.h"
#include "support/temp_folder.h"

namespace plsc::test {
namespace {

constexpr int64_t kSteps = 8;

/// What the console shows; no limit of files holds for it.
class Shown {
 public:
  Shown() { REQUIRE(::pipe(ends_) == 0); }
  ~Shown() {
    ::close(ends_[0]);
    ::close(ends_[1]);
  }
  Log log() const { return Log(0, LogLevel::warning, Console{ends_[1], 0}); }
  std::string text() const {
    std::string all(65536, '\0');
    REQUIRE(::write(ends_[1], "\n", 1) == 1);  // so that the read does not wait
    const ssize_t n = ::read(ends_[0], all.data(), all.size());
    all.resize(static_cast<size_t>(n > 0 ? n : 0));
    return all;
  }

 private:
  int ends_[2] = {-1, -1};
};

void note(Recorder& recorder, int64_t from, int64_t to) {
  for (int64_t step = from; step <= to; ++step) {
    StepRecord record;
    record.step = step;
    record.loss = 1.0 / static_cast<double>(step);
    record.samples = 4;
    recorder.note(record);
  }
}

Recorder::Options options(const std::string& output) {
  return {.output = output, .every_steps = 1, .total_steps = kSteps, .images = 4 * kSteps};
}

/// The steps of the lines, each of which must be whole.
std::vector<int64_t> steps_of(const std::string& output) {
  const std::string text = read_text(output + "/metrics.jsonl");
  CHECK((text.empty() || text.back() == '\n'));
  std::istringstream lines(text);
  std::vector<int64_t> steps;
  for (std::string line; std::getline(lines, line);) steps.push_back(nlohmann::json::parse(line).at("step"));
  return steps;
}

}  // namespace

TEST_CASE("lines that a full disk never took are told with their steps, and none is left torn") {
  const TempFolder folder;
  const Shown shown;
  Log log = shown.log();
  {
    const FileSizeLimit limit(500);  // three lines and a part of the fourth
    Recorder recorder(options(folder.path()), log);
    note(recorder, 1, kSteps);
    CHECK(contains_all(shown.text(), {"error: cannot write", "metrics.jsonl: File too large; its lines wait"}));
    CHECK(read_text(folder.path() + "/metrics.jsonl").size() == 500);
  }
  const auto written = static_cast<int64_t>(steps_of(folder.path()).size());
  REQUIRE(written > 1);
  REQUIRE(written < kSteps - 1);
  CHECK(contains_all(shown.text(),
                     {"error: cannot write", fmt::format("metrics.jsonl: File too large; never written: {} line(s), of "
                                                         "steps {} to {}",
                                                         kSteps - written, written + 1, kSteps)}));
}

TEST_CASE("lines that waited are written whole when there is room again, at the end at the latest") {
  for (const int64_t full_until : {int64_t{6}, kSteps}) {
    const TempFolder folder;
    const Shown shown;
    Log log = shown.log();
    {
      Recorder recorder(options(folder.path()), log);
      {
        const FileSizeLimit limit(500);
        note(recorder, 1, full_until);
      }
      note(recorder, full_until + 1, kSteps);
    }
    CHECK(steps_of(folder.path()) == std::vector<int64_t>{1, 2, 3, 4, 5, 6, 7, 8});
    const std::string text = shown.text();
    CHECK(contains(text, "its lines wait"));
    CHECK_FALSE(contains(text, "never written"));
  }
}

}  // namespace plsc::test
