// plsc-train eval: the sets of a configuration, scored on a checkpoint by all ranks together.
#include "app/build.h"
#include "app/commands.h"
#include "app/world.h"
#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "nn/module.h"
#include "optim/optimizer.h"
#include "train/recorder.h"
#include "train/run_folder.h"
#include "train/state.h"

namespace plsc {

int eval_command(const CommandLine& line, const LoadedConfig& loaded, World& world) {
  const Config& config = loaded.config;
  Session session(config, world);
  Context& context = session.context;
  Log& log = context.log;
  if (config.eval.sets.empty()) {
    fail_hint("add eval: {sets: [{name: lfw, bin: lfw.bin}]}", "{}: eval.sets is empty: nothing to evaluate",
              line.config);
  }
  const auto reader = CheckpointReader::open(line.checkpoint);
  const auto backbone = make_backbone(context, config.model, config.data.image_size, config.data.channels);
  restore_backbone(context, *reader, *backbone, evaluated_weights(config.eval));
  std::unique_ptr<MarginHead> head;
  for (const EvalSetConfig& set : config.eval.sets) {
    if (set.kind != "classification" || head) continue;
    if (reader->ranks() == 0) {
      fail_hint("name the checkpoint's folder (.../checkpoints/step_N)",
                "{} holds weights alone: eval set '{}' needs the class centres of a checkpoint folder", line.checkpoint,
                set.name);
    }
    const RunMeta meta = RunMeta::from_json(reader->meta(), reader->folder());
    head =
        make_margin_head(context, config.head, meta.classes, backbone->embedding_size(), head_update(config.optimizer));
    restore_centers(context, *reader, *head, ClassMap::identity(head->shard().total));
  }
  const auto evaluator = make_evaluator(context, config.eval, config.data, class_names(*reader));
  const std::vector<EvalResult> results = evaluator->run(context, *backbone, head.get());
  log.info("{}, {}{}", line.checkpoint, reader->ranks() == 0 ? "weights alone" : fmt::format("step {}", reader->step()),
           evaluated_weights(config.eval) == Weights::ema ? ", averaged weights" : "");
  for (const EvalResult& result : results) log.info("{}", summary(result));
  if (!line.roc.empty()) on_rank_0(context, [&] { draw_roc(line.roc, results); });
  return 0;
}

}  // namespace plsc
