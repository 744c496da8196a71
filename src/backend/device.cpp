#include "backend/device.h"

#include "base/clock.h"

namespace plsc {
namespace {

class DoneRead final : public HostRead {
 public:
  explicit DoneRead(Tensor values) : values_(std::move(values)) {}
  const Tensor& get() override { return values_; }

 private:
  Tensor values_;
};

class HostMark final : public TimeMark {
 public:
  double seconds() const override { return seconds_; }

 private:
  double seconds_ = steady_seconds();
};

}  // namespace

std::shared_ptr<const TimeMark> Device::mark() { return std::make_shared<HostMark>(); }

std::unique_ptr<HostRead> Device::start_read(const Tensor& from) {
  Tensor host(host_allocator(), from.shape(), from.dtype());
  copy(from, host);
  return std::make_unique<DoneRead>(std::move(host));
}

}  // namespace plsc
