// What the doctor finds: facts and findings of each rank, as plain values that travel between ranks as JSON. Who finds
// them is probes.h; what they come to over all ranks is report.h.
#pragma once
#include <optional>
#include <string>
#include <vector>

namespace plsc::doctor {

enum class Grade { ok, warn, fail };

/// How a fact of one host is held against the others'.
enum class Agreement {
  none,    // it may be anything
  listed,  // it is another on each rank, and shown for each
  same,    // hosts whose text differs from the majority's are odd
  near,    // and those whose number is more than 5 % from the median
  rate,    // and those whose number is below half of the median, where there are three or more
};

/// One thing that a probe found.
struct Fact {
  std::string section;  // of the sheet: "memory"
  std::string name;     // "total"
  /// As people read it. In that of a number, {} stands for the number with its unit.
  std::string text = {};
  std::optional<double> number = {};
  std::string unit = {};  // "B", "B/s", "FLOP/s", "images/s", "s", or empty: a plain number
  Agreement agreement = Agreement::none;
  Grade odd = Grade::warn;  // what it means to be the odd one
  bool shown = true;        // on the sheet; else in the JSON alone, and in comparisons
};

/// Something that the user should know or mend.
struct Finding {
  Grade grade = Grade::warn;
  std::string section, text;
  std::string hint;     // what to do; may be empty
  bool of_all = false;  // found by all ranks together and told by one: the text names those whose it is
};

/// All that one rank has found so far.
struct RankSheet {
  int rank = 0;
  int node = 0;  // the same number on the ranks of one host
  std::string host;
  std::vector<Fact> facts;
  std::vector<Finding> findings;

  void add(Fact fact) { facts.push_back(std::move(fact)); }
  void warn(const std::string& section, const std::string& text, const std::string& hint = "") {
    findings.push_back({Grade::warn, section, text, hint});
  }
  void warn_of_all(const std::string& section, const std::string& text, const std::string& hint = "") {
    findings.push_back({Grade::warn, section, text, hint, true});
  }
  void fail_of_all(const std::string& section, const std::string& text, const std::string& hint = "") {
    findings.push_back({Grade::fail, section, text, hint, true});
  }
  void fail(const std::string& section, const std::string& text, const std::string& hint = "") {
    findings.push_back({Grade::fail, section, text, hint});
  }
  /// The text of an exception, whose hint stands on a line of its own (base/error.h).
  void fail_with(const std::string& section, const std::string& what);
};

std::string to_json(const RankSheet& sheet);
RankSheet sheet_from_json(const std::string& text);

/// "ok", "warn" or "fail".
const char* grade_name(Grade grade);

}  // namespace plsc::doctor
