// What a plan says of the memory that a GPU's passes of the head move where their tiles are larger than its cache.
#include <algorithm>

#include "plan_setups.h"
#include "support/catch.h"

using namespace plsc;
using namespace plsc::plan;

namespace {

/// Bytes that the head moves in a step, with a second-level cache of so many.
double moved(Setup setup, int64_t cache) {
  setup.gpu.cache = cache;
  const Plan plan = make_plan(setup, {}, {});
  const auto head = std::ranges::find(plan.phases, "head", &PhasePlan::name);
  REQUIRE(head != plan.phases.end());
  return head->bytes;
}

constexpr int64_t kLarge = int64_t{1} << 34;
constexpr double kRows = 4 * 2048, kSamples = 8192, kColumns = 512, kTiles = 4;

/// Four tiles of the least rows, and a batch of 8192.
Setup four_tiles(const std::vector<std::string>& overrides = {}) {
  std::vector<std::string> all{"train.batch_per_rank=2048"};
  all.insert(all.end(), overrides.begin(), overrides.end());
  return on_gpus(head_of(4 * 4 * 2048, 4, all));
}

}  // namespace

TEST_CASE("plan: tiles that no cache holds are written and read in memory") {
  // bf16. Forward: dot products in fp32 are written and read once, rows as operands as well, and each tile reads the
  // embeddings. Backward: these again, the gradient of the logits written and read by two products, the operands read
  // once more, the rows' gradient in fp32 written and read, and the embeddings' read and written for each tile.
  const double logits = kRows * kSamples, rows = kRows * kColumns, embeddings = kTiles * kSamples * kColumns;
  const double forward = 8 * logits + 4 * rows + 2 * embeddings;
  // As the update comes last, the stored rows in fp32 are read once more.
  const double backward = forward + 6 * logits + 2 * rows + 8 * rows + 2 * embeddings + 8 * embeddings + 4 * rows;
  Setup setup = four_tiles();
  setup.arithmetic.activations = Dtype::bf16;
  CHECK(moved(setup, 1 << 20) - moved(setup, kLarge) == test::Approx(forward + backward));
  CHECK(forward + backward > 22 * logits);

  // fp32: rows that lie as products take them are no operands of their own but read once more, and the gradient takes
  // the place of the dot products.
  const double forward32 = 8 * logits + 4 * rows + 4 * embeddings;
  const double backward32 = forward32 + 12 * logits + 4 * rows + 8 * rows + 4 * embeddings + 8 * embeddings + 4 * rows;
  CHECK(moved(four_tiles(), 1 << 20) - moved(four_tiles(), kLarge) == test::Approx(forward32 + backward32));
  // Rows that lag are prepared apart, one write more in each pass, and are read with their momentum.
  const auto of_all = [&](const char* sampling, int64_t cache) {
    Setup sampled = four_tiles({std::string("head.sampling=") + sampling});
    return moved(sampled, cache);
  };
  const char* uniform = "{method: uniform, ratio: 1}";
  CHECK(of_all(uniform, 1 << 20) - of_all(uniform, kLarge) ==
        test::Approx(forward32 + backward32 + 8 * rows + 4 * rows));
}

TEST_CASE("plan: tiles that the cache holds move nothing") {
  Setup setup = four_tiles();
  setup.arithmetic.activations = Dtype::bf16;
  // A row's dot products and operand; half of the cache is for a tile.
  const int64_t least = 2 * 2048 * (8192 * 4 + 512 * 2);
  CHECK(moved(setup, least) == moved(setup, kLarge));
  CHECK(moved(setup, least - 1) > 10 * moved(setup, least));
  // A rank of few rows has a smaller tile.
  Setup few = setup;
  few.classes = 4 * 1024;
  CHECK(moved(few, least / 2) == moved(few, kLarge));
  CHECK(moved(few, least / 2 - 1) > moved(few, kLarge));
}

TEST_CASE("plan: a CPU's tiles are made for its cache") {
  Setup setup = head_of(4 * 4 * 2048, 4, {"train.batch_per_rank=2048"});
  CHECK(moved(setup, 1 << 20) == moved(setup, kLarge));
}
