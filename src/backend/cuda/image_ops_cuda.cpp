#include "backend/cuda/image_ops_cuda.h"

#include <array>

#include "backend/cuda/check.h"
#include "kernels/cuda/image.h"

namespace plsc {
namespace {

/// Sends host bytes on the copy stream, so that a batch travels while the device still works on the one before. It goes
/// to one of two places in turn, whose last reader is two batches back.
class ImageUpload {
 public:
  explicit ImageUpload(CudaDevice& device) : device_(device) {}

  /// Device memory of at least `bytes` bytes, for `send`; what was begun before is the compute stream's to read.
  uint8_t* begin(int64_t bytes) {
    turn_ = (turn_ + 1) % places_.size();
    Place& place = places_[turn_];
    if (!place.memory.defined() || place.memory.elements() < bytes) {
      const MemoryScope scope(device_, MemoryUse::activations);
      place.memory = {};
      place.memory = device_.tensor({bytes}, Dtype::u8);
      place.read.record(device_.compute_stream());  // whoever had this memory before worked on it until here
    }
    place.read.order(device_.copy_stream());
    return place.memory.data<uint8_t>();
  }
  void send(const Tensor& host, void* to) { device_.upload(host.raw(), to, host.bytes(), device_.copy_stream()); }
  /// What the compute stream is given from now on finds what was sent.
  void end() {
    sent_.record(device_.copy_stream());
    sent_.order(device_.compute_stream());
  }
  /// The compute stream was given the last work that reads what was sent.
  void done() { places_[turn_].read.record(device_.compute_stream()); }

 private:
  struct Place {
    Tensor memory;
    Event read;
  };
  CudaDevice& device_;
  std::array<Place, 2> places_;
  size_t turn_ = 0;
  Event sent_;
};

class CudaImageOps final : public ImageOps {
 public:
  explicit CudaImageOps(CudaDevice& device) : device_(device), upload_(device) {}

  void normalize(const ImageNormalize& args) override {
    check_arguments(args);
    const bool far = !args.bytes.on_host() && (!args.flip.defined() || !args.flip.on_host());
    kernels::cuda::ImageBatch batch = shape_of(args);
    if (far) {
      batch.bytes = args.bytes.data<uint8_t>();
      if (args.flip.defined()) batch.flip = args.flip.data<uint8_t>();
    } else {
      send(args, batch);
    }
    start(batch, args.y);
    if (!far) upload_.done();
  }

 private:
  static void check_arguments(const ImageNormalize& args) {
    const Shape& shape = args.bytes.shape();
    PLSC_CHECK(shape.size() == 4 && args.bytes.dtype() == Dtype::u8, "images of {} {}", dtype_name(args.bytes.dtype()),
               shape.text());
    PLSC_CHECK(shape[3] >= 1 && shape[3] <= kernels::cuda::kMostChannels, "images of {} channels", shape[3]);
    PLSC_CHECK(shape[2] * shape[3] <= INT32_MAX, "rows of {} bytes", shape[2] * shape[3]);
    PLSC_CHECK(!args.flip.defined() || (args.flip.shape() == Shape{shape[0]} && args.flip.dtype() == Dtype::u8),
               "flips of {}", args.flip.shape().text());
    check_device_tensor("normalised images", args.y, shape, args.y.dtype());
  }

  static kernels::cuda::ImageBatch shape_of(const ImageNormalize& args) {
    kernels::cuda::ImageBatch batch;
    batch.images = args.bytes.dim(0);
    batch.height = args.bytes.dim(1);
    batch.width = args.bytes.dim(2);
    batch.channels = static_cast<int>(args.bytes.dim(3));
    for (size_t c = 0; c < args.mean.size(); ++c) {
      batch.mean[c] = args.mean[c];
      batch.std[c] = args.std[c];
    }
    return batch;
  }

  /// The flips behind the bytes.
  void send(const ImageNormalize& args, kernels::cuda::ImageBatch& batch) {
    const bool flips = args.flip.defined();
    PLSC_CHECK(args.bytes.on_host() && (!flips || args.flip.on_host()), "bytes and flips in different memories");
    const int64_t bytes = args.bytes.elements();
    uint8_t* memory = upload_.begin(bytes + (flips ? args.flip.elements() : 0));
    upload_.send(args.bytes, memory);
    batch.bytes = memory;
    if (flips) {
      upload_.send(args.flip, memory + bytes);
      batch.flip = memory + bytes;
    }
    upload_.end();
  }

  void start(const kernels::cuda::ImageBatch& batch, const Tensor& y) {
    const cudaStream_t stream = device_.compute_stream();
    switch (y.dtype()) {
      case Dtype::f32:
        return kernels::cuda::normalize_images(batch, y.data<float>(), stream);
      case Dtype::bf16:
        return kernels::cuda::normalize_images(batch, static_cast<__nv_bfloat16*>(y.raw()), stream);
      case Dtype::f16:
        return kernels::cuda::normalize_images(batch, static_cast<__half*>(y.raw()), stream);
      default:
        PLSC_CHECK(false, "images as {}", dtype_name(y.dtype()));
    }
  }

  CudaDevice& device_;
  ImageUpload upload_;
};

}  // namespace

std::unique_ptr<ImageOps> make_cuda_image_ops(CudaDevice& device) { return std::make_unique<CudaImageOps>(device); }

}  // namespace plsc
