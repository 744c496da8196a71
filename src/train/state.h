// Between a live network and a checkpoint: what is stored, and how it is read back.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "config/config.h"
#include "head/margin_head.h"
#include "nn/module.h"
#include "train/class_map.h"

namespace plsc {

/// What the manifest remembers of a run beside its tensors.
struct RunMeta {
  int64_t epoch = 0;                             // whole epochs done
  int64_t steps_per_epoch = 0, total_steps = 0;  // of an epoch: of the first, where the batch grows
  int64_t global_batch = 0, samples = 0;         // of the first step; of the training data
  int64_t classes = 0, embedding_size = 0;
  std::string head_kind = "margin";  // head.kind
  uint64_t seed = 0;
  std::string model;     // the backbone's description
  std::string config;    // effective YAML
  std::string versions;  // program and libraries
  std::string device;    // with threads and instruction set: resume is bit-exact only where it is the same
  int64_t ranks = 0;
  std::string optimizer = "sgd";              // optimizer.name: what the moments are
  std::optional<int64_t> updates;             // steps that were not left out (fp16); older checkpoints: not known
  std::optional<math::LossScale> loss_scale;  // fp16
  std::string head_table;                     // MarginHead::state_table
  std::optional<int64_t> images;              // that all steps have taken; older checkpoints: not known
  std::optional<GraphAge> graph;              // of the class graph, where there is one (head.sampling.method knn)
  int64_t compressed_nodes = 0;  // that keep what they do not send of gradients (comm.compress); 0: none does
  std::string class_map;         // what identifies the mapping of classes that was applied last (head.class_map)

  std::string to_json() const;
  static RunMeta from_json(const std::string& text, const std::string& where);
};

/// All that a run needs to go on; `names` are those of the head's classes.
CheckpointContent collect_state(Backbone& backbone, MarginHead& head, int64_t step, const RunMeta& meta,
                                const std::vector<std::string>& names);

/// The class graph of a head that has one, as a tensor of a checkpoint.
NamedRows graph_rows(MarginHead& head);

/// Reads all of a run's state; all ranks together (read_together). After an AgreedDamage network and head hold a part
/// of it, and are of no more use: new ones take their places. Error when the checkpoint is of another model, naming the
/// first tensor that differs, or of another kind of head. Each class goes on with the centre that `classes` gives it;
/// new ones are drawn, with no momentum. A class graph holds for the very classes that it was built of, and for as many
/// neighbours or fewer: otherwise it is left, with a warning.
void restore_state(Context& context, const CheckpointReader& reader, Backbone& backbone, MarginHead& head,
                   const ClassMap& classes);

/// Error where the run that wrote the checkpoint had another optimizer: its moments mean something else.
void require_same_optimizer(const CheckpointReader& reader, const OptimizerConfig& config);

/// The backbone's parameters and buffers alone, for evaluation and embedding; or their averages in their places, which
/// is an Error where the checkpoint has none.
enum class Weights { raw, ema };
Weights evaluated_weights(const EvalConfig& config);
void restore_backbone(Context& context, const CheckpointReader& reader, Backbone& backbone,
                      Weights weights = Weights::raw);
/// Param::average of a run that goes on (train.ema); all ranks together, as restore_state. False where the checkpoint
/// has none.
bool restore_averages(Context& context, const CheckpointReader& reader, Backbone& backbone);
/// The class centres alone, caught up: evaluation by class, init. Momentum is read only where they lag, and let go of.
void restore_centers(Context& context, const CheckpointReader& reader, MarginHead& head, const ClassMap& classes);

/// The names of the head's classes by id, which a checkpoint keeps as classes.txt ("id<TAB>name" lines); empty where
/// the training data had none.
std::string class_names_text(const std::vector<std::string>& names);
std::vector<std::string> class_names(const CheckpointReader& reader);
/// What becomes of a checkpoint's classes in a run with this many, of these names. `config.class_map` is left aside
/// where the checkpoint was written by a run that had applied it.
ClassMap plan_classes(const CheckpointReader& reader, const HeadConfig& config, const ClassList& now, Leaving leaving);
/// The head.kind of the run that wrote it; nothing is known of a lone .safetensors file.
std::optional<std::string> head_kind(const CheckpointReader& reader);
/// What RunMeta::class_map holds for this configuration: empty without a mapping.
std::string class_map_key(const HeadConfig& config);

}  // namespace plsc
