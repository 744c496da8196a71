// The log: which rank says what where, and the progress line on a terminal and off one.
#include "base/log.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <sstream>
#include <thread>

#include "support/catch.h"
#include "support/error_text.h"
#include "support/temp_folder.h"

using namespace plsc;
using namespace plsc::test;

namespace {

/// A console that is a file.
class FakeConsole {
 public:
  explicit FakeConsole(int columns) : fd_(::open((folder_ / "console").c_str(), O_RDWR | O_CREAT | O_APPEND, 0600)) {
    console_ = {fd_, columns};
  }
  ~FakeConsole() { ::close(fd_); }
  Console console() const { return console_; }
  std::string text() const { return slurp(folder_ / "console"); }

 private:
  TempFolder folder_;
  int fd_;
  Console console_;
};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

}  // namespace

TEST_CASE("rank 0 speaks, the others do not") {
  const FakeConsole zero(0), one(0), alone(0);
  Log log0(0, LogLevel::info, zero.console()), log1(1, LogLevel::info, one.console());
  Log tool(-1, LogLevel::info, alone.console());
  for (Log* log : {&log0, &log1, &tool}) {
    log->debug("hidden {}", 1);
    log->info("step {} of {{}}", 2);
    log->warn("odd: {}", "{braces}");
    log->error("bad");
    log->progress("step 3");
  }
  CHECK(one.text().empty());
  for (const FakeConsole* console : {&zero, &alone}) {
    const auto lines = lines_of(console->text());
    REQUIRE(lines.size() == 4);
    CHECK(lines[0].substr(8) == " step 2 of {}");  // after HH:MM:SS
    CHECK(lines[1].substr(8) == " warning: odd: {braces}");
    CHECK(lines[2].substr(8) == " error: bad");
    CHECK(lines[3] == "step 3");
  }
}

TEST_CASE("the run's log has everything of rank 0 and the warnings of all") {
  const TempFolder folder;
  const std::string path = folder / "train.log";
  const FakeConsole console(0);
  Log log0(0, LogLevel::error, console.console()), log1(1, LogLevel::error, console.console());
  log0.open_file(path);
  log1.open_file(path);
  log0.debug("detail");
  log1.info("not kept");
  log1.warn("rank one warns");
  log0.info("last");
  const auto lines = lines_of(slurp(path));
  REQUIRE(lines.size() == 3);
  CHECK(contains(lines[0], " rank 0 debug: detail"));
  CHECK(contains(lines[1], " rank 1 warning: rank one warns"));
  CHECK(contains(lines[2], " rank 0 info: last"));
  CHECK(console.text().empty());  // below the console's level
  CHECK(contains_all(error_text([&] { log0.open_file(folder / "no/such/log"); }), {"no/such/log", "No such file"}));
}

TEST_CASE("lines of several writers do not mix, however long") {
  const TempFolder folder;
  const std::string path = folder / "train.log";
  std::vector<std::thread> writers;
  for (int w = 1; w <= 4; ++w) {
    writers.emplace_back([&, w] {
      Log log(w);
      log.open_file(path);
      for (int i = 0; i < 50; ++i) log.warn("{}", std::string(6000, static_cast<char>('a' + w)));
    });
  }
  for (auto& writer : writers) writer.join();
  const auto lines = lines_of(slurp(path));
  CHECK(lines.size() == 200);
  const auto whole = [](const std::string& line) {
    return line.size() > 6000 && line.find_first_not_of(line.back(), line.size() - 6000) == std::string::npos;
  };
  CHECK(std::all_of(lines.begin(), lines.end(), whole));
}

TEST_CASE("without a terminal progress is a plain line, at most one in five seconds") {
  const FakeConsole console(0);
  {
    Log log(0, LogLevel::info, console.console());
    for (int i = 0; i < 100; ++i) log.progress("step " + std::to_string(i));
    log.progress("step 99", true);
    log.progress("step 99", true);  // said already
  }
  CHECK(console.text() == "step 0\nstep 99\n");
}

TEST_CASE("on a terminal progress is rewritten in place, and log lines pass above it") {
  const FakeConsole console(20);
  {
    Log log(0, LogLevel::info, console.console());
    log.progress("step 1");
    log.progress("step 2: \xc3\xa9\xc3\xa9 and more than twenty columns");
    log.info("hello");
    log.progress("done", true);
    log.progress("next epoch");
  }
  const std::string text = console.text();
  const std::string clear = "\r\033[K", cut = "step 2: \xc3\xa9\xc3\xa9 and more";  // 19 columns, 21 bytes
  CHECK(text.rfind(clear + "step 1" + clear + cut + clear, 0) == 0);
  CHECK(contains(text, " hello\n" + cut + clear + "done\n" + clear + "next epoch\n"));
}
