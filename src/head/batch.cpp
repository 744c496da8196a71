// Padding to equal parts, so that plain all-gather and reduce-scatter serve.
#include "head/batch.h"

#include <algorithm>
#include <utility>

#include "comm/errors.h"

namespace plsc {
namespace {

/// All ranks hold all labels, so that all of them stop here together.
void check_labels(const GlobalLabels& batch, const std::vector<int64_t>& counts, int64_t classes, int rank) {
  for (size_t r = 0; r < counts.size(); ++r) {
    for (int64_t i = 0; i < counts[r]; ++i) {
      const int64_t label = batch.labels[r * static_cast<size_t>(batch.part) + static_cast<size_t>(i)];
      if (label >= 0 && label < classes) continue;
      throw AgreedError(fmt::format("rank {}: sample {} of this rank's batch has label {}, but labels must be in "
                                    "[0, {}): classes = {}",
                                    r, i, label, classes, classes),
                        rank == 0 ? Voice::speak : Voice::wait,
                        "set head.classes to at least the largest label + 1, or correct the data");
    }
  }
}

}  // namespace

GlobalLabels gather_labels(Collective& host, std::span<const int64_t> labels, int64_t classes) {
  GlobalLabels out;
  const std::vector<int64_t> counts = gather_values(host, static_cast<int64_t>(labels.size()));
  out.part = *std::ranges::max_element(counts);
  for (int64_t n : counts) out.samples += n;
  std::vector<int64_t> mine(labels.begin(), labels.end());
  mine.resize(static_cast<size_t>(out.part), -1);
  Tensor all(host_allocator(), {host.size() * out.part}, Dtype::i64);
  host.all_gather(Tensor::from(mine, {out.part}), all, "labels");
  out.labels = all.values<int64_t>();
  check_labels(out, counts, classes, host.rank());
  return out;
}

RowsUnderWay start_gather_rows(Context& context, const Tensor& x, int64_t part) {
  const int64_t rows = x.dim(0), columns = x.dim(1);
  RowsUnderWay way;
  way.sent = context.device().zeros({part, columns});
  Tensor used = way.sent.rows(0, rows);
  context.device().copy(x, used);
  way.received = context.device().tensor({context.ranks() * part, columns});
  way.pending = context.comm.start_all_gather(way.sent, way.received);
  return way;
}

RowsUnderWay start_scatter_rows(Context& context, const Tensor& all) {
  RowsUnderWay way;
  way.sent = all;
  way.received = context.device().tensor({all.dim(0) / context.ranks(), all.dim(1)}, all.dtype());
  way.pending = context.comm.start_reduce_scatter(way.sent, way.received);
  return way;
}

Tensor finish_rows(Context& context, RowsUnderWay&& rows, const std::string& what) {
  context.comm.wait(std::move(rows.pending), what);
  rows.sent = {};
  return std::exchange(rows.received, {});
}

}  // namespace plsc
