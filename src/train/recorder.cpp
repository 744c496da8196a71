#include "train/recorder.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <sstream>
#include <string_view>

#include "base/error.h"
#include "base/files.h"

namespace plsc {
namespace {

using Json = nlohmann::ordered_json;

/// Keeps the lines of steps up to `step`. A last line that a crash cut off does not parse and goes too.
void cut_back(const std::string& path, int64_t step) {
  if (!std::filesystem::exists(path)) return;
  std::istringstream lines(read_text(path));
  std::string kept, line;
  while (std::getline(lines, line)) {
    const Json value = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (value.is_discarded() || !value.is_object() || value.value("step", int64_t{0}) > step) continue;
    kept += line + "\n";
  }
  write_text_atomically(path, kept);
}

}  // namespace

Recorder::Recorder(const Options& options, Log& log) : options_(options), log_(log) {
  if (!options_.writes) return;
  const std::string path = options_.output + "/metrics.jsonl";
  cut_back(path, options_.first_step);
  file_ = File::append(path);
}

Recorder::~Recorder() {
  if (waiting_.empty()) return;
  try {
    if (const auto why = write_waiting()) give_up(*why);
  } catch (const std::exception& e) {
    log_.error("{}: its last lines may be missing: {}", file_->path(), e.what());
  }
}

void Recorder::note(const StepRecord& record) {
  ++steps_;
  samples_ += record.samples;
  images_done_ += record.samples;
  skipped_ += record.skipped ? 1 : 0;
  if (!record.skipped) {  // the loss of a step that overflowed may be no number
    judged_ += record.samples;
    correct_ += record.correct;
    loss_ += record.loss;
    intra_loss_ += record.intra_loss.value_or(0);
  }
  wait_ += record.data_wait;
  if (record.comm) {
    exposed_ += record.comm->exposed;
    sent_ += record.comm->sent;
  }
  const bool due = record.step % options_.every_steps == 0 || record.step == options_.total_steps;
  if (due) write_line(record);
  show(record);
  if (due) start_window();
}

void Recorder::flush(const StepRecord& last) {
  if (steps_ == 0) return;
  write_line(last);
  start_window();
}

void Recorder::start_window() {
  total_idle_ += idle_;
  idle_ = loss_ = intra_loss_ = wait_ = exposed_ = 0;
  sent_ = 0;
  steps_ = skipped_ = samples_ = judged_ = correct_ = 0;
  window_.restart();
}

void Recorder::write_line(const StepRecord& last) {
  const double seconds = window_.seconds() - idle_;
  images_per_second_ = seconds > 0 ? static_cast<double>(samples_) / seconds : 0;
  const auto n = static_cast<double>(steps_);
  Json line;
  line["kind"] = "train";
  line["step"] = last.step;
  line["epoch"] = last.epoch;
  line["batch"] = last.samples;
  const bool judged = steps_ > skipped_;
  line["loss"] = judged ? Json(mean(loss_)) : Json();
  if (last.intra_loss) {
    line["loss_intra"] = judged ? Json(mean(intra_loss_)) : Json();
    line["loss_inter"] = judged ? Json(mean(loss_ - intra_loss_)) : Json();
  }
  line["top1"] = judged ? Json(top1()) : Json();
  line["lr"] = last.lr;
  line["grad_norm"] = last.grad_norm;
  line["images_per_s"] = images_per_second_;
  line["data_wait"] = wait_ / n;
  if (last.comm) {
    line["comm_exposed"] = seconds > 0 ? exposed_ / seconds : 0;
    line["comm_bytes"] = sent_ / steps_;
  }
  if (last.loss_scale) {
    line["loss_scale"] = last.loss_scale->scale;
    line["skipped"] = skipped_;
  }
  if (last.graph_age) line["graph_age"] = *last.graph_age;
  append(last.step, line.dump());
}

double Recorder::mean(double sum) const {
  const int64_t n = steps_ - skipped_;
  return n > 0 ? sum / static_cast<double>(n) : 0;
}

double Recorder::top1() const { return judged_ > 0 ? static_cast<double>(correct_) / static_cast<double>(judged_) : 0; }

void Recorder::show(const StepRecord& record) {
  if (!options_.writes) return;
  const double window = window_.seconds() - idle_;
  // Until the first line has a rate, that of the steps so far.
  const double rate = images_per_second_ > 0 ? images_per_second_
                      : window > 0           ? static_cast<double>(samples_) / window
                                             : 0;
  const auto left = static_cast<double>(options_.images - images_done_);
  const double eta = (run_.seconds() - total_idle_ - idle_) / static_cast<double>(images_done_) * left;
  const std::string parts = record.intra_loss ? fmt::format(" (intra {:.4f})", mean(intra_loss_)) : "";
  const std::string loss = steps_ > skipped_
                               ? fmt::format("loss {:.4f}{}  top-1 {:.1f} %", mean(loss_), parts, 100.0 * top1())
                               : fmt::format("left out: fp16 overflowed, loss scale {} now", record.loss_scale->scale);
  const std::string batch = options_.batch_grows ? fmt::format("batch {}  ", record.samples) : "";
  log_.progress(fmt::format("step {}/{}  epoch {:.2f}  {}{}  lr {:.4g}  {:.0f} images/s  ETA {}", record.step,
                            options_.total_steps, record.epoch, batch, loss, record.lr, rate, human_duration(eta)),
                record.step == options_.total_steps);
}

std::string summary(const EvalResult& result) {
  const std::string tail = fmt::format("({} images, {})", result.images, human_duration(result.seconds));
  const std::string set = result.set + (result.averaged ? " (averaged weights)" : "");
  if (result.kind == "classification") {
    return fmt::format("{}: top-1 {:.2f} %, top-5 {:.2f} % {}", set, 100 * result.top1, 100 * result.top5, tail);
  }
  std::string tar;
  for (const auto& [far, value] : result.tar_at_far) tar += fmt::format(", TAR {:.2f} % at FAR {}", 100 * value, far);
  return fmt::format("{}: accuracy {:.2f} +- {:.2f} %, AUC {:.4f}{} {}", set, 100 * result.accuracy,
                     100 * result.accuracy_std, result.auc, tar, tail);
}

void Recorder::note(const EvalResult& result, int64_t step) {
  Json line;
  line["kind"] = "eval";
  line["step"] = step;
  line["set"] = result.set;
  line["weights"] = result.averaged ? "ema" : "raw";
  if (result.kind == "classification") {
    line["top1"] = result.top1;
    line["top5"] = result.top5;
  } else {
    line["accuracy"] = result.accuracy;
    line["accuracy_std"] = result.accuracy_std;
    line["threshold"] = result.threshold;
    line["auc"] = result.auc;
    line["tar_at_far"] = result.tar_at_far;
  }
  line["seconds"] = result.seconds;
  append(step, line.dump());
  log_.info("{}", summary(result));
}

std::string summary(const GraphRecord& record) {
  const std::string seconds = human_duration(record.seconds);
  const bool probed = std::string_view(record.event) == "probed";
  if (!record.recall) return fmt::format("class graph built in {}", seconds);
  const double percent = 100 * *record.recall;
  const int64_t age = record.age.value_or(0);
  if (probed) {
    return fmt::format("class graph, {} steps old, has {:.1f} % of a probe's nearest classes ({})", age, percent,
                       seconds);
  }
  return fmt::format("class graph built in {}; the one before, {} steps old, had {:.1f} % of it", seconds, age,
                     percent);
}

void Recorder::note(const GraphRecord& record, int64_t step) {
  Json line;
  line["kind"] = "graph";
  line["step"] = step;
  line["event"] = record.event;
  line["seconds"] = record.seconds;
  line["recall"] = record.recall ? Json(*record.recall) : Json();
  line["age"] = record.age ? Json(*record.age) : Json();
  append(step, line.dump());
  log_.info("{}", summary(record));
}

void Recorder::append(int64_t step, const std::string& line) {
  if (!file_) return;
  const bool waited = !waiting_.empty();
  waiting_.push_back({step, line + "\n"});
  // A full disk is no reason to lose the training: it may have room again before the run ends.
  if (const auto why = write_waiting(); why && !waited)
    log_.error("cannot write {}: {}; its lines wait", file_->path(), *why);
}

std::optional<std::string> Recorder::write_waiting() {
  while (!waiting_.empty()) {
    const std::string& text = waiting_.front().text;
    begun_ += file_->write_some(std::as_bytes(std::span(text).subspan(begun_)));
    if (begun_ < text.size()) return std::strerror(errno);
    waiting_.pop_front();
    begun_ = 0;
  }
  return std::nullopt;
}

void Recorder::give_up(const std::string& why) {
  const std::string& path = file_->path();
  const int64_t first = waiting_.front().step, last = waiting_.back().step;
  log_.error("cannot write {}: {}; never written: {} line(s), {}", path, why, waiting_.size(),
             first == last ? fmt::format("of step {}", first) : fmt::format("of steps {} to {}", first, last));
  if (begun_ > 0) std::filesystem::resize_file(path, std::filesystem::file_size(path) - begun_);
}

}  // namespace plsc
