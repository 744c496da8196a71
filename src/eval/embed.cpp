// Embeddings of ranges and of whole sources.
#include "eval/embed.h"

#include <algorithm>
#include <cstring>

#include "base/clock.h"
#include "base/error.h"
#include "base/threads.h"
#include "data/input.h"
#include "eval/image_feed.h"

namespace plsc {
namespace {

// Batches of a rank between two agreements that nobody failed. A rank that fails early does not wait much longer.
constexpr int64_t kBatchesPerRound = 16;
constexpr int kMaxFeedThreads = 8;

int feed_threads(const Context& context, const DataConfig& data) {
  if (data.workers > 0) return static_cast<int>(data.workers);
  const bool cpu = context.device().kind() == DeviceKind::cpu;
  return std::clamp(cpu ? context.device().threads() : available_cores(), 1, kMaxFeedThreads);
}

// (b, D) into rows of `to`: the embeddings, or added to what stands there.
void forward(Context& context, Backbone& backbone, const Tensor& input, Tensor& to, bool add) {
  const Tensor e = backbone.forward(context, input, Mode::eval, StepInfo{});
  PLSC_CHECK(e.shape() == to.shape() && e.dtype() == Dtype::f32, "embeddings {} {} for {}", dtype_name(e.dtype()),
             e.shape().text(), to.shape().text());
  if (!add) {
    context.device().copy(e, to);
    context.device().synchronize();
    return;
  }
  Tensor host(host_allocator(), to.shape(), Dtype::f32);
  context.device().copy(e, host);
  context.device().synchronize();
  for (int64_t i = 0; i < to.elements(); ++i) to.data<float>()[i] += host.data<float>()[i];
}

void embed_batch(Context& context, Backbone& backbone, const EmbedJob& job, const Tensor& bytes, Tensor& to) {
  forward(context, backbone, to_network_input(context, job.data, bytes, {}), to, false);
  if (!job.flip_sum) return;
  Tensor flip(host_allocator(), Shape{bytes.dim(0)}, Dtype::u8);
  std::memset(flip.raw(), 1, flip.bytes());
  forward(context, backbone, to_network_input(context, job.data, bytes, flip), to, true);
}

Tensor embed_share(Context& context, Backbone& backbone, const EmbedJob& job, int64_t begin, int64_t end) {
  Tensor all(host_allocator(), Shape{end - begin, backbone.embedding_size()}, Dtype::f32);
  const int64_t batches = (end - begin + job.batch_size - 1) / job.batch_size;
  int64_t most = 0;
  for (int64_t b : gather_values(context.host, batches)) most = std::max(most, b);
  std::unique_ptr<ImageFeed> feed;
  for (int64_t first = 0; first < most; first += kBatchesPerRound) {
    std::string error;
    try {
      if (feed == nullptr && batches > 0) {
        feed = std::make_unique<ImageFeed>(job.source, job.data, ImageFeed::Range{begin, end, job.batch_size},
                                           feed_threads(context, job.data));
      }
      for (int64_t b = first; b < std::min(batches, first + kBatchesPerRound); ++b) {
        const Tensor bytes = feed->next();
        Tensor rows = all.rows(b * job.batch_size, bytes.dim(0));
        embed_batch(context, backbone, job, bytes, rows);
      }
    } catch (const std::exception& e) {
      error = e.what();
    }
    agree_or_fail(context.host, error);
  }
  return all;
}

// Images before batch `batch`.
int64_t image_of(const EmbedJob& job, int64_t batch) { return std::min(job.source.size(), batch * job.batch_size); }

}  // namespace

Tensor embed_range(Context& context, Backbone& backbone, const DataSource& source, const DataConfig& data,
                   int64_t begin, int64_t end, int64_t batch_size, bool flip_sum) {
  PLSC_CHECK(begin >= 0 && begin <= end && end <= source.size(), "images [{}, {}) of {}", begin, end, source.size());
  return embed_share(context, backbone, {source, data, batch_size, flip_sum, ""}, begin, end);
}

void embed_in_rounds(Context& context, Backbone& backbone, const EmbedJob& job,
                     const std::function<void(const Tensor& mine, int64_t begin)>& use) {
  const Stopwatch watch;
  const int64_t size = job.source.size(), ranks = context.ranks();
  const int64_t batches = (size + job.batch_size - 1) / job.batch_size;
  for (int64_t first = 0; first < batches; first += kBatchesPerRound * ranks) {
    const int64_t count = std::min(batches - first, kBatchesPerRound * ranks);
    const int64_t begin = image_of(job, first + range_begin(count, ranks, context.rank()));
    const int64_t end = image_of(job, first + range_begin(count, ranks, context.rank() + 1));
    use(embed_share(context, backbone, job, begin, end), begin);
    const int64_t done = image_of(job, first + count);
    if (job.what.empty() || done == size) continue;  // whoever asked reports the end
    context.log.progress(fmt::format("{}: {}/{} images, {:.0f} images/s", job.what, done, size,
                                     static_cast<double>(done) / watch.seconds()));
  }
}

Tensor gather_rows(Context& context, const Tensor& mine) {
  const std::vector<int64_t> counts = gather_values(context.host, mine.dim(0));
  const int64_t most = *std::max_element(counts.begin(), counts.end()), columns = mine.dim(1);
  Tensor padded(host_allocator(), Shape{most, columns}, mine.dtype());
  std::memset(padded.raw(), 0, padded.bytes());
  if (mine.bytes() > 0) std::memcpy(padded.raw(), mine.raw(), mine.bytes());
  Tensor gathered(host_allocator(), Shape{most * context.ranks(), columns}, mine.dtype());
  context.host.all_gather(padded, gathered, "rows of all ranks");
  int64_t total = 0;
  for (const int64_t n : counts) total += n;
  Tensor all(host_allocator(), Shape{total, columns}, mine.dtype());
  int64_t done = 0;
  for (size_t r = 0; r < counts.size(); ++r) {
    const Tensor from = gathered.rows(static_cast<int64_t>(r) * most, counts[r]);
    if (from.bytes() > 0) std::memcpy(all.rows(done, counts[r]).raw(), from.raw(), from.bytes());
    done += counts[r];
  }
  return all;
}

Tensor embed_all(Context& context, Backbone& backbone, const EmbedJob& job) {
  Tensor all(host_allocator(), Shape{job.source.size(), backbone.embedding_size()}, Dtype::f32);
  int64_t done = 0;
  embed_in_rounds(context, backbone, job, [&](const Tensor& mine, int64_t) {
    const Tensor round = gather_rows(context, mine);
    if (round.bytes() > 0) std::memcpy(all.rows(done, round.dim(0)).raw(), round.raw(), round.bytes());
    done += round.dim(0);
  });
  return all;
}

}  // namespace plsc
