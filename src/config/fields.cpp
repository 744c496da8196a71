// The table itself: the keys of data, model, init and head. Meanings are what configs/README.md prints.
#include "config/fields.h"

#include "config/limits.h"

namespace plsc {

std::vector<Field> config_fields() {
  std::vector<Field> fields;
  Section<Config>(fields, "", [](Config& c) -> Config& { return c; })
      .key("output", &Config::output, text(),
           "Folder of the run: checkpoints, metrics.jsonl, train.log, config.yaml. Only one run at a time may use it.",
           {"output", "model_save_dir, Global.output_dir"})
      .key("seed", &Config::seed, whole_64_bits(),
           "Initial weights, order, augmentation, dropout and sampled classes follow from it, whatever the number of "
           "ranks.",
           {"seed", "Global.seed"})
      .key("device", &Config::device, one_of({"auto", "cpu", "cuda"}),
           "auto: the GPUs where there are any, else the CPU.", {"", "Global.device"})
      .key("gpus", &Config::gpus, list_of(whole(0, 1023)),
           "Which GPUs of each node its ranks take, one each, in this order: numbers among those that are visible "
           "(CUDA_VISIBLE_DEVICES, Slurm). []: all of them.",
           {"CUDA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"})
      .key("ranks", &Config::ranks, zero_is("auto", whole(1, kMostRanks)),
           "Processes to start when `plsc-train` is started plainly; auto: one a GPU of this node, or 1 on the CPU. "
           "Under mpirun or srun their number counts.",
           {"torchrun --nproc_per_node", "-m paddle.distributed.launch"});
  add_data_fields(fields);
  add_model_fields(fields);
  add_training_fields(fields);
  add_run_fields(fields);
  return fields;
}

void add_data_fields(std::vector<Field>& fields) {
  Section<DataConfig> data(fields, "data.", [](Config& c) -> DataConfig& { return c.data; });
  data.key("train", &DataConfig::train, list_of(text(), true),
           "**Required.** A .rec file, an image folder (a sub-folder a class), a list file (`path label` a line), or a "
           "list of such; or the word synthetic: random images made in memory, for benchmarks.",
           {"rec", "dataset_dir, dataset.image_root"});
  Section<SyntheticConfig>(fields, "data.synthetic.", [](Config& c) -> SyntheticConfig& { return c.data.synthetic; })
      .key("classes", &SyntheticConfig::classes, whole(1), "Classes of `train: synthetic`.")
      .key("images", &SyntheticConfig::images, whole(1), "Images of `train: synthetic`.");
  data.key("image_size", &DataConfig::image_size, image_size(), "What the network sees.",
           {"112 x 112, fixed", "image_shape"})
      .key("channels", &DataConfig::channels, whole(1, 3), "3: RGB; 1: grey.", {"", "image_shape"})
      .key("normalize.mean", &DataConfig::mean, list_of(number({}), true),
           "Subtracted from the bytes; one number, or one a channel.",
           {"127.5, fixed", "NormalizeImage.mean (of x / 255)"})
      .key("normalize.std", &DataConfig::std, list_of(number(above(0)), true),
           "Divides what is left; one number, or one a channel.", {"127.5, fixed", "NormalizeImage.std (of x / 255)"})
      .key("resize", &DataConfig::resize, one_of({"exact", "stretch", "fit_crop"}),
           "What to do with images of another size. exact: an error; stretch: to the size, whatever the shape; "
           "fit_crop: keep the shape, crop the middle.")
      .key("augment", &DataConfig::augment, augmentations(),
           "Done to training images, in order. `flip: p` mirrors with probability p.",
           {"flip .5, fixed", "RandFlipImage"})
      .key("workers", &DataConfig::workers, zero_is("auto", whole(1, 4096)), "Decoding threads of a rank.",
           {"num_workers", "loader.num_workers"})
      .key("cache", &DataConfig::cache, one_of({"none", "decoded"}),
           "decoded: keep every image, decoded and resized, in memory that the ranks of a node share.")
      .key("cache_limit", &DataConfig::cache_limit, zero_is("auto", bytes()),
           "Most memory for the cache on a node; auto: half of what is free. What does not fit is decoded each time.")
      .key("on_error", &DataConfig::on_error, one_of({"stop", "skip"}),
           "A damaged image. stop: an error that names it; skip: another takes its place, and the count is reported.");
}

namespace {

void add_sampling_fields(std::vector<Field>& fields) {
  Section<SamplingConfig>(fields, "head.sampling.", [](Config& c) -> SamplingConfig& { return c.head.sampling; })
      .key("method", &SamplingConfig::method, one_of({"full", "uniform", "knn"}),
           "full: every class takes part in every step; uniform (Partial FC): the batch's own and a random part of the "
           "others; knn: the batch's own, the classes whose centres are nearest to theirs, by a graph of all classes "
           "that is built from time to time, and a random part. Without a graph yet knn is uniform.",
           {"sample_rate < 1", "sample_ratio < 1"})
      .key("ratio", &SamplingConfig::ratio, number({0, 1, true, false}),
           "uniform, knn: this part of all classes takes part in a step.",
           {"sample_rate", "sample_ratio, pfc_config.sample_ratio"})
      .key("active", &SamplingConfig::active, zero_is("auto", whole(1)),
           "uniform, knn: the same as a number of classes; where given, it counts and not ratio.")
      .key("neighbours", &SamplingConfig::neighbours, whole(1, SamplingConfig::kMostNeighbours),
           "knn: how many of its nearest the graph has for each class. 12 bytes each in host memory, over all ranks.")
      .key("uniform_share", &SamplingConfig::uniform_share, number({0, 1, false, true}),
           "knn: at least this part of a step's classes is drawn at random, or centres far from all labels would never "
           "be seen.");
  Section<RebuildConfig>(fields, "head.sampling.rebuild.",
                         [](Config& c) -> RebuildConfig& { return c.head.sampling.rebuild; })
      .key("every_epochs", &RebuildConfig::every_epochs, absent_is("auto", zero_is("none", number(at_least(0)))),
           "knn: build the graph anew after so many epochs; a fraction is possible. The first one is built after the "
           "warm-up of schedule, or after the first epoch where there is none. auto: 1, or none with probe_recall.")
      .key("probe_recall", &RebuildConfig::probe_recall, absent_is("none", number({0, 1, true, false})),
           "knn: four times an epoch the nearest of up to 10,000 classes are searched for; where the graph has a "
           "smaller part of these, it is built anew. Counts beside every_epochs.");
  Section<SamplingConfig>(fields, "head.sampling.", [](Config& c) -> SamplingConfig& { return c.head.sampling; })
      .key("scoring", &SamplingConfig::scoring, one_of({"fp32", "bf16"}),
           "knn: of the products that find candidates for the graph, which are then put in order in fp32. bf16: faster "
           "where the device has it, and refused where it has not.");
}

}  // namespace

void add_model_fields(std::vector<Field>& fields) {
  Section<ModelConfig>(fields, "model.", [](Config& c) -> ModelConfig& { return c.model; })
      .key("backbone", &ModelConfig::backbone, backbone(), "A name, or a network of one's own: see Backbones.",
           {"network", "Model.name"})
      .key("embedding_size", &ModelConfig::embedding_size, whole(1, 1 << 16), "Length of an embedding.",
           {"embedding_size", "emb_size, Model.num_features"})
      .key("dropout", &ModelConfig::dropout, absent_is("auto", number({0, 1, false, true})),
           "Before the last linear layer. auto: as the backbone's authors train it: 0.4 for kind plsc, else 0.",
           {"0, fixed", ".4, fixed (1.x)"})
      .key(
          "sync_batch_norm", &ModelConfig::sync_batch_norm, sync_batch_norm(),
          "Batch statistics over all ranks: the loss curve then does not depend on their number. A number: over groups "
          "of so many consecutive ranks, which must divide the ranks; the curve is that of any ranks with as many "
          "images a group. false: of each rank's own images. The running statistics are merged over all ranks in any "
          "case.")
      .key(
          "recompute", &ModelConfig::recompute, list_of(text(), true),
          "Parts of the backbone (stem, layer1, layer2, ...; or all) of whose blocks the inputs alone are kept for the "
          "backward pass, which computes the rest again: less memory for activations, at the price of a second forward "
          "pass of these parts. Weights and losses are the same to the last bit (on a GPU with train.deterministic).",
          {"iresnet.py: using_ckpt", ""});
  Section<InitConfig>(fields, "init.", [](Config& c) -> InitConfig& { return c.init; })
      .key("from", &InitConfig::from, text_or_none(),
           "Start from these weights, at step 0: a checkpoint folder (of any number of ranks) or a .safetensors file.",
           {"", "checkpoint_dir, Global.pretrained_model"})
      .key("head", &InitConfig::head, one_of({"auto", "true", "false"}),
           "Take the class centres too. auto: where the classes are known to be the same ones, by name, by "
           "head.class_map, or, without names, where there are as many; new ones start at random.")
      .key("freeze", &InitConfig::freeze, list_of(text()),
           "Parts of the backbone that do not train: stem, layer1, layer2, ..., tail (what makes the embedding).");
  Section<HeadConfig> head(fields, "head.", [](Config& c) -> HeadConfig& { return c.head; });
  head.key(
          "kind", &HeadConfig::kind, one_of({"margin", "d_softmax", "linear"}),
          "margin: a softmax on scaled cosines, with a margin; d_softmax (Softmax Dissection): on the same, but with "
          "the target and the others apart: ln(1 + e^(s d) / e^(s cos y)) + ln(1 + sum of e^(s cos j), j not y), where "
          "d is termination, and margin and gradient must be left out; sampling thins the second term (D-Softmax-K). "
          "linear: on x . w + b with nothing normalised, as PLSC's dist_softmax: margin, scale, termination, gradient "
          "and interclass_filter must be left out then, and optimizer.decay_norms is true.")
      .key("classes", &HeadConfig::classes, zero_is("auto", whole(1)), "auto: as many as the data has.",
           {"num_classes", "class_num, Model.class_num"})
      .key("margin", &HeadConfig::margin, margin(),
           "On the target's angle: cos(m1 theta + m2) - m3. arcface {1, .5, 0}, cosface {1, 0, .4}, sphereface {1.35, "
           "0, 0}, none {1, 0, 0}; or a mapping, in which what is left out is m1: 1, m2: 0, m3: 0.",
           {"margin_list", "loss_type, Loss.MarginLoss"})
      .key("scale", &HeadConfig::scale, number(above(0)), "Of the cosines: s.", {"64, fixed", "MarginLoss.s"})
      .key("termination", &HeadConfig::termination, number({-1, 2}),
           "d_softmax: a target is pulled nearer until its cosine is well above this: d. Above 1: always.")
      .key("gradient", &HeadConfig::gradient, one_of({"exact", "straight_through"}),
           "Of the margin. straight_through: as arcface_torch's ArcFace computes it since 2022.");
  add_sampling_fields(fields);
  head.key("update", &HeadConfig::update, one_of({"dense", "lazy"}),
           "Rows that were not sampled. dense: decay and coast on their momentum exactly as in dense SGD, LARS or "
           "AdamW, at sparse cost (not LAMB); lazy: rest.",
           {"dense", "sparse_update"})
      .key("interclass_filter", &HeadConfig::interclass_filter, absent_is("off", number({-1, 1})),
           "Negatives with a cosine above this count as cosine 0: for noisy labels.",
           {"interclass_filtering_threshold", ""})
      .key("init_std", &HeadConfig::init_std, zero_is("xavier", number(above(0))),
           "Of the random class centres; xavier: sqrt(2 / (classes + embedding_size)).",
           {"0.01, fixed", "0.01, fixed (xavier in 1.x)"});
  head.key("class_map", &HeadConfig::class_map, text_or_none(),
           "A file of lines OLD<TAB>NEW: a class of the checkpoint that has another name now (without names, another "
           "number), or - for one to leave out. Classes that only came need no line.");
  Section<StoreConfig>(fields, "head.store.", [](Config& c) -> StoreConfig& { return c.head.store; })
      .key("tier", &StoreConfig::tier, one_of({"device", "host"}),
           "Whose memory the class centres and their momentum are in. host: as many classes as that holds, over all "
           "ranks of a host; a GPU then has the rows of a sampled step twice in its own, and fetches the next step's "
           "meanwhile. The same results.")
      .key("dtype", &StoreConfig::dtype, one_of({"fp32", "bf16"}),
           "Of the class centres in memory. bf16: half of their memory; updates are rounded at random, up or down, so "
           "that small ones count on average.")
      .key("momentum", &StoreConfig::momentum, one_of({"fp32", "bf16"}),
           "Of the class centres' momentum, in the same way.");
}

}  // namespace plsc
