#include "backend/memory_report.h"

#include <algorithm>
#include <string>

#include "base/clock.h"
#include "base/error.h"

namespace plsc {
namespace {

std::string text_of(size_t bytes) { return human_bytes(static_cast<double>(bytes)); }

MemoryUse largest_use(const MemoryReport& report) {
  BytesByUse bytes = report.in_use;
  bytes[static_cast<size_t>(report.use)] += report.asked;
  return static_cast<MemoryUse>(std::max_element(bytes.begin(), bytes.end()) - bytes.begin());
}

std::string hint_for(MemoryUse use) {
  switch (use) {
    case MemoryUse::activations:
      return "set model.recompute: all, which keeps less and computes the same; or raise train.accumulate, which "
             "computes the same batch in more passes, or lower train.batch_size";
    case MemoryUse::workspace:
      return "lower train.batch_size or raise train.accumulate; workspaces themselves are of a fixed size, or grow "
             "with the "
             "images of a pass";
    case MemoryUse::head:
      return "lower train.batch_size: the head works on the samples of all ranks at once";
    case MemoryUse::centers:
      return "use more ranks: each holds its share of the classes. Or lower model.embedding_size";
    case MemoryUse::parameters:
    case MemoryUse::optimizer:
      return "use a smaller model.backbone: its weights, gradients and momentum are on every rank";
    case MemoryUse::other:
      break;
  }
  return "lower train.batch_size, or use more ranks";
}

}  // namespace

std::string_view memory_use_name(MemoryUse use) {
  switch (use) {
    case MemoryUse::other:
      return "other";
    case MemoryUse::parameters:
      return "parameters";
    case MemoryUse::optimizer:
      return "gradients and optimizer";
    case MemoryUse::centers:
      return "class centres";
    case MemoryUse::activations:
      return "activations";
    case MemoryUse::head:
      return "head";
    case MemoryUse::workspace:
      return "workspace";
  }
  return "?";
}

void fail_out_of_memory(const MemoryReport& r) {
  size_t total = 0;
  std::string uses;
  for (size_t use = 0; use < kMemoryUses; ++use) {
    if (r.in_use[use] == 0) continue;
    total += r.in_use[use];
    uses += fmt::format("{}{} {}", uses.empty() ? ": " : ", ", memory_use_name(static_cast<MemoryUse>(use)),
                        text_of(r.in_use[use]));
  }
  std::string text = fmt::format("out of GPU memory: asked for {} for {}\n  in use: {}{}\n  kept for reuse: {}",
                                 text_of(r.asked), memory_use_name(r.use), text_of(total), uses, text_of(r.kept));
  if (r.recorded > 0) text += fmt::format("; held by recorded steps: {}", text_of(r.recorded));
  text += fmt::format("; free on the device: {} of {}", text_of(r.free), text_of(r.total));
  if (r.limit > 0) text += fmt::format("; limit: {}", text_of(r.limit));
  std::string hint = hint_for(largest_use(r));
  if (r.recorded > 0) hint += "; train.graphs: false also saves the memory that recorded steps keep";
  throw Error(text, hint);
}

}  // namespace plsc
