// The progress line: see progress.h.
#include "data/progress.h"

#include <algorithm>

namespace plsc {

Progress::Progress(Log* log, std::string what, int64_t total, Unit unit, double quiet_seconds)
    : log_(log), what_(std::move(what)), total_(total), unit_(unit), next_(quiet_seconds) {}

Progress::~Progress() {
  if (shown_) show(true);
}

void Progress::add(int64_t n) {
  done_ += n;
  if (log_ != nullptr && clock_.seconds() >= next_) show(false);
}

void Progress::set(int64_t done) {
  done_ = done;
  add(0);
}

void Progress::show(bool last) {
  const std::unique_lock lock(mutex_, std::try_to_lock);  // whoever finds it taken need not show the same again
  if (!lock.owns_lock()) return;
  const double now = clock_.seconds();
  if (!last && now < next_) return;
  next_ = now + 0.25;
  shown_ = true;
  log_->progress(text(done_, now), last);
}

std::string Progress::text(int64_t done, double seconds) const {
  const double rate = static_cast<double>(done) / std::max(seconds, 1e-9);
  const double share = total_ > 0 ? 100.0 * static_cast<double>(done) / static_cast<double>(total_) : 100.0;
  const bool bytes = unit_ == Unit::bytes;
  const auto amount = [&](double n) { return bytes ? human_bytes(n) : fmt::format("{:.0f}", n); };
  std::string line = fmt::format("{}: {} of {} ({:.0f} %), {}/s", what_, amount(static_cast<double>(done)),
                                 amount(static_cast<double>(total_)), share, amount(rate));
  if (done < total_ && rate > 0) {
    line += fmt::format(", {} left", human_duration(static_cast<double>(total_ - done) / rate));
  } else {
    line += fmt::format(", {}", human_duration(seconds));
  }
  return line;
}

}  // namespace plsc
