// What all ranks' sheets come to: the odd host out, a line for each section, a verdict; and how it is printed. Pure
// functions of the sheets.
#pragma once
#include <string>
#include <vector>

#include "app/doctor/sheet.h"

namespace plsc::doctor {

/// A finding, and whose it is.
struct Told {
  Finding finding;
  std::string where;  // "host n13", "ranks 2, 3"; empty: everybody's
};

/// The hosts that differ from the majority: "host n13: driver 535.104, the others 550.54". Where there is no majority
/// each side is named.
std::vector<Told> odd_ones(const std::vector<RankSheet>& sheets);

/// Whether a host's load average (threads that compute or wait to) is well above its cores.
inline bool is_busy(double load, double cores) { return load > 1.5 * cores; }

struct Line {
  std::string section;
  Grade grade = Grade::ok;
  std::string text;
};

struct Report {
  int ranks = 0;
  std::vector<std::string> hosts;  // each once
  std::vector<Line> lines;         // in the order of the sheet
  std::vector<Told> told;          // failures first
  Grade verdict = Grade::ok;       // the worst of all
};
Report make_report(const std::vector<RankSheet>& sheets);

struct PrintOptions {
  int columns = 100;
  bool colours = false;
  int findings = 12;   // more than these are counted, not printed
  double seconds = 0;  // that the doctor took
};
/// One screen: a line a section with its findings behind it, then the verdict.
std::string print_report(const Report& report, const PrintOptions& options);

/// One JSON object: verdict, exit_status, ranks, hosts, seconds, lines, findings, and every fact of every rank.
std::string report_json(const Report& report, const std::vector<RankSheet>& sheets, double seconds);

/// Of an error before anything was examined: the same object with program, verdict, exit_status and one finding alone.
/// `what`: of an exception.
std::string error_json(const std::string& section, const std::string& what);

/// 0: training could run; 1: something failed.
inline int exit_status(Grade verdict) { return verdict == Grade::fail ? 1 : 0; }

}  // namespace plsc::doctor
