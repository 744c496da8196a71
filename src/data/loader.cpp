// The loader: threads that decode ahead of the consumer, slot by slot, into the batches of the coming steps.
#include "data/loader.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/threads.h"
#include "data/batch_plan.h"
#include "data/permutation.h"
#include "data/pixel_cache.h"
#include "kernels/math/rng.h"

namespace plsc {
namespace {

constexpr int64_t kMaxAttempts = 16;  // replacements of one slot before the data counts as unreadable
constexpr int64_t kMaxWarnings = 20;  // afterwards a damaged sample is told of when their number has doubled
constexpr int64_t kStepsAhead = 3;

/// What a step is while it is being filled. Slots are the rank's samples, its micro-batches end to end.
struct StepWork {
  StepWork(int64_t step_number, const StepImages& of_step, const DataSource& source, uint64_t seed)
      : step(step_number),
        epoch(of_step.epoch),
        first_position(of_step.first),
        order(source.size(), seed, of_step.epoch) {}

  struct Damage {
    int64_t slot = 0;
    std::string message;
    bool operator<(const Damage& o) const { return slot < o.slot; }
  };

  const int64_t step, epoch, first_position;  // position in the epoch of the global batch's first sample
  const Permutation order;
  std::vector<Batch> batches;
  int64_t slots = 0;
  // Guarded by the loader's mutex:
  int64_t next_slot = 0, unfinished = 0;
  std::vector<Damage> replaced;
  std::exception_ptr error;  // of the lowest slot that has one, so that the message does not depend on threads
  int64_t error_slot = 0;
};

class DecodingLoader final : public Loader {
 public:
  DecodingLoader(const DataSource& source, const LoaderOptions& options, Log& log)
      : source_(source),
        options_(options),
        log_(log),
        map_({source.size(), options.global_batch, options.micro_batches, options.grow}),
        next_to_open_(options.first_step),
        next_to_give_(options.first_step) {
    for (const AugmentConfig& augment : options_.data.augment) {
      if (augment.kind != "flip") fail("data.augment: found '{}', expected flip", augment.kind);
      // Two flips in a row: either one alone mirrors.
      const double p = augment.probability;
      flip_ = flip_ * (1 - p) + p * (1 - flip_);
    }
    if (options_.data.cache == "decoded") open_cache();
    const int64_t threads = worker_count();
    slots_ahead_ = 2 * threads;
    for (int64_t i = 0; i < threads; ++i) workers_.emplace_back([this] { work(); });
  }

  ~DecodingLoader() override {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    work_ready_.notify_all();
    for (std::thread& t : workers_) t.join();
  }

  std::vector<Batch> next() override {
    PLSC_CHECK(next_to_give_ < options_.last_step, "step {} of {}", next_to_give_, options_.last_step);
    if (failed_) std::rethrow_exception(failed_);
    const Stopwatch clock;
    std::unique_ptr<StepWork> step;
    {
      std::unique_lock lock(mutex_);
      step_done_.wait(lock, [this] { return no_step_ || (!steps_.empty() && steps_.front()->unfinished == 0); });
      if (no_step_) std::rethrow_exception(no_step_);
      step = std::move(steps_.front());
      steps_.pop_front();
    }
    work_ready_.notify_all();
    waited_ += clock.seconds();
    ++next_to_give_;
    report(*step);
    if (step->error) {
      failed_ = step->error;
      std::rethrow_exception(failed_);
    }
    return std::move(step->batches);
  }

  const StepMap& steps() const override { return map_; }
  int64_t skipped() const override { return skipped_; }
  double take_wait_seconds() override { return std::exchange(waited_, 0.0); }

 private:
  /// This rank's part of each micro-batch.
  std::vector<BatchSlice> slices_of(const StepImages& images) const {
    return plan_slices(images.batch, images.passes * options_.pipeline, options_.rank, options_.ranks);
  }

  int64_t worker_count() const {
    if (options_.data.workers > 0) return options_.data.workers;
    return std::clamp(available_cores() / std::max(options_.local_ranks, 1), 1, 16);
  }

  int64_t pixel_bytes() const {
    return options_.data.image_size[0] * options_.data.image_size[1] * options_.data.channels;
  }

  void open_cache() {
    PixelCacheOptions cache;
    // What else decides the pixels goes into the key, so that ranks that disagree do not mix.
    if (!options_.cache_key.empty()) {
      cache.key = fmt::format("{}|{}|{}|{}x{}x{}", options_.cache_key, source_.description(), options_.data.resize,
                              options_.data.image_size[0], options_.data.image_size[1], options_.data.channels);
    }
    cache.local_ranks = options_.local_ranks;
    cache.limit = options_.data.cache_limit;
    cache.samples = source_.size();
    cache.sample_bytes = pixel_bytes();
    cache_ = PixelCache::open(cache);
    if (cache_->capacity() < cache.samples) {
      log_.warn("{}", cache_->description());
    } else {
      log_.info("{}", cache_->description());
    }
  }

  /// A step with its batches laid out, nothing in them yet.
  std::unique_ptr<StepWork> open_step(int64_t step) const {
    const StepImages images = map_.at(step);
    auto work = std::make_unique<StepWork>(step, images, source_, options_.seed);
    const auto& size = options_.data.image_size;
    for (const BatchSlice& slice : slices_of(images)) {
      Batch batch;
      batch.bytes = Tensor(host_allocator(), {slice.count, size[0], size[1], options_.data.channels}, Dtype::u8);
      batch.flip = Tensor(host_allocator(), {slice.count}, Dtype::u8);
      batch.labels.resize(static_cast<size_t>(slice.count));
      batch.samples.resize(static_cast<size_t>(slice.count));
      batch.first_sample = slice.first;
      work->batches.push_back(std::move(batch));
      work->slots += slice.count;
    }
    work->unfinished = work->slots;
    return work;
  }

  /// Whether another step may be opened: a few, and more of them where they are so small that threads would wait.
  bool room_for_step() const {
    if (static_cast<int64_t>(steps_.size()) < kStepsAhead) return true;
    int64_t behind = 0;  // slots behind the step that is to be given first
    for (size_t i = 1; i < steps_.size(); ++i) behind += steps_[i]->slots;
    return behind < slots_ahead_;
  }

  /// The next slot that nobody has taken, opening the next step where there is room; null: nothing to do now.
  StepWork* take(int64_t& slot) {
    for (const auto& step : steps_) {
      if (step->next_slot < step->slots) {
        slot = step->next_slot++;
        return step.get();
      }
    }
    if (!room_for_step() || next_to_open_ >= options_.last_step) return nullptr;
    steps_.push_back(open_step(next_to_open_++));
    slot = steps_.back()->next_slot++;
    return steps_.back().get();
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      int64_t slot = 0;
      StepWork* step = nullptr;
      try {
        work_ready_.wait(lock, [&] { return stop_ || (step = take(slot)) != nullptr; });
      } catch (...) {  // no memory for the step's batches
        no_step_ = std::current_exception();
        step_done_.notify_all();
        return;
      }
      if (stop_) return;
      lock.unlock();
      std::vector<StepWork::Damage> damage;
      std::exception_ptr error;
      try {
        fill(*step, slot, damage);
      } catch (...) {
        error = std::current_exception();
      }
      lock.lock();
      step->replaced.insert(step->replaced.end(), damage.begin(), damage.end());
      if (error && (!step->error || slot < step->error_slot)) {
        step->error = error;
        step->error_slot = slot;
      }
      if (--step->unfinished == 0) step_done_.notify_all();
    }
  }

  /// An error that has no hint of its own is about one damaged sample: what it says, and that there is a way around.
  [[noreturn]] static void fail_with_way_out(const Error& error) {
    const std::string text = error.what();
    if (text.find("\n  hint: ") != std::string::npos) throw;
    throw Error(text, "data.on_error: skip takes another sample in its place and counts it");
  }

  /// Decodes one slot; a sample that cannot be read is replaced where data.on_error says skip.
  void fill(StepWork& step, int64_t slot, std::vector<StepWork::Damage>& damage) const {
    size_t micro = 0;
    int64_t row = slot;
    while (row >= step.batches[micro].bytes.dim(0)) row -= step.batches[micro++].bytes.dim(0);
    Batch& batch = step.batches[micro];
    const auto k = static_cast<size_t>(row);
    const int64_t position = step.first_position + batch.first_sample + row;
    const auto epoch = static_cast<uint64_t>(step.epoch), at = static_cast<uint64_t>(position);
    const auto pixels =
        batch.bytes.span<uint8_t>().subspan(k * static_cast<size_t>(pixel_bytes()), static_cast<size_t>(pixel_bytes()));
    batch.flip.data<uint8_t>()[k] =
        math::to_unit_double(math::random64(options_.seed, math::Draw::flip, epoch, at)) < flip_ ? 1 : 0;
    int64_t index = step.order(position);
    for (uint64_t attempt = 0;; ++attempt) {
      try {
        batch.labels[k] = load(index, pixels);
        batch.samples[k] = index;
        return;
      } catch (const Error& error) {
        if (options_.data.on_error != "skip") fail_with_way_out(error);
        damage.push_back({slot, error.what()});
        if (damage.size() >= kMaxAttempts) {
          fail("{}\n  and so are {} samples drawn in its place: the data cannot be read", error.what(),
               kMaxAttempts - 1);
        }
      }
      const uint64_t draw = math::random64(options_.seed, math::Draw::replacement, epoch * kMaxAttempts + attempt, at);
      index = static_cast<int64_t>(draw % static_cast<uint64_t>(source_.size()));
    }
  }

  /// Fills the pixels of one sample; returns its label.
  int64_t load(int64_t index, std::span<uint8_t> pixels) const {
    int64_t label = 0;
    if (cache_ && cache_->get(index, pixels, label)) return label;
    const RawSample sample = source_.read(index);
    if (sample.label < 0) fail("{}: the sample has no label", sample.where);
    decode_image(sample, options_.data, pixels);
    if (cache_) cache_->put(index, pixels, sample.label);
    return sample.label;
  }

  /// Counts and tells, in the order of the slots, what was replaced in a step.
  void report(StepWork& step) {
    std::sort(step.replaced.begin(), step.replaced.end());
    for (const StepWork::Damage& d : step.replaced) {
      if (++skipped_ < next_warning_) continue;
      log_.warn("skipped a sample (step {}, number {} of this rank): {}", step.step, skipped_, d.message);
      next_warning_ = skipped_ < kMaxWarnings ? skipped_ + 1 : 2 * skipped_;
      if (skipped_ == kMaxWarnings) log_.warn("further ones are told of at {}, {}, ...", 2 * skipped_, 4 * skipped_);
    }
  }

  const DataSource& source_;
  const LoaderOptions options_;
  Log& log_;
  const StepMap map_;
  int64_t slots_ahead_ = 0;  // that threads may work on behind the step that is to be given first
  double flip_ = 0;
  std::unique_ptr<PixelCache> cache_;

  std::mutex mutex_;
  std::condition_variable work_ready_, step_done_;
  std::deque<std::unique_ptr<StepWork>> steps_;  // being filled, oldest first
  int64_t next_to_open_;
  std::exception_ptr no_step_;
  bool stop_ = false;

  // The consumer's own:
  int64_t next_to_give_;
  int64_t skipped_ = 0, next_warning_ = 1;
  double waited_ = 0;
  std::exception_ptr failed_;
  std::vector<std::thread> workers_;
};

void check_options(const DataSource& source, const LoaderOptions& o) {
  PLSC_CHECK(o.rank >= 0 && o.rank < o.ranks && o.micro_batches >= 1 && o.pipeline >= 1 && o.first_step >= 0);
  if (source.classes() < 1) {
    fail_hint("a folder of class folders, a list of `path label` lines or a .rec file has labels",
              "{}: the images have no labels, and training needs them", source.description());
  }
  if (const int64_t parts = o.micro_batches * o.pipeline; o.global_batch / parts < o.ranks) {
    fail_hint("raise train.batch_size, or use fewer ranks",
              "a global batch of {} in {} micro-batches is too small for {} ranks: each needs a sample of every one",
              o.global_batch, parts, o.ranks);
  }
  const bool grows = o.grow.factor > 0;
  if (const int64_t largest = o.global_batch * (grows ? o.grow.factor : 1); source.size() < largest) {
    fail_hint(grows ? "lower train.grow.factor or train.batch_size" : "lower train.batch_size",
              "{}: {} samples, fewer than one global batch of {}", source.description(), source.size(), largest);
  }
}

}  // namespace

std::unique_ptr<Loader> make_loader(const DataSource& source, const LoaderOptions& options, Log& log) {
  check_options(source, options);
  return std::make_unique<DecodingLoader>(source, options, log);
}

}  // namespace plsc
