// What a checkpoint keeps of an optimizer beside the weights: its moments by PyTorch's names, whose they are, how many
// updates they have seen; and the average of the weights.
#include <functional>

#include "base/error.h"
#include "step_fixture.h"
#include "support/catch.h"
#include "support/temp_folder.h"
#include "train/state.h"

namespace plsc::test {
namespace {

/// A network and a head of one rank.
struct Trained {
  Trained()
      : net(tiny_net("plsc")),
        backbone(make_tiny(cpu.context, net)),
        head(drawn_head(cpu.context, {}, kClasses, net.model.embedding_size)) {}

  /// Tensors like the value of each trainable parameter, every one another.
  void fill(Tensor Param::*member, float first, bool buffers_too = false) {
    for (Param* p : backbone->params()) {
      if (p->value.dtype() != Dtype::f32 || (!p->trainable() && !buffers_too)) continue;
      p->*member = Tensor(host_allocator(), p->value.shape(), Dtype::f32);
      for (int64_t i = 0; i < p->value.elements(); ++i) (p->*member).data<float>()[i] = (first += 0.25F);
    }
  }
  std::vector<std::vector<float>> all(Tensor Param::*member) const {
    std::vector<std::vector<float>> out;
    for (const Param* p : backbone->params())
      out.push_back((p->*member).defined() && (p->*member).dtype() == Dtype::f32 ? (p->*member).values<float>()
                                                                                 : std::vector<float>{});
    return out;
  }
  std::string save(const std::string& output, const RunMeta& meta) {
    return save_checkpoint(cpu.context, output, collect_state(*backbone, *head, 3, meta, {}), {});
  }

  CpuContext cpu;
  TinyNet net;
  std::unique_ptr<Backbone> backbone;
  std::unique_ptr<MarginHead> head;
};

std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return {};
}
bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

RunMeta meta_of(const std::string& optimizer) {
  RunMeta meta;
  meta.classes = kClasses;
  meta.optimizer = optimizer;
  meta.updates = 2;
  return meta;
}

}  // namespace

TEST_CASE("both moments, the average and the count of updates come back as they were") {
  TempFolder folder;
  Trained run;
  run.fill(&Param::momentum, 0);
  run.fill(&Param::squares, 1e5F);
  run.fill(&Param::average, -1e5F, true);
  const std::string saved = run.save(folder.path(), meta_of("adamw"));

  const auto reader = CheckpointReader::open(saved);
  const Param& first = *run.backbone->params()[0];
  CHECK(reader->has("optimizer", "exp_avg." + first.name));
  CHECK(reader->has("optimizer", "exp_avg_sq." + first.name));
  CHECK_FALSE(reader->has("optimizer", "momentum." + first.name));
  int64_t averages = 0;
  for (const auto& t : reader->tensors()) averages += t.group == "backbone_ema" ? 1 : 0;
  CHECK(averages == static_cast<int64_t>(run.backbone->params().size()));
  const RunMeta meta = RunMeta::from_json(reader->meta(), saved);
  CHECK(meta.optimizer == "adamw");
  CHECK(meta.updates == 2);

  Trained other;
  restore_state(other.cpu.context, *reader, *other.backbone, *other.head, ClassMap::identity(kClasses));
  CHECK(other.all(&Param::momentum) == run.all(&Param::momentum));
  CHECK(other.all(&Param::squares) == run.all(&Param::squares));
  CHECK_FALSE(other.backbone->params()[0]->average.defined());  // nobody asked for it
  CHECK(restore_averages(other.cpu.context, *reader, *other.backbone));
  CHECK(other.all(&Param::average) == run.all(&Param::average));

  Trained evaluated;
  restore_backbone(evaluated.cpu.context, *reader, *evaluated.backbone, Weights::ema);
  CHECK(evaluated.all(&Param::value) == run.all(&Param::average));
  restore_backbone(evaluated.cpu.context, *reader, *evaluated.backbone);
  CHECK(evaluated.all(&Param::value) == run.all(&Param::value));

  // LAMB's moments are AdamW's.
  OptimizerConfig config;
  for (const char* name : {"adamw", "lamb"}) {
    config.name = name;
    CHECK_NOTHROW(require_same_optimizer(*reader, config));
  }
  config.name = "lars";
  CHECK_THROWS_AS(require_same_optimizer(*reader, config), Error);
}

TEST_CASE("momentum goes under its own name, and without an average there is none") {
  TempFolder folder;
  Trained run;
  run.fill(&Param::momentum, 0);
  const auto reader = CheckpointReader::open(run.save(folder.path(), meta_of("lars")));
  const Param& first = *run.backbone->params()[0];
  CHECK(reader->has("optimizer", "momentum." + first.name));
  CHECK_FALSE(reader->has("optimizer", "exp_avg." + first.name));
  CHECK_FALSE(restore_averages(run.cpu.context, *reader, *run.backbone));
  CHECK(contains(message_of([&] { restore_backbone(run.cpu.context, *reader, *run.backbone, Weights::ema); }),
                 "holds no averaged weights"));
  OptimizerConfig config;
  config.name = "lars";
  CHECK_NOTHROW(require_same_optimizer(*reader, config));
  config.name = "sgd";
  CHECK(contains(message_of([&] { require_same_optimizer(*reader, config); }),
                 "written by a run with optimizer.name lars, expected sgd"));
}

TEST_CASE("a checkpoint from before there were other optimizers is one of SGD") {
  RunMeta meta = meta_of("sgd");
  std::string text = meta.to_json();
  const auto without = [&](const std::string& part) {
    const size_t at = text.find(part);
    REQUIRE(at != std::string::npos);
    text.erase(at, part.size());
  };
  without("\"optimizer\":\"sgd\",");
  without("\"updates\":2,");
  const RunMeta old = RunMeta::from_json(text, "here");
  CHECK(old.optimizer == "sgd");
  CHECK_FALSE(old.updates);
  meta.updates = -1;
  CHECK(contains(message_of([&] { RunMeta::from_json(meta.to_json(), "here"); }), "-1 updates"));
}

}  // namespace plsc::test
