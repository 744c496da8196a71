// What a plan says of a step that goes through parts of the network twice, or through the head several times.
#include <algorithm>

#include "app/plan/print.h"
#include "plan_setups.h"
#include "support/catch.h"
#include "support/error_text.h"

using namespace plsc;
using namespace plsc::plan;

TEST_CASE("plan: a recomputed part's forward pass is in the backward pass, its products and what it moves") {
  const std::string net = "model.backbone={kind: iresnet, stem: 8, widths: [8, 16], blocks: [2, 1]}";
  const auto planned = [&](const std::string& recompute) {
    return make_plan(head_of(1000, 1, {net, "data.image_size=[64, 64]", recompute}), {}, {});
  };
  const auto phase = [](const Plan& plan, const std::string& name) {
    const auto found = std::ranges::find(plan.phases, name, &PhasePlan::name);
    REQUIRE(found != plan.phases.end());
    return *found;
  };
  const Plan kept = planned("model.recompute=[]"), all = planned("model.recompute=all");
  const Plan first = planned("model.recompute=layer1");
  // 3x3 convolutions of one image, two FLOP a product: stem 1 -> 8 at 64 x 64; layer1.0 8 -> 8 at 64 x 64, 8 -> 8 to
  // 32 x 32 and the projection, layer1.1 twice 8 -> 8 at 32 x 32; layer2.0 as layer1.0 with 16 channels at half the
  // size.
  const double big = 64 * 64, small = 32 * 32, tiny = 16 * 16, images = 16;
  const double stem = 2 * 9 * 8 * big, layer1 = 2 * 64 * (9 * big + 9 * small + small + 18 * small);
  const double layer2 = 2 * (9 * 8 * 16 * small + 9 * 256 * tiny + 8 * 16 * tiny);
  CHECK(phase(first, "backward").flop - phase(kept, "backward").flop == test::Approx(images * layer1));
  CHECK(phase(all, "backward").flop - phase(kept, "backward").flop == test::Approx(images * (stem + layer1 + layer2)));
  CHECK(phase(all, "forward").flop == phase(kept, "forward").flop);
  CHECK(phase(first, "backward").bytes > phase(kept, "backward").bytes);
  CHECK(first.run.of(purpose::kActivations) < kept.run.of(purpose::kActivations));
  CHECK(all.run.of(purpose::kActivations) < first.run.of(purpose::kActivations));
}

TEST_CASE("plan: of compressed gradients what is sent is told apart from the memory of their warm-up") {
  const auto planned = [](const std::string& compress) {
    return make_plan(head_of(1000, 2, {"comm.compress=" + compress}), {}, {});
  };
  const Plan warm = planned("{method: topk, exclude: 500, warmup_epochs: 1}"), none = planned("{method: none}"),
             at_once = planned("{method: topk, exclude: 500, warmup_epochs: 0}");
  const std::string text =
      "sent and time are of a step behind the warm-up of comm.compress (1 epoch), in which more is sent; memory is the "
      "warm-up's\n";
  const auto tells = [&](const Plan& plan) { return table(plan, {}, "").find("\n  " + text) != std::string::npos; };
  CHECK(tells(warm));
  CHECK_FALSE(tells(none));
  CHECK_FALSE(tells(at_once));
  std::vector<SweepRow> rows(1);
  rows[0].plan = warm;
  CHECK(sweep_table(rows, "").find("\n" + text) != std::string::npos);
  // And so it is.
  const auto sent = [](const Plan& plan) {
    double sum = 0;
    for (const PhasePlan& p : plan.phases) sum += p.wire;
    return sum;
  };
  CHECK(sent(warm) == sent(at_once));
  CHECK(warm.run.device_bytes() > at_once.run.device_bytes());
}

TEST_CASE("plan: a batch that is too small for its micro-batches has the keys that make them fewer in its hint") {
  const auto hint_of = [](int ranks, const std::vector<std::string>& overrides) -> std::string {
    const std::string text = test::error_text([&] { dry_run(head_of(1000, ranks, overrides)); });
    return text.substr(text.find("hint: "));
  };
  const std::string whole = "train.batch_per_rank=auto", batch = "train.batch_size=7";
  CHECK(hint_of(8, {whole, batch}) == "hint: use a larger train.batch_size or fewer ranks");
  CHECK(hint_of(2, {whole, batch, "train.pipeline=7"}) ==
        "hint: use a larger train.batch_size or a smaller train.pipeline or fewer ranks");
  CHECK(hint_of(2, {whole, batch, "train.accumulate=2", "train.pipeline=3"}) ==
        "hint: use a larger train.batch_size or a smaller train.accumulate or a smaller train.pipeline or fewer ranks");
}

TEST_CASE("plan: of several passes the head keeps one gradient of the active rows, however many passes there are") {
  const auto tiles = [](int64_t passes, const std::string& sampling) {
    const Setup setup =
        head_of(400'000, 2,
                {fmt::format("train.accumulate={}", passes), "train.batch_per_rank=32", "head.sampling=" + sampling});
    return make_plan(setup, {}, {}).run.of("head's tiles");
  };
  const double columns = 512, all = 200'000 * columns * 4, tenth = 0.1 * all;
  const double full = tiles(2, "{method: full}");
  // Beside it tiles, which get smaller with the samples of a pass.
  CHECK(full > all);
  CHECK(full - tiles(1, "{method: full}") < all);
  CHECK(full < 1.1 * all);
  CHECK(tiles(8, "{method: full}") <= full);
  CHECK(tiles(16, "{method: full}") <= full);
  const double sampled = tiles(8, "{method: uniform, ratio: 0.1}");
  CHECK(sampled > tenth);
  CHECK(sampled < full - 0.8 * all);
}
