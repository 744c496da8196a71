// Input images on the CPU: one thread takes whole images.
#include "backend/cpu/ops_cpu.h"
#include "backend/cpu/parts.h"
#include "kernels/cpu/image.h"

namespace plsc {
namespace {

class CpuImageOps final : public ImageOps {
 public:
  explicit CpuImageOps(Device& device) : threads_(device.threads()) {}

  void normalize(const ImageNormalize& args) override {
    PLSC_CHECK(args.bytes.shape().size() == 4, "images of {}", args.bytes.shape().text());
    const int64_t images = args.bytes.dim(0), channels = args.bytes.dim(3);
    check_tensor("images", args.bytes, args.bytes.shape(), Dtype::u8);
    check_tensor("normalised images", args.y, args.bytes.shape(), args.y.dtype());
    if (args.flip.defined()) check_tensor("flips", args.flip, {images}, Dtype::u8);
    PLSC_CHECK(channels >= 1 && channels <= 3, "images of {} channels", channels);
    PLSC_CHECK(args.y.dtype() == Dtype::f32 || args.y.dtype() == Dtype::bf16, "images as {}",
               dtype_name(args.y.dtype()));

    const int64_t length = args.bytes.dim(2) * channels;  // of a row
    std::vector<float> mean(static_cast<size_t>(length)), std(mean.size());
    for (size_t i = 0; i < mean.size(); ++i) {
      mean[i] = args.mean[i % static_cast<size_t>(channels)];
      std[i] = args.std[i % static_cast<size_t>(channels)];
    }
    const int64_t size = args.bytes.dim(1) * length;  // of an image
    const int64_t grain = std::max<int64_t>(kElementsPerPart / std::max<int64_t>(size, 1), 1);
    for_parts(images, grain, threads_, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        kernels::ImageRows rows{args.bytes.data<uint8_t>() + i * size,
                                args.bytes.dim(1),
                                args.bytes.dim(2),
                                channels,
                                args.flip.defined() && args.flip.data<uint8_t>()[i] != 0,
                                mean.data(),
                                std.data()};
        if (args.y.dtype() == Dtype::bf16) {
          kernels::normalize_rows(rows, reinterpret_cast<kernels::Bf16*>(args.y.data<bf16_t>()) + i * size);
        } else {
          kernels::normalize_rows(rows, args.y.data<float>() + i * size);
        }
      }
    });
  }

 private:
  int threads_;
};

}  // namespace

std::unique_ptr<ImageOps> make_cpu_image_ops(Device& device) { return std::make_unique<CpuImageOps>(device); }

}  // namespace plsc
