// A ring of batches between decoding threads and one consumer.
#include "eval/image_feed.h"

#include <algorithm>

#include "base/error.h"
#include "data/loader.h"

namespace plsc {

ImageFeed::ImageFeed(const DataSource& source, const DataConfig& data, Range range, int workers)
    : source_(source),
      data_(data),
      range_(range),
      image_bytes_(data.image_size[0] * data.image_size[1] * data.channels),
      slots_(kSlots),
      next_image_(range.begin) {
  PLSC_CHECK(range.batch_size > 0 && range.begin >= 0 && range.begin <= range.end && range.end <= source.size(),
             "images [{}, {}) of {} in batches of {}", range.begin, range.end, source.size(), range.batch_size);
  for (int64_t batch = 0; batch < kSlots; ++batch) open_slot(batch);
  const auto threads = std::min<int64_t>(std::max(workers, 1), range.end - range.begin);
  for (int64_t i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
}

ImageFeed::~ImageFeed() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

int64_t ImageFeed::size_of(int64_t batch) const {
  const int64_t first = range_.begin + batch * range_.batch_size;
  return std::clamp<int64_t>(range_.end - first, 0, range_.batch_size);
}

void ImageFeed::open_slot(int64_t batch) {
  Slot& slot = slots_[static_cast<size_t>(batch % kSlots)];
  slot.missing = size_of(batch);
  if (slot.missing > 0 && !slot.bytes.defined()) {
    slot.bytes = Tensor(host_allocator(), Shape{slot.missing, data_.image_size[0], data_.image_size[1], data_.channels},
                        Dtype::u8);
  }
}

std::string ImageFeed::decode(int64_t image, Slot& slot) const {
  const int64_t within = (image - range_.begin) % range_.batch_size;
  try {
    const RawSample sample = source_.read(image);
    decode_image(sample, data_,
                 {slot.bytes.data<uint8_t>() + within * image_bytes_, static_cast<size_t>(image_bytes_)});
    return {};
  } catch (const std::exception& e) {
    return e.what();
  }
}

void ImageFeed::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] {
      const int64_t oldest = std::max<int64_t>(taken_ - 1, 0);  // the one that the consumer has, or will have first
      return stopped_ || next_image_ >= range_.end || batch_of(next_image_) < oldest + kSlots;
    });
    if (stopped_ || next_image_ >= range_.end) return;
    const int64_t image = next_image_++;
    Slot& slot = slots_[static_cast<size_t>(batch_of(image) % kSlots)];
    lock.unlock();
    std::string error = decode(image, slot);
    lock.lock();
    if (!error.empty() && (slot.failed < 0 || image < slot.failed)) {
      slot.failed = image;
      slot.error = std::move(error);
    }
    if (--slot.missing == 0) changed_.notify_all();
  }
}

Tensor ImageFeed::next() {
  std::unique_lock lock(mutex_);
  if (taken_ > 0) open_slot(taken_ - 1 + kSlots);  // the consumer is done with the batch that it had
  const int64_t batch = taken_++;
  PLSC_CHECK(size_of(batch) > 0, "batch {} of images [{}, {})", batch, range_.begin, range_.end);
  changed_.notify_all();
  Slot& slot = slots_[static_cast<size_t>(batch % kSlots)];
  changed_.wait(lock, [&] { return slot.missing == 0; });
  if (slot.failed >= 0) throw Error(slot.error);
  return slot.bytes.rows(0, size_of(batch));
}

}  // namespace plsc
