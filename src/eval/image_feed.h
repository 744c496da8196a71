// Decodes a range of a source batch by batch, in order, on threads that run ahead of the consumer.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "config/config.h"
#include "data/source.h"
#include "tensor/tensor.h"

namespace plsc {

class ImageFeed {
 public:
  struct Range {
    int64_t begin = 0, end = 0;  // images of the source
    int64_t batch_size = 0;
  };
  /// `source` and `data` must outlive the feed.
  ImageFeed(const DataSource& source, const DataConfig& data, Range range, int workers);
  ~ImageFeed();
  ImageFeed(const ImageFeed&) = delete;
  ImageFeed& operator=(const ImageFeed&) = delete;

  /// The next batch, (b, H, W, C) u8 on the host, valid until the next call. Error names an image that cannot be read:
  /// the first one of the batch, whichever thread met it.
  Tensor next();

 private:
  static constexpr int64_t kSlots = 3;  // one with the consumer, two ahead
  struct Slot {
    Tensor bytes;
    int64_t missing = 0;  // images not decoded yet
    int64_t failed = -1;  // index of the first image that failed
    std::string error;
  };
  int64_t batch_of(int64_t image) const { return (image - range_.begin) / range_.batch_size; }
  int64_t size_of(int64_t batch) const;
  void open_slot(int64_t batch);
  void work();
  std::string decode(int64_t image, Slot& slot) const;

  const DataSource& source_;
  const DataConfig& data_;
  const Range range_;
  const int64_t image_bytes_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Slot> slots_;
  int64_t next_image_;  // to be claimed by a worker
  int64_t taken_ = 0;   // batches handed out
  bool stopped_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace plsc
