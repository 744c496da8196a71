// What the error of a full GPU says, and the key that its hint names.
#include "backend/memory_report.h"

#include "support/catch.h"
#include "support/error_text.h"

namespace plsc::test {
namespace {

constexpr size_t kGiB = size_t{1} << 30;

MemoryReport report_of(MemoryUse largest) {
  MemoryReport report;
  report.asked = kGiB / 2;
  report.use = MemoryUse::workspace;
  report.in_use.fill(kGiB);
  report.in_use[static_cast<size_t>(largest)] = 10 * kGiB;
  report.kept = 2 * kGiB;
  report.free = kGiB / 4;
  report.total = 24 * kGiB;
  return report;
}

}  // namespace

TEST_CASE("out of memory: bytes by use, what was asked, what was free") {
  MemoryReport report = report_of(MemoryUse::activations);
  report.in_use[static_cast<size_t>(MemoryUse::other)] = 0;
  CHECK(error_text([&] { fail_out_of_memory(report); }) ==
        "out of GPU memory: asked for 512.0 MiB for workspace\n"
        "  in use: 15.0 GiB: parameters 1.0 GiB, gradients and optimizer 1.0 GiB, class centres 1.0 GiB, "
        "activations 10.0 GiB, head 1.0 GiB, workspace 1.0 GiB\n"
        "  kept for reuse: 2.0 GiB; free on the device: 256.0 MiB of 24.0 GiB\n"
        "  hint: set model.recompute: all, which keeps less and computes the same; or raise train.accumulate, which "
        "computes the same batch in more passes, or lower train.batch_size");
}

TEST_CASE("out of memory: a limit and recorded steps are told where there are some") {
  MemoryReport report = report_of(MemoryUse::head);
  report.limit = 20 * kGiB;
  report.recorded = kGiB;
  CHECK(contains_all(error_text([&] { fail_out_of_memory(report); }),
                     {"held by recorded steps: 1.0 GiB", "limit: 20.0 GiB"}));
}

TEST_CASE("out of memory: the hint is for the largest use") {
  const auto hint = [](MemoryUse use) {
    const std::string text = error_text([&] { fail_out_of_memory(report_of(use)); });
    return text.substr(text.find("hint: "));
  };
  CHECK(contains(hint(MemoryUse::activations), "train.accumulate"));
  CHECK(contains(hint(MemoryUse::workspace), "train.accumulate"));
  CHECK(contains(hint(MemoryUse::head), "train.batch_size"));
  CHECK(contains(hint(MemoryUse::centers), "more ranks"));
  CHECK(contains(hint(MemoryUse::parameters), "model.backbone"));
  CHECK(contains(hint(MemoryUse::optimizer), "model.backbone"));
  CHECK(contains(hint(MemoryUse::other), "train.batch_size"));
}

TEST_CASE("out of memory: what was asked for counts as used") {
  MemoryReport report;
  report.asked = 30 * kGiB;
  report.use = MemoryUse::centers;
  report.in_use[static_cast<size_t>(MemoryUse::activations)] = 20 * kGiB;
  CHECK(contains(error_text([&] { fail_out_of_memory(report); }), "more ranks"));
}

}  // namespace plsc::test
