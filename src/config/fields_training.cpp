// The table of keys, second half: optimizer, schedule, train; checkpoint, eval, log, comm.
#include "config/fields.h"

namespace plsc {
namespace {

void add_optimizer_fields(std::vector<Field>& fields) {
  const auto rate_factor = [] { return number(above(0)); };
  const auto decay_or_auto = [] { return absent_is("auto", number(at_least(0))); };
  Section<OptimizerConfig>(fields, "optimizer.", [](Config& c) -> OptimizerConfig& { return c.optimizer; })
      .key("name", &OptimizerConfig::name, one_of({"sgd", "adamw", "lars", "lamb"}),
           "Of the backbone, and of the class centres where head.name is auto: see Optimizers.",
           {"optimizer", "Optimizer.name"})
      .key("momentum", &OptimizerConfig::momentum, number({0, 1, false, true}),
           "sgd, lars. v = momentum v + g; w = w - lr v.", {".9, fixed (momentum is ignored)", "Optimizer.momentum"})
      .key("nesterov", &OptimizerConfig::nesterov, boolean(), "sgd: Nesterov's momentum.", {"", "use_nesterov"})
      .key("weight_decay", &OptimizerConfig::weight_decay, number(at_least(0)),
           "sgd, lars: added to the gradient as weight_decay w. adamw, lamb: decoupled, w = w - lr weight_decay w. Of "
           "the class centres too.",
           {"weight_decay", "Optimizer.weight_decay"})
      .key("decay_norms", &OptimizerConfig::decay_norms, boolean(),
           "Batch norms, PReLU slopes and biases decay as well, as with the peers. false: norms.weight_decay is 0.")
      .key("beta1", &OptimizerConfig::beta1, number({0, 1, false, true}), "adamw, lamb: of the mean of gradients.",
           {".9, fixed", "Optimizer.beta1"})
      .key("beta2", &OptimizerConfig::beta2, number({0, 1, false, true}), "adamw, lamb: of the mean of their squares.",
           {".999, fixed", "Optimizer.beta2"})
      .key("epsilon", &OptimizerConfig::epsilon, number(at_least(1e-30)),
           "adamw, lamb: added to the root of the mean of squares.", {"1e-8, fixed", "Optimizer.epsilon"})
      .key("trust", &OptimizerConfig::trust, number(above(0)), "lars: the coefficient of the trust ratio.",
           {"", "lars_coeff"});
  Section<HeadOptimizerConfig>(fields, "optimizer.head.",
                               [](Config& c) -> HeadOptimizerConfig& { return c.optimizer.head; })
      .key("name", &HeadOptimizerConfig::name, one_of({"auto", "sgd", "adamw", "lars", "lamb"}),
           "Of the class centres. auto: optimizer.name.")
      .key("lr", &HeadOptimizerConfig::lr, rate_factor(), "A factor on the rate of the class centres.")
      .key("weight_decay", &HeadOptimizerConfig::weight_decay, decay_or_auto(),
           "Of the class centres. auto: optimizer.weight_decay.");
  Section<NormsOptimizerConfig>(fields, "optimizer.norms.",
                                [](Config& c) -> NormsOptimizerConfig& { return c.optimizer.norms; })
      .key("lr", &NormsOptimizerConfig::lr, rate_factor(),
           "A factor on the rate of the backbone's batch norms, PReLU slopes and biases.")
      .key("weight_decay", &NormsOptimizerConfig::weight_decay, decay_or_auto(),
           "Of the same. auto: optimizer.weight_decay, or 0 where decay_norms is false.");
}

void add_schedule_fields(std::vector<Field>& fields) {
  Section<ScheduleConfig>(fields, "schedule.", [](Config& c) -> ScheduleConfig& { return c.schedule; })
      .key("name", &ScheduleConfig::name, one_of({"poly", "step", "cosine", "constant", "one_cycle"}),
           "What the rate does after the warm-up, x from 0 to 1. poly: (1 - x)^power; cosine: (1 + cos(pi x)) / 2; "
           "step: times factor at each milestone. one_cycle: rises along half a cosine, which is its warm-up (without "
           "one, for .3 of the run), and falls along another; momentum stays.",
           {"poly, fixed", "LRScheduler.name"})
      .key("base_lr", &ScheduleConfig::base_lr, number(above(0)),
           "The rate after the warm-up. It is used as it stands, whatever the batch size.",
           {"lr", "LRScheduler.learning_rate"})
      .key("warmup_steps", &ScheduleConfig::warmup_steps, whole(0),
           "Update t of w warm-up steps uses base_lr (t + 1) / w.", {"", "LRScheduler.warmup_steps"})
      .key("warmup_epochs", &ScheduleConfig::warmup_epochs, absent_is("none", number(at_least(0))),
           "The same in epochs; give one of the two.", {"warmup_epoch", "warmup_epochs, LRScheduler.warmup_epochs"})
      .key("start_lr", &ScheduleConfig::start_lr, absent_is("auto", number(at_least(0))),
           "Where the warm-up rises from. auto: 0; one_cycle: base_lr / 25.", {"0, fixed", "warmup_start_lr"})
      .key("power", &ScheduleConfig::power, number(above(0)), "poly.", {"1 (2 in what was published)", "2, fixed"})
      .key("milestones", &ScheduleConfig::milestones, list_of(number(above(0))), "step: in epochs, rising.",
           {"", "step_boundaries, LRScheduler.boundaries"})
      .key("milestone_steps", &ScheduleConfig::milestone_steps, list_of(whole(1)), "step: in steps, rising.",
           {"", "step_boundaries, LRScheduler.boundaries"})
      .key("factor", &ScheduleConfig::factor, number({0, 1, true, false}), "step: at each milestone.",
           {"", "lr_decay_factor, LRScheduler.values"})
      .key("final_lr", &ScheduleConfig::final_lr, number(at_least(0)), "poly, cosine, one_cycle: where they end.",
           {"0, fixed", "0, fixed"})
      .key("compat", &ScheduleConfig::compat, one_of({"none", "insightface_2022", "insightface_head", "plsc"}),
           "A peer's exact sequence of rates, update by update: see Schedules of the peers.");
}

void add_train_fields(std::vector<Field>& fields) {
  Section<TrainConfig> train(fields, "train.", [](Config& c) -> TrainConfig& { return c.train; });
  train
      .key("batch_size", &TrainConfig::batch_size, zero_is("auto", whole(1)),
           "Images of one update over ALL ranks; auto: batch_per_rank times the ranks.", {"batch_size x GPUs", ""})
      .key("batch_per_rank", &TrainConfig::batch_per_rank, zero_is("auto", whole(1)),
           "The other way to say it; give one of the two. 128 where neither is given.",
           {"batch_size", "train_batch_size, sampler.batch_size"})
      .key("epochs", &TrainConfig::epochs, number(above(0)), "Passes over the data; a fraction is possible.",
           {"num_epoch", "train_epochs, Global.epochs"})
      .key("steps", &TrainConfig::steps, zero_is("none", whole(1)), "Updates; where given, it counts and not epochs.",
           {"", "train_steps, max_train_step"})
      .key("precision", &TrainConfig::precision, one_of({"fp32", "tf32", "bf16", "fp16", "auto"}),
           "bf16, fp16: 16-bit activations and GEMM inputs; weights, norms and sums stay fp32; fp16 scales its losses. "
           "tf32: fp32 whose products keep 10 bits. auto: on a GPU bf16, fp16 or fp32, the first that it has; on a CPU "
           "fp32, which repeats to the bit. What the device lacks is refused: bf16 needs a CPU with bf16 instructions "
           "or a GPU of compute capability 8.0, as tf32 does; fp16 one of 7.0.",
           {"fp16", "mixed_precision, FP16.level"})
      .key("clip_norm", &TrainConfig::clip_norm, zero_is("none", number(at_least(0))),
           "Most that the backbone's gradient may measure, all of it together, over all ranks (with comm.compress: see "
           "Compressed gradients); none: no limit.",
           {"5, fixed", "grad_clip.clip_norm"})
      .key("clip_head", &TrainConfig::clip_head, boolean(),
           "The gradient of the class centres is part of what clip_norm measures, and is scaled with it. It is then "
           "kept until the step's end: active classes x embedding_size x 4 bytes a rank.",
           {"false, fixed", "no_clip_list"});
  Section<EmaConfig>(fields, "train.ema.", [](Config& c) -> EmaConfig& { return c.train.ema; })
      .key("decay", &EmaConfig::decay, zero_is("none", number({0, 1, false, true})),
           "Keeps a running average of the network's weights, average = d average + (1 - d) weight, with d rising from "
           ".1 to this: see Averaged weights.",
           {"", "EMA.ema_decay"})
      .key("every", &EmaConfig::every, whole(1), "Averages after so many updates.");
  train.key("accumulate", &TrainConfig::accumulate, whole(1),
            "Passes that make one update: divides the batch where memory is short.",
            {"gradient_acc", "Global.accum_steps"});
  Section<GrowConfig>(fields, "train.grow.", [](Config& c) -> GrowConfig& { return c.train.grow; })
      .key("factor", &GrowConfig::factor, zero_is("none", whole(2, 4096)),
           "The batch grows to so many times batch_size, by more and more passes of the same size: see A batch that "
           "grows.")
      .key("from_epoch", &GrowConfig::from_epoch, number({0, 1e6}),
           "Epochs, by the images seen, after which it begins to; a fraction is possible.")
      .key("until_epoch", &GrowConfig::until_epoch, number({0, 1e6}),
           "Epochs after which it is factor times as large; more than from_epoch.");
  train
      .key("pipeline", &TrainConfig::pipeline, whole(1, 1 << 16),
           "Divides each pass into so many micro-batches, of which one's exchanges between the ranks are under way "
           "while another is computed: see Pipeline. Batch norms measure each micro-batch alone. 1: none.")
      .key("deterministic", &TrainConfig::deterministic, one_of({"auto", "true", "false"}),
           "On a CPU gradients are summed over samples and classes exactly, so that the weights are the same to the "
           "last bit on any number of ranks and threads; fp32 alone. auto: with model.sync_batch_norm: true in fp32, "
           "without which ranks see different statistics; not with comm.dtype: bf16 or comm.compress. A step takes "
           "longer: see scripts/bench. On a GPU true picks "
           "algorithms that repeat to the bit on the same number of ranks; auto: false.",
           {})
      .key("graphs", &TrainConfig::graphs, one_of({"auto", "true", "false"}),
           "On a GPU: record what a step gives the device once, and replay it, which costs the host less. auto: where "
           "nothing forbids it. A CPU has none.")
      .key("threads", &TrainConfig::threads, zero_is("auto", whole(1, 4096)),
           "Compute threads of a rank; auto: its share of the node's cores.");
}

void add_checkpoint_fields(std::vector<Field>& fields) {
  Section<CheckpointConfig>(fields, "checkpoint.", [](Config& c) -> CheckpointConfig& { return c.checkpoint; })
      .key("every_steps", &CheckpointConfig::every_steps, zero_is("none", whole(0)), "Save after so many updates.")
      .key("every_epochs", &CheckpointConfig::every_epochs, zero_is("none", number(at_least(0))),
           "Save after so many epochs; a fraction is possible. Counts beside every_steps.",
           {"1, fixed", "Global.save_interval"})
      .key("at_end", &CheckpointConfig::at_end, boolean(), "Save after the last update.")
      .key("keep", &CheckpointConfig::keep, whole(1), "The newest so many stay.",
           {"1, fixed", "max_last_checkpoint_num, Global.max_num_latest_checkpoint"})
      .key("keep_every", &CheckpointConfig::keep_every, zero_is("none", whole(0)),
           "Checkpoints of steps that are multiples of this stay for good.")
      .key("best.set", &CheckpointConfig::best_set, text_or_none(), "Save and keep the best on this set of eval.sets.",
           {"", "best_model"})
      .key("best.metric", &CheckpointConfig::best_metric, text_or_none(),
           "accuracy, auc, tar_at_far.1e-3, ... (verification), top1, top5 (classification). none: accuracy or top1.");
}

void add_eval_fields(std::vector<Field>& fields) {
  Section<EvalConfig>(fields, "eval.", [](Config& c) -> EvalConfig& { return c.eval; })
      .key("every_steps", &EvalConfig::every_steps, zero_is("none", whole(0)), "Evaluate after so many updates.",
           {"verbose", "test_period, Global.eval_interval"})
      .key("every_epochs", &EvalConfig::every_epochs, zero_is("none", number(at_least(0))),
           "Evaluate after so many epochs; a fraction is possible. Counts beside every_steps.",
           {"", "Global.eval_interval"})
      .key("at_end", &EvalConfig::at_end, boolean(), "Evaluate after the last update.")
      .key("batch_size", &EvalConfig::batch_size, whole(1, 1 << 16), "Images of a rank at a time.",
           {"10, fixed", "test_batch_size"})
      .key("flip_sum", &EvalConfig::flip_sum, boolean(),
           "Verification adds the embedding of the mirror image, as InsightFace does; false where a mirror image is "
           "something else (characters).",
           {"true, fixed", "true, fixed"})
      .key("weights", &EvalConfig::weights, one_of({"raw", "ema"}),
           "Which weights of the network are evaluated and embed images. ema: the average of train.ema.")
      .key("sets", &EvalConfig::sets, eval_sets(), "What to evaluate on: see Evaluation sets.",
           {"val_targets", "val_targets"});
}

}  // namespace

void add_training_fields(std::vector<Field>& fields) {
  add_optimizer_fields(fields);
  add_schedule_fields(fields);
  add_train_fields(fields);
}

void add_run_fields(std::vector<Field>& fields) {
  add_checkpoint_fields(fields);
  add_eval_fields(fields);
  Section<LogConfig>(fields, "log.", [](Config& c) -> LogConfig& { return c.log; })
      .key("every_steps", &LogConfig::every_steps, whole(1), "A line in metrics.jsonl after so many updates.",
           {"frequent", "log_period, Global.print_batch_step"})
      .key("trace", &LogConfig::trace, text_or_none(),
           "A file for what all ranks did and when: phases, collectives and their bytes. It is Chrome's format, for "
           "ui.perfetto.dev or chrome://tracing.")
      .key("trace_first", &LogConfig::trace_first, whole(0), "Updates that are left out of it first: they set up.")
      .key("trace_steps", &LogConfig::trace_steps, whole(1), "Updates in it.");
  Section<CommConfig>(fields, "comm.", [](Config& c) -> CommConfig& { return c.comm; })
      .key("backend", &CommConfig::backend, one_of({"auto", "nccl", "mpi"}),
           "auto: NCCL between GPUs of their own, else MPI. mpi: through the memory of the hosts, slower, but several "
           "ranks may share a GPU.",
           {"nccl, fixed", ""})
      .key("timeout", &CommConfig::timeout, seconds(),
           "A rank that is missing so long ends the run, which names it. Also the longest that one rank may read or "
           "write files behind the others.")
      .key("bucket", &CommConfig::bucket, bytes(),
           "Gradients of the backbone travel in buckets of about this size, each as soon as the backward pass has "
           "filled it. Smaller ones start sooner, larger ones cost fewer messages.",
           {"25MiB, of PyTorch's DDP", ""})
      .key(
          "dtype", &CommConfig::dtype, one_of({"fp32", "bf16"}),
          "Of these gradients on their way. bf16: half the bytes; each rank's are rounded to bf16, summed in fp32, and "
          "the sum is rounded again. Not with exact sums (train.deterministic).",
          {"fp16_compress_hook", ""});
  Section<CompressConfig>(fields, "comm.compress.", [](Config& c) -> CompressConfig& { return c.comm.compress; })
      .key("method", &CompressConfig::method, one_of({"none", "topk"}),
           "topk: of each large tensor's gradient the largest elements alone are sent, the rest is kept and added to "
           "the next step's: see Compressed gradients. sgd and lars alone.")
      .key("ratio", &CompressConfig::ratio, number({0, 1, true, false}),
           "The share of a tensor's elements that is sent.")
      .key("warmup_epochs", &CompressConfig::warmup_epochs, whole(0),
           "Over so many epochs the share falls to ratio, epoch by epoch by the same factor, on up to 4 nodes: 25 %, "
           "6.3 %, 1.6 %, .4 % "
           "with the defaults.")
      .key("exclude", &CompressConfig::exclude, whole(1),
           "Weights of fewer elements are sent whole, as norms, slopes and biases are.")
      .key("intra_node", &CompressConfig::intra_node, one_of({"dense", "none"}),
           "dense: the ranks of a host sum their gradients whole, and what is sent is the largest of the sum. none: "
           "each rank for itself.");
}

}  // namespace plsc
