// The doctor's judgement on hosts that are made up: who is odd, what the sheet says, the verdict, the JSON.
#include <nlohmann/json.hpp>

#include "app/doctor/report.h"
#include "app/quantity.h"
#include "support/catch.h"

using namespace plsc::doctor;
using plsc::quantity;

namespace {

/// One rank a host, n0, n1, ...
std::vector<RankSheet> hosts(int count) {
  std::vector<RankSheet> sheets(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) {
    RankSheet& sheet = sheets[static_cast<size_t>(i)];
    sheet.rank = sheet.node = i;
    sheet.host = "n" + std::to_string(i);
  }
  return sheets;
}

Fact driver(const std::string& version) { return {"gpus", "driver", version, {}, "", Agreement::same}; }
Fact memory(double gib) { return {"memory", "total", "{}", gib * (1 << 30), "B", Agreement::near}; }
Fact rate(double gigabytes) {
  return {"rates", "to device", "host to device {}", gigabytes * 1e9, "B/s", Agreement::rate};
}

std::string only(const std::vector<Told>& told) {
  REQUIRE(told.size() == 1);
  return told[0].where + ": " + told[0].finding.text;
}

const Line& line_of(const Report& report, const std::string& section) {
  for (const Line& line : report.lines) {
    if (line.section == section) return line;
  }
  FAIL("no section " << section);
  return report.lines[0];
}

}  // namespace

TEST_CASE("doctor: hosts that are alike are not told apart") {
  auto sheets = hosts(4);
  for (RankSheet& sheet : sheets) {
    sheet.add(driver("550.54"));
    sheet.add(memory(128 + 0.5 * sheet.rank));  // a kernel keeps some of it
    sheet.add(rate(25 - 3 * sheet.rank));
  }
  CHECK(odd_ones(sheets).empty());
  CHECK(make_report(sheets).verdict == Grade::ok);
}

TEST_CASE("doctor: the odd host out is named with what the others have") {
  auto sheets = hosts(4);
  for (RankSheet& sheet : sheets) sheet.add(driver(sheet.rank == 2 ? "535.104" : "550.54"));
  CHECK(only(odd_ones(sheets)) == "host n2: driver 535.104, the others 550.54");
  CHECK(make_report(sheets).verdict == Grade::warn);
}

TEST_CASE("doctor: without a majority each side is named") {
  auto sheets = hosts(2);
  sheets[0].add(driver("535.104"));
  sheets[1].add(driver("550.54"));
  const auto told = odd_ones(sheets);
  REQUIRE(told.size() == 2);
  CHECK(told[0].where == "host n0");
  CHECK(told[1].where == "host n1");
  CHECK(told[1].finding.text == "driver 550.54, where they should be one");
}

TEST_CASE("doctor: less memory is odd, and a rate below half of the median") {
  auto sheets = hosts(5);
  for (RankSheet& sheet : sheets) sheet.add(memory(sheet.rank == 4 ? 96 : 128));
  CHECK(only(odd_ones(sheets)) == "host n4: total 96.0 GiB, the median 128.0 GiB");
  sheets = hosts(5);
  for (RankSheet& sheet : sheets) sheet.add(rate(sheet.rank == 1 ? 12 : 25));
  CHECK(only(odd_ones(sheets)) == "host n1: to device 12 GB/s, the median 25 GB/s");
  sheets[1].facts[0] = rate(13);
  CHECK(odd_ones(sheets).empty());
}

TEST_CASE("doctor: two rates have no median, and two sizes are told as they are") {
  auto sheets = hosts(2);
  for (RankSheet& sheet : sheets) sheet.add(rate(sheet.rank == 0 ? 25 : 3));
  CHECK(odd_ones(sheets).empty());
  for (RankSheet& sheet : sheets) sheet.facts[0] = memory(sheet.rank == 0 ? 128 : 124);
  CHECK(odd_ones(sheets).empty());
  sheets[1].facts[0] = memory(96);
  const auto told = odd_ones(sheets);
  REQUIRE(told.size() == 2);
  CHECK(told[0].where + ": " + told[0].finding.text == "host n0: total 128.0 GiB, where they should be alike");
  CHECK(told[1].where + ": " + told[1].finding.text == "host n1: total 96.0 GiB, where they should be alike");
}

TEST_CASE("doctor: a host is busy where its load is well above its cores") {
  CHECK_FALSE(is_busy(2.4, 2));
  CHECK(is_busy(17, 2));
  CHECK_FALSE(is_busy(64, 64));
  CHECK(is_busy(110, 64));
}

TEST_CASE("doctor: several odd hosts are one finding, and many are counted") {
  auto sheets = hosts(20);
  for (RankSheet& sheet : sheets) sheet.add(driver(sheet.rank < 6 ? "535.104" : "550.54"));
  CHECK(only(odd_ones(sheets)) == "hosts n0, n1, n2, n3 and 2 more: driver 535.104, the others 550.54");
}

TEST_CASE("doctor: on one host ranks are named") {
  auto sheets = hosts(3);
  for (RankSheet& sheet : sheets) {
    sheet.node = 0;
    sheet.host = "n0";
    sheet.add(rate(sheet.rank == 2 ? 3 : 25));
  }
  CHECK(only(odd_ones(sheets)) == "rank 2: to device 3 GB/s, the median 25 GB/s");
}

TEST_CASE("doctor: other data on one host is a failure, to the last sample") {
  auto sheets = hosts(3);
  for (RankSheet& sheet : sheets) {
    Fact samples{"data", "samples", "{} images", sheet.rank == 1 ? 5822652.0 : 5822653.0, "", Agreement::same};
    samples.odd = Grade::fail;
    sheet.add(samples);
  }
  CHECK(only(odd_ones(sheets)) == "host n1: samples 5822652, the others 5822653");
  CHECK(exit_status(make_report(sheets).verdict) == 1);
}

TEST_CASE("doctor: facts that only the first rank of a host has are compared all the same") {
  auto sheets = hosts(6);
  for (RankSheet& sheet : sheets) {
    sheet.node = sheet.rank / 2 * 2;
    sheet.host = "n" + std::to_string(sheet.node / 2);
    if (sheet.rank % 2 == 0) sheet.add(driver(sheet.rank == 4 ? "535.104" : "550.54"));
  }
  CHECK(only(odd_ones(sheets)) == "host n2: driver 535.104, the others 550.54");
}

TEST_CASE("doctor: a line shows the majority's text, the range of numbers, or each rank's") {
  auto sheets = hosts(3);
  for (RankSheet& sheet : sheets) {
    sheet.add(driver(sheet.rank == 0 ? "535.104" : "550.54"));
    sheet.add(rate(20 + sheet.rank));
    sheet.add({"devices", "device", "GPU " + std::to_string(sheet.rank), {}, "", Agreement::listed});
    sheet.add({"gpus", "hidden", "not shown", {}, "", Agreement::none, Grade::warn, false});
  }
  const Report report = make_report(sheets);
  CHECK(line_of(report, "gpus").text == "550.54");
  CHECK(line_of(report, "gpus").grade == Grade::warn);
  CHECK(line_of(report, "rates").text == "host to device 20 to 22 GB/s");
  CHECK(line_of(report, "rates").grade == Grade::ok);
  CHECK(line_of(report, "devices").text == "rank 0: GPU 0, rank 1: GPU 1, rank 2: GPU 2");
  CHECK(report.lines[0].section == "gpus");  // the sheet's order
  CHECK(report.hosts == std::vector<std::string>{"n0", "n1", "n2"});
}

TEST_CASE("doctor: a finding is told once, with those who have it") {
  auto sheets = hosts(3);
  for (RankSheet& sheet : sheets) sheet.warn("limits", "8 MiB may be locked", "ulimit -l unlimited");
  sheets[1].fail("disk", "full");
  sheets[2].fail("disk", "full");
  const Report report = make_report(sheets);
  REQUIRE(report.told.size() == 2);
  CHECK(report.told[0].finding.grade == Grade::fail);  // first
  CHECK(report.told[0].where == "hosts n1, n2");
  CHECK(report.told[1].where.empty());
  CHECK(report.verdict == Grade::fail);
}

TEST_CASE("doctor: what rank 0 tells of all ranks is not told as its own host's") {
  auto sheets = hosts(3);
  sheets[0].warn_of_all("hosts", "n1 - n2: 1 GB/s, the median of all pairs 12 GB/s");
  sheets[0].warn("limits", "8 MiB may be locked");
  for (RankSheet& sheet : sheets) sheet = sheet_from_json(to_json(sheet));
  const Report report = make_report(sheets);
  REQUIRE(report.told.size() == 2);
  CHECK(report.told[0].where.empty());
  CHECK(report.told[1].where == "host n0");
}

TEST_CASE("doctor: warnings do not fail") {
  auto sheets = hosts(1);
  sheets[0].warn("limits", "little");
  CHECK(exit_status(make_report(sheets).verdict) == 0);
  sheets[0].fail("disk", "full");
  CHECK(exit_status(make_report(sheets).verdict) == 1);
}

TEST_CASE("doctor: the printed sheet fits the columns and ends with the verdict") {
  auto sheets = hosts(2);
  for (RankSheet& sheet : sheets) sheet.add({"program", "version", "plsc-train 0.1.0"});
  std::string words;
  for (int i = 0; i < 60; ++i) words += "word" + std::to_string(i) + " ";
  sheets[0].fail("disk", words, "free some " + words);
  for (int i = 0; i < 20; ++i) sheets[0].warn("limits", "warning " + std::to_string(i));
  PrintOptions options;
  options.columns = 80;
  options.findings = 5;
  options.seconds = 12.34;
  const std::string text = print_report(make_report(sheets), options);
  CHECK(text.starts_with("plsc-train doctor: 2 ranks on 2 hosts, 12.3 s\n"));
  CHECK(text.find("FAIL disk") != std::string::npos);
  CHECK(text.find("... and 16 more findings") != std::string::npos);
  CHECK(text.ends_with("verdict: training could NOT run: 1 failure, 20 warnings\n"));
  CHECK(text.find('\033') == std::string::npos);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) CHECK(line.size() <= 80);
  options.colours = true;
  CHECK(print_report(make_report(sheets), options).find("\033[31;1mFAIL") != std::string::npos);
}

TEST_CASE("doctor: a sheet travels as it is") {
  RankSheet sheet = hosts(2)[1];
  sheet.add(rate(12.5));
  sheet.add(driver("550.54 \xff"));  // not UTF-8
  sheet.fail_with("data", "cannot read x\n  hint: mount it");
  const RankSheet back = sheet_from_json(to_json(sheet));
  CHECK(back.host == "n1");
  CHECK(back.rank == 1);
  REQUIRE(back.facts.size() == 2);
  CHECK(back.facts[0].number == 12.5e9);
  CHECK(back.facts[0].agreement == Agreement::rate);
  CHECK_FALSE(back.facts[1].number.has_value());
  REQUIRE(back.findings.size() == 1);
  CHECK(back.findings[0].text == "cannot read x");
  CHECK(back.findings[0].hint == "mount it");
}

TEST_CASE("doctor: the JSON has everything under its documented names") {
  auto sheets = hosts(3);
  for (RankSheet& sheet : sheets) sheet.add(rate(sheet.rank == 2 ? 5 : 25));
  const auto j = nlohmann::json::parse(report_json(make_report(sheets), sheets, 3.5));
  CHECK(j.at("verdict") == "warn");
  CHECK(j.at("exit_status") == 0);
  CHECK(j.at("ranks") == 3);
  CHECK(j.at("hosts").size() == 3);
  CHECK(j.at("seconds") == 3.5);
  CHECK(j.at("lines").at(0).at("section") == "rates");
  CHECK(j.at("findings").at(0).at("where") == "host n2");
  CHECK(j.at("facts").at(2).at("number") == 5e9);
  CHECK(j.at("facts").at(2).at("unit") == "B/s");
}

TEST_CASE("doctor: an error of the configuration is JSON of the same names") {
  const auto j = nlohmann::json::parse(error_json("configuration", "x.yaml:2: unknown key\n  hint: see configs"));
  CHECK(j.at("program").get<std::string>().starts_with("plsc-train "));
  CHECK(j.at("verdict") == "fail");
  CHECK(j.at("exit_status") == 1);
  REQUIRE(j.at("findings").size() == 1);
  CHECK(j.at("findings").at(0).at("grade") == "fail");
  CHECK(j.at("findings").at(0).at("section") == "configuration");
  CHECK(j.at("findings").at(0).at("text") == "x.yaml:2: unknown key");
  CHECK(j.at("findings").at(0).at("hint") == "see configs");
}

TEST_CASE("doctor: quantities in the words of their units") {
  CHECK(quantity(12.34e9, "B/s") == "12.3 GB/s");
  CHECK(quantity(402e9, "FLOP/s") == "402 GFLOP/s");
  CHECK(quantity(999.9e9, "FLOP/s") == "1 TFLOP/s");
  CHECK(quantity(12e-6, "s") == "12 us");
  CHECK(quantity(0.25, "s") == "250 ms");
  CHECK(quantity(1234567, "") == "1,234,567");
  CHECK(quantity(123, "") == "123");
  CHECK(quantity(2.5, "") == "2.5");
  CHECK(quantity(3412.4, "images/s") == "3412 images/s");
}
