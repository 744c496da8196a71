// See neighbour_rounds.h. The rounds are text for every device; what a block costs is in the backend.
#include "head/neighbour_rounds.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/clock.h"

namespace plsc {
namespace {

constexpr int64_t kBlockBytes = 32 << 20;
// FLOP between questions whether to leave off, and between lines of progress: a second or so of a CPU, a tenth of one
// of a GPU.
constexpr double kCpuPiece = 2e11, kGpuPiece = 2e13;
// A search that is over so soon shows no progress.
constexpr double kQuietSeconds = 2;

/// The part of a round's keys that is behind, as a line for people.
class RoundsProgress {
 public:
  RoundsProgress(Log& log, std::string what, int64_t classes)
      : log_(log), what_(std::move(what)), classes_(static_cast<double>(classes)) {}
  void done(double keys) {
    const double part = keys / classes_;
    shown_ = shown_ || watch_.seconds() > kQuietSeconds;
    if (!shown_) return;
    log_.progress(
        fmt::format("{}  {:.0f} %  ETA {}", what_, 100 * part, human_duration(watch_.seconds() * (1 - part) / part)),
        part >= 1);
  }

 private:
  Log& log_;
  std::string what_;
  double classes_;
  Stopwatch watch_;
  bool shown_ = false;
};

class RoundsOfBlocks {
 public:
  RoundsOfBlocks(Context& context, const NeighbourRounds& rounds)
      : context_(context),
        rounds_(rounds),
        most_queries_(std::max<int64_t>(1, class_shard(rounds.shard.total, context.ranks(), 0).size())),
        block_(
            std::min(most_queries_, rounds.most_rows > 0 ? rounds.most_rows : NeighbourRounds::block_rows(columns()))),
        piece_(piece_rows()),
        blocks_(class_blocks(rounds.shard.total, context.ranks(), block_)),
        visiting_{make_block(), blocks_.size() > 1 ? make_block() : Tensor()},
        own_(make_block()),
        norms_(context.device().tensor({block_})) {}

  std::unique_ptr<NeighbourSearch> run() {
    NeighbourSearchSpec spec = rounds_.search;
    spec.queries = rounds_.queries.count();
    PLSC_CHECK(spec.queries <= most_queries_, "{} queries, at most {}", spec.queries, most_queries_);
    spec.columns = columns();
    auto search = context_.backend.neighbours->start(spec);
    const bool whole = each_block("candidates", [&](const NeighbourBlock& block) { search->score(block); }) &&
                       each_block("their cosines", [&](const NeighbourBlock& block) { search->measure(block); });
    if (!whole) return nullptr;
    search->sort();
    return search;
  }

 private:
  int64_t columns() const { return rounds_.keys.columns(); }
  /// Of the queries: the part of a block that meets a block of keys at a time.
  int64_t piece_rows() const {
    constexpr int64_t kWhole = NeighbourOps::kKeyRows;
    if (rounds_.piece_rows > 0) return std::min(rounds_.piece_rows, block_);
    const double flop = context_.device().is_host() ? kCpuPiece : kGpuPiece;
    const double rows = flop / (2.0 * static_cast<double>(block_) * static_cast<double>(columns()));
    return std::min(std::max<int64_t>(static_cast<int64_t>(rows) / kWhole, 1) * kWhole, block_);
  }
  Tensor make_block() { return context_.device().tensor({block_, columns()}); }

  /// Rows [begin, begin + count) of `from` as unit rows.
  Tensor unit_rows(RowSource& from, int64_t begin, int64_t count, const Tensor& memory) {
    Tensor rows = memory.rows(0, count), norms = norms_.rows(0, count);
    context_.backend.neighbours->read_rows(from, begin, rows);
    context_.backend.head->row_normalize(rows, rows, norms);
    return rows;
  }

  /// Queries [begin, end) of one block as unit rows. A block is read again where another was in between: where one
  /// holds them all, once.
  Tensor query_rows(int64_t begin, int64_t end) {
    const int64_t block = begin / block_ * block_;
    if (own_begin_ != block) unit_rows(rounds_.queries, block, std::min(block_, rounds_.queries.count() - block), own_);
    own_begin_ = block;
    return own_.rows(begin - block, end - begin);
  }

  /// False where the search is to be left off.
  bool goes_on() {
    context_.device().synchronize();  // or the progress would be that of giving work, and no interruption in time
    return !rounds_.interrupted || !rounds_.interrupted();
  }

  /// Starts to send block i to all ranks; null behind the last one.
  Pending send(size_t i) {
    if (i >= blocks_.size()) return nullptr;
    const ClassBlock& block = blocks_[i];
    Tensor rows = visiting_[i % 2].rows(0, block.count);
    if (block.owner == context_.rank()) {
      unit_rows(rounds_.keys, block.first_class - rounds_.shard.begin, block.count, rows);
    }
    return context_.comm.start_broadcast(rows, block.owner);
  }

  void wait(Pending pending, size_t i) {
    if (pending) context_.comm.wait(std::move(pending), fmt::format("class centres of rank {}", blocks_[i].owner));
  }

  /// use(block) for each block of keys against each piece of this rank's queries; false where interrupted. `round`:
  /// for people.
  bool each_block(const char* round, const std::function<void(const NeighbourBlock&)>& use) {
    RoundsProgress progress(context_.log, fmt::format("{}, {}", rounds_.what, round), rounds_.shard.total);
    Pending pending = send(0);
    int64_t keys = 0;
    const int64_t queries = rounds_.queries.count();
    for (size_t i = 0; i < blocks_.size(); ++i) {
      wait(std::move(pending), i);
      pending = send(i + 1);
      NeighbourBlock block;
      block.keys = visiting_[i % 2].rows(0, blocks_[i].count);
      block.first_key = blocks_[i].first_class;
      for (int64_t begin = 0, end = 0; begin < most_queries_; begin = end) {
        end = std::min({begin + piece_, (begin / block_ + 1) * block_, most_queries_});
        if (begin < queries) {
          block.first_query = begin;
          block.queries = query_rows(begin, std::min(end, queries));
          use(block);
        }
        if (!goes_on()) {
          wait(std::move(pending), i + 1);
          return false;
        }
        const double met = static_cast<double>(end) / static_cast<double>(most_queries_);
        progress.done(static_cast<double>(keys) + met * static_cast<double>(blocks_[i].count));
      }
      keys += blocks_[i].count;
    }
    return true;
  }

  Context& context_;
  const NeighbourRounds& rounds_;
  int64_t most_queries_;  // of any rank: all ask as often whether to leave off
  int64_t block_, piece_;
  std::vector<ClassBlock> blocks_;
  Tensor visiting_[2], own_, norms_;
  int64_t own_begin_ = -1;  // of the queries in own_
};

}  // namespace

std::vector<ClassBlock> class_blocks(int64_t classes, int ranks, int64_t rows) {
  std::vector<ClassBlock> blocks;
  for (int r = 0; r < ranks; ++r) {
    const ClassShard shard = class_shard(classes, ranks, r);
    for (int64_t begin = shard.begin; begin < shard.end; begin += rows) {
      blocks.push_back({r, begin, std::min(rows, shard.end - begin)});
    }
  }
  return blocks;
}

int64_t NeighbourRounds::block_rows(int64_t columns) {
  constexpr int64_t kRows = NeighbourOps::kKeyRows;
  return std::max<int64_t>(kBlockBytes / (columns * int64_t{sizeof(float)}) / kRows, 1) * kRows;
}

std::unique_ptr<NeighbourSearch> find_neighbours(Context& context, const NeighbourRounds& rounds) {
  const MemoryScope scope(context.device(), MemoryUse::head);
  return RoundsOfBlocks(context, rounds).run();
}

void read_lists(Context& context, const NeighbourSearch& search,
                const std::function<void(int64_t first, const Tensor& lists)>& use) {
  const Tensor& all = search.lists().rows;
  const int64_t queries = all.dim(0),
                piece = std::max<int64_t>(kListBytes / (all.dim(1) * int64_t{sizeof(int64_t)}), 1);
  for (int64_t begin = 0; begin < queries; begin += piece) {
    const Tensor lists = all.rows(begin, std::min(piece, queries - begin));
    Tensor host(host_allocator(), lists.shape(), Dtype::i64);
    context.device().copy(lists, host);
    use(begin, host);
  }
}

}  // namespace plsc
