// The configuration as plain structs: what parse.cpp makes of a YAML file. Defaults stand here and nowhere else.
// configs/README.md explains every key.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace plsc {

struct AugmentConfig {
  std::string kind;  // "flip"
  double probability = 0.5;
  bool operator==(const AugmentConfig&) const = default;
};

struct SyntheticConfig {
  int64_t classes = 1000;
  int64_t images = 10000;
  bool operator==(const SyntheticConfig&) const = default;
};

struct DataConfig {
  std::vector<std::string> train;  // .rec files, image folders, list files; or the one word "synthetic"
  SyntheticConfig synthetic;
  std::array<int64_t, 2> image_size{112, 112};  // height, width
  int64_t channels = 3;
  std::vector<double> mean{127.5}, std{127.5};  // one for all channels, or one a channel
  std::string resize = "exact";                 // exact | stretch | fit_crop
  std::vector<AugmentConfig> augment{{"flip", 0.5}};
  int64_t workers = 0;            // decoding threads of a rank; 0: auto
  std::string cache = "none";     // none | decoded
  int64_t cache_limit = 0;        // bytes a node; 0: half of its free memory
  std::string on_error = "stop";  // stop | skip
  bool operator==(const DataConfig&) const = default;
};

/// A backbone by name (kind, blocks and the rest filled in from it) or spelled out.
struct BackboneConfig {
  std::string name = "iresnet50";  // empty for a mapping
  std::string kind = "iresnet";    // iresnet | resnet | plsc
  int64_t stem = 64;
  std::vector<int64_t> widths{64, 128, 256, 512};
  std::vector<int64_t> blocks{3, 4, 14, 3};
  std::vector<int64_t> strides{2, 2, 2, 2};  // of the first block of each stage
  bool bottleneck = false;                   // resnet only
  bool operator==(const BackboneConfig&) const = default;
};

/// Which ranks measure their batches as one.
struct SyncBatchNorm {
  bool on = false;
  int64_t group = 0;  // so many consecutive ranks; 0: all
  bool all_ranks() const { return on && group == 0; }
  bool operator==(const SyncBatchNorm&) const = default;
};

struct ModelConfig {
  BackboneConfig backbone;
  int64_t embedding_size = 512;
  std::optional<double> dropout;  // none: as default_dropout says, which load_config fills in
  SyncBatchNorm sync_batch_norm;
  std::vector<std::string> recompute;  // parts of the backbone, as `freeze` names them but for the tail; or all
  bool operator==(const ModelConfig&) const = default;
};

struct InitConfig {
  std::string from;           // checkpoint folder or .safetensors file; empty: none
  std::string head = "auto";  // auto | true | false: take the class centres too
  std::vector<std::string> freeze;
  bool operator==(const InitConfig&) const = default;
};

struct MarginConfig {
  std::string name = "arcface";  // arcface | cosface | sphereface | none | custom: what m1..m3 were set by
  double m1 = 1, m2 = 0.5, m3 = 0;
  bool operator==(const MarginConfig&) const = default;
};

/// When the class graph is built after the first time.
struct RebuildConfig {
  std::optional<double> every_epochs;  // 0: never; none: auto, which load_config fills in
  std::optional<double> probe_recall;  // below which a probe of the graph has it built; none: no probes
  bool operator==(const RebuildConfig&) const = default;
};

struct SamplingConfig {
  static constexpr int64_t kMostNeighbours = 750;

  std::string method = "full";  // full | uniform | knn
  double ratio = 0.1;
  int64_t active = 0;  // classes of a step; 0: ratio of all
  // knn:
  int64_t neighbours = 50;
  double uniform_share = 0.1;
  RebuildConfig rebuild{};
  std::string scoring = "fp32";  // fp32 | bf16
  bool operator==(const SamplingConfig&) const = default;
};

struct StoreConfig {
  std::string tier = "device";    // device | host: whose memory the class centres are in
  std::string dtype = "fp32";     // fp32 | bf16: of the class centres in memory
  std::string momentum = "fp32";  // fp32 | bf16: of their momentum
  bool operator==(const StoreConfig&) const = default;
};

struct HeadConfig {
  std::string kind = "margin";  // margin | d_softmax | linear
  int64_t classes = 0;          // 0: auto, from the data
  MarginConfig margin;
  double scale = 64;
  double termination = 0.9;        // d_softmax: the cosine of a target that has come near enough
  std::string gradient = "exact";  // exact | straight_through
  SamplingConfig sampling;
  std::string update = "dense";             // dense | lazy
  std::optional<double> interclass_filter;  // cosine threshold; none: off
  double init_std = 0.01;                   // 0: xavier, sqrt(2 / (C + D))
  StoreConfig store;
  std::string class_map;  // a file that renames and drops classes of the checkpoint; empty: none
  bool operator==(const HeadConfig&) const = default;
};

/// Parameters that are not updated as the rest are.
struct HeadOptimizerConfig {
  std::string name = "auto";           // auto: optimizer.name; or one of its words
  double lr = 1;                       // a factor on the rate
  std::optional<double> weight_decay;  // none: optimizer.weight_decay
  bool operator==(const HeadOptimizerConfig&) const = default;
};
struct NormsOptimizerConfig {
  double lr = 1;
  std::optional<double> weight_decay;  // none: as decay_norms says
  bool operator==(const NormsOptimizerConfig&) const = default;
};

struct OptimizerConfig {
  std::string name = "sgd";  // sgd | adamw | lars | lamb
  double momentum = 0.9;     // sgd, lars
  bool nesterov = false;     // sgd
  double weight_decay = 5e-4;
  bool decay_norms = true;  // batch norms, PReLU slopes and biases decay too (as the peers do)
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;  // adamw, lamb
  double trust = 0.001;                               // lars: the coefficient of its ratio
  HeadOptimizerConfig head;
  NormsOptimizerConfig norms;
  bool operator==(const OptimizerConfig&) const = default;
};

struct ScheduleConfig {
  std::string name = "poly";  // poly | step | cosine | constant | one_cycle
  double base_lr = 0.1;
  std::optional<double> start_lr;  // of the warm-up; none: 0, for one_cycle base_lr / 25
  int64_t warmup_steps = 0;
  std::optional<double> warmup_epochs;
  double power = 2;
  std::vector<double> milestones;        // step: in epochs
  std::vector<int64_t> milestone_steps;  // step: in steps
  double factor = 0.1;                   // step
  double final_lr = 0;                   // poly, cosine, one_cycle
  std::string compat = "none";           // none | insightface_2022 | insightface_head | plsc
  bool operator==(const ScheduleConfig&) const = default;
};

/// The running average of the network's weights.
struct EmaConfig {
  double decay = 0;   // 0: off
  int64_t every = 1;  // updates
  bool operator==(const EmaConfig&) const = default;
};

/// The batch grows with the images seen: see config/step_map.h.
struct GrowConfig {
  int64_t factor = 0;                      // 0: it does not
  double from_epoch = 0, until_epoch = 0;  // epochs of the run
  bool operator==(const GrowConfig&) const = default;
};

struct TrainConfig {
  int64_t batch_size = 0;      // global; 0 where batch_per_rank is given
  int64_t batch_per_rank = 0;  // 128 where neither is given
  double epochs = 20;
  int64_t steps = 0;               // > 0 wins over epochs
  std::string precision = "fp32";  // fp32 | tf32 | bf16 | fp16 | auto: as the device can
  double clip_norm = 5;            // 0: off
  bool clip_head = false;          // the class centres' gradient is part of the norm, and clipped by it
  EmaConfig ema;
  int64_t accumulate = 1;
  int64_t pipeline = 1;  // micro-batches of each pass, whose communication and computation overlap; 1: no pipeline
  GrowConfig grow;
  /// auto | true | false. On a CPU exact sums, the same on any number of ranks and threads; on a GPU algorithms that
  /// repeat. What auto is follows from the device: see app/devices.h.
  std::string deterministic = "auto";
  std::string graphs = "auto";  // auto | true | false: replay a step's launches on a GPU
  int64_t threads = 0;          // compute threads of a rank; 0: auto
  /// Of a step.
  int64_t micro_batches() const { return accumulate * pipeline; }
  bool operator==(const TrainConfig&) const = default;
};

struct CheckpointConfig {
  int64_t every_steps = 0;
  double every_epochs = 1;
  bool at_end = true;
  int64_t keep = 3;
  int64_t keep_every = 0;  // steps: such checkpoints are never pruned
  std::string best_set, best_metric;
  bool operator==(const CheckpointConfig&) const = default;
};

struct EvalSetConfig {
  std::string name;
  std::string kind = "verification";  // verification | classification
  std::string bin, folder, pairs, data;
  bool operator==(const EvalSetConfig&) const = default;
};
struct EvalConfig {
  int64_t every_steps = 0;
  double every_epochs = 1;
  bool at_end = true;
  int64_t batch_size = 64;      // images a rank
  bool flip_sum = true;         // verification: embedding of the image plus that of its mirror image
  std::string weights = "raw";  // raw | ema
  std::vector<EvalSetConfig> sets;
  bool operator==(const EvalConfig&) const = default;
};

struct LogConfig {
  int64_t every_steps = 10;
  std::string trace;         // a file; empty: none
  int64_t trace_first = 5;   // updates of this process before it
  int64_t trace_steps = 10;  // updates in it
  bool operator==(const LogConfig&) const = default;
};

/// Gradients of the backbone of which the largest elements alone are sent.
struct CompressConfig {
  std::string method = "none";       // none | topk
  double ratio = 0.001;              // of a tensor's elements, that are sent in a step
  int64_t warmup_epochs = 4;         // in which it falls to that
  int64_t exclude = 4096;            // elements: smaller tensors are sent whole
  std::string intra_node = "dense";  // dense | none: whether the ranks of a host sum theirs first
  bool on() const { return method != "none"; }
  bool operator==(const CompressConfig&) const = default;
};

struct CommConfig {
  std::string backend = "auto";       // auto | nccl | mpi
  double timeout = 600;               // seconds
  int64_t bucket = int64_t{8} << 20;  // bytes of gradients that travel together
  std::string dtype = "fp32";         // fp32 | bf16: of gradients on their way
  CompressConfig compress;
  bool operator==(const CommConfig&) const = default;
};

struct Config {
  std::string output = "runs/run";
  uint64_t seed = 1;
  std::string device = "auto";  // auto | cpu | cuda
  std::vector<int64_t> gpus;    // of each host, among those that its ranks see; empty: all of them
  int64_t ranks = 0;            // 0: auto
  DataConfig data;
  ModelConfig model;
  InitConfig init;
  HeadConfig head;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  TrainConfig train;
  CheckpointConfig checkpoint;
  EvalConfig eval;
  LogConfig log;
  CommConfig comm;
  bool operator==(const Config&) const = default;
};

/// Where the value of one key came from: "file.yaml:12", "-o", "default".
struct ValueOrigin {
  std::string key;    // "train.batch_size"
  std::string value;  // as YAML
  std::string origin;
};

struct LoadedConfig {
  Config config;
  std::vector<ValueOrigin> values;  // every key, in the order of the reference
  bool operator==(const LoadedConfig&) const = default;
};

/// Reads, overrides ("key.path=value", the value read as YAML), validates. Relative paths stay relative to the working
/// folder. Throws Error with "file:line: key: what was found, what was expected" and the nearest valid key.
LoadedConfig load_config(const std::string& path, const std::vector<std::string>& overrides = {});
LoadedConfig parse_config(const std::string& yaml, const std::string& name,
                          const std::vector<std::string>& overrides = {});

/// The effective configuration as YAML that load_config reads back to the same Config.
std::string to_yaml(const Config& config);
/// The same with the origin of each value as a comment behind it.
std::string to_annotated_yaml(const LoadedConfig& loaded);

/// The reference of every key (Markdown tables, one a section): type, default, meaning, what the peers call it.
/// configs/README.md holds it, and a test holds configs/README.md to it.
std::string config_reference();
/// "head.scale 64 -> 16" for each key that shapes the weights and is another in `now`: not where things lie, what is
/// logged, saved or evaluated, or how many threads work on it.
std::vector<std::string> training_differences(const Config& then, const Config& now);

/// The table of named backbones: fills kind, stem, widths, blocks from `name`. Throws Error naming the nearest one.
BackboneConfig named_backbone(const std::string& name);
std::vector<std::string> backbone_names();
/// Of the network as its authors train it: .4 for kind plsc, else 0.
double default_dropout(const BackboneConfig& backbone);

/// The preset of this name: arcface, cosface, sphereface or none. Throws Error for another.
MarginConfig named_margin(const std::string& name);

}  // namespace plsc
