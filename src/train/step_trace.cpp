#include "train/step_trace.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/error.h"
#include "base/files.h"

namespace plsc {
namespace {

using Json = nlohmann::ordered_json;

// Threads of a rank's process in the viewer.
constexpr int kHostTrack = 0, kDeviceTrack = 1, kFirstCommTrack = 2;
constexpr int kClockRounds = 8;

double micros(double seconds) { return 1e6 * seconds; }

/// A line of the file: what lasts from `begin` to `end`, seconds of the file.
struct Slice {
  int track = 0;
  std::string name;
  double begin = 0, end = 0;
};

Json event(int rank, const Slice& s) {
  return {{"name", s.name}, {"ph", "X"},      {"ts", micros(s.begin)}, {"dur", micros(s.end - s.begin)},
          {"pid", rank},    {"tid", s.track}, {"args", Json::object()}};
}

Json title(int rank, int track, const char* what, const std::string& name) {
  return {{"name", what}, {"ph", "M"}, {"pid", rank}, {"tid", track}, {"args", {{"name", name}}}};
}

/// Collectives overlap: each lies on the first track that is free.
class Tracks {
 public:
  int take(double begin, double end) {
    const auto free = std::find_if(ends_.begin(), ends_.end(), [begin](double e) { return e <= begin; });
    const auto at = free - ends_.begin();
    if (free == ends_.end()) ends_.push_back(0);
    ends_[static_cast<size_t>(at)] = end;
    return kFirstCommTrack + static_cast<int>(at);
  }
  int count() const { return static_cast<int>(ends_.size()); }

 private:
  std::vector<double> ends_;
};

}  // namespace

void require_trace_file(Context& context, const LogConfig& config) {
  if (config.trace.empty()) return;
  on_rank_0(context.host, [&] {
    try {
      const auto folder = std::filesystem::path(config.trace).parent_path();
      if (!folder.empty()) std::filesystem::create_directories(folder);
      const AtomicFile tried(config.trace);  // it goes with this block, and what has the name stays
    } catch (const std::exception& e) {
      fail_hint("choose another log.trace", "log.trace: {}: no file can be written there: {}", config.trace,
                without_hint(e.what()));
    }
  });
}

StepTrace::StepTrace(Context& context, const LogConfig& config, int64_t first_step)
    : context_(context),
      path_(config.trace),
      first_step_(first_step),
      begin_(first_step + config.trace_first),
      end_(begin_ + config.trace_steps) {}

void StepTrace::announce(int64_t total_steps) const {
  if (context_.rank() != 0 || begin_ < total_steps) return;
  context_.log.warn(
      "log.trace: there will be none: the run's last step is {}, the first one that is traced would be {}; lower "
      "log.trace_first, which is {}",
      total_steps, begin_ + 1, begin_ - first_step_);
}

bool StepTrace::takes_part() const {
  const int every = (context_.ranks() + kMostRanks - 1) / kMostRanks;
  return context_.rank() % every == 0;
}

// A rank's value in a gather left after `before` of its clock and was there before `after` of the other's: each gather
// bounds the difference between two clocks from both sides, by what it took.
void StepTrace::measure_clock() {
  Collective& host = context_.host;
  double low = -1e300, high = 1e300;
  for (int round = 0; round < kClockRounds; ++round) {
    const double before = steady_seconds();
    const double before0 = gather_values(host, before)[0];
    const double after = steady_seconds();
    const double after0 = gather_values(host, after)[0];
    low = std::max(low, before0 - after);
    high = std::min(high, after0 - before);
  }
  to_rank0_ = context_.rank() == 0 ? 0 : (low + high) / 2;
  uncertain_ = context_.rank() == 0 ? 0 : (high - low) / 2;
}

void StepTrace::phase(int64_t step, const char* name, int64_t micro_batch) {
  if (closed_ || (phases_.empty() && !traces(step))) return;
  if (phases_.empty()) context_.device().set_clock();
  closed_ = step >= end_;  // it ends the last one of the trace
  phases_.push_back(
      {step, name, micro_batch, steady_seconds(), context_.device().is_host() ? nullptr : context_.device().mark()});
}

void StepTrace::add(int64_t step, const std::vector<CommSpan>& spans) {
  if (!traces(step)) return;
  for (const CommSpan& span : spans) spans_.emplace_back(step, span);
}

std::string StepTrace::events() const {
  const int rank = context_.rank();
  const auto here = [this](double seconds) { return seconds + to_rank0_ - origin_; };
  Json list = Json::array();
  list.push_back(
      title(rank, 0, "process_name", fmt::format("rank {}, clock good to {:.0f} us", rank, micros(uncertain_))));
  list.push_back(title(rank, kHostTrack, "thread_name", "host"));
  const bool far = !context_.device().is_host();
  if (far) list.push_back(title(rank, kDeviceTrack, "thread_name", "device"));
  for (size_t i = 0; i + 1 < phases_.size(); ++i) {
    const Phase &now = phases_[i], &next = phases_[i + 1];
    const auto add = [&](const Slice& of) {
      Json slice = event(rank, of);
      slice["args"]["step"] = now.step + 1;
      if (now.micro_batch >= 0) slice["args"]["micro-batch"] = now.micro_batch + 1;
      list.push_back(std::move(slice));
    };
    add({kHostTrack, now.name, here(now.host), here(next.host)});
    if (far) add({kDeviceTrack, now.name, here(now.device->seconds()), here(next.device->seconds())});
  }
  Tracks tracks;
  auto by_begin = spans_;
  std::stable_sort(by_begin.begin(), by_begin.end(),
                   [](const auto& a, const auto& b) { return a.second.begin() < b.second.begin(); });
  for (const auto& [step, span] : by_begin) {
    const double begin = span.begin(), end = std::max(span.end(), begin);
    Json slice = event(rank, {tracks.take(begin, end), span.what, here(begin), here(end)});
    slice["args"] = {
        {"step", step + 1}, {"kind", span.kind}, {"bytes", span.bytes}, {"not hidden, us", micros(span.exposed())}};
    list.push_back(slice);
    // Inside the phase that has to wait.
    const double wait = span.wait_begin->seconds(), waited = span.wait_end->seconds();
    slice = event(rank, {far ? kDeviceTrack : kHostTrack, "wait: " + span.what, here(wait), here(waited)});
    list.push_back(slice);
  }
  for (int t = 0; t < tracks.count(); ++t)
    list.push_back(title(rank, kFirstCommTrack + t, "thread_name", fmt::format("communication {}", t + 1)));
  std::string text;
  for (const Json& one : list) text += (text.empty() ? "" : ",\n") + one.dump();
  return text;
}

void StepTrace::write() {
  if (written_) return;
  phase(end_, "");                    // the last one ends here
  context_.device().synchronize();    // and its end is passed
  const bool any = !phases_.empty();  // on every rank, or on none
  std::vector<std::string> parts;
  if (any) {
    measure_clock();  // now: clocks of hosts drift apart
    for (const double begin : gather_values(context_.host, phases_.front().host + to_rank0_))
      origin_ = std::min(origin_, begin);
    parts = gather_texts(context_.host, takes_part() ? events() : "");
  }
  written_ = true;
  phases_.clear();
  spans_.clear();
  if (context_.rank() != 0) return;
  if (!any) return context_.log.warn("no trace: the run ends before step {}, the first one that is traced", begin_ + 1);
  std::erase(parts, "");
  std::string text = "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n";
  for (size_t i = 0; i < parts.size(); ++i) text += (i > 0 ? ",\n" : "") + parts[i];
  try {
    write_text_atomically(path_, text + "\n]}\n");
    context_.log.info("trace      {}: open it in ui.perfetto.dev", path_);
  } catch (const std::exception& e) {
    context_.log.warn("no trace: {}", e.what());
  }
}

}  // namespace plsc
