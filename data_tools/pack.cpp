// plsc-data pack: folders and lists into .rec files, pairs into a verification .bin.
#include <filesystem>

#include "base/clock.h"
#include "base/error.h"
#include "commands.h"
#include "data/record_pack.h"

namespace plsc {
namespace {

struct PackCommand {
  std::vector<std::string> input;
  std::string pairs;
  PackOptions pack;
  bool bin = false;
};

void pack_bin(const PackCommand& o, Log& log) {
  if (o.pairs.empty() || o.input.size() != 1) fail("pack --bin: expected one --input folder and its --pairs file");
  const PairList pairs = load_pairs(o.pairs, o.input[0]);
  pack_verification_bin(pairs, o.pack.output);
  log.info("{}: {} pairs of {} images", o.pack.output, pairs.pairs.size(), pairs.paths.size());
}

void pack(PackCommand o, Log& log) {
  if (o.bin) return pack_bin(o, log);
  if (!o.pairs.empty()) fail("--pairs goes with --bin");
  if (std::filesystem::is_directory(o.pack.output)) {
    o.pack.output = (std::filesystem::path(o.pack.output) / "train.rec").string();
  }
  const auto source = open_source(o.input, &log);
  log.info("{}", source->description());
  const PackResult result = pack_records(*source, o.pack, &log);
  log.info("{}: {} images of {} classes, {}; with .idx and .property", o.pack.output, result.images, result.classes,
           human_bytes(static_cast<double>(result.bytes)));
}

}  // namespace

void add_pack_command(CLI::App& app, Log& log) {
  auto* command =
      app.add_subcommand("pack", "pack images into .rec, .idx and .property, or pairs into a verification .bin");
  auto o = std::make_shared<PackCommand>();
  command->add_option("-i,--input", o->input, "image folder, list file or .rec (several are merged)")->required();
  command->add_option("-o,--output", o->pack.output, "the .rec (or a folder: train.rec in it); with --bin the .bin")
      ->required();
  command->add_flag("--shuffle,!--no-shuffle", o->pack.shuffle,
                    "mix the classes (default), for readers that go through the file in order; --no-shuffle groups by "
                    "class and writes InsightFace's header and identity records");
  command->add_option("--seed", o->pack.seed, "of the shuffle")->capture_default_str();
  command
      ->add_option("--quality", o->pack.quality,
                   "encode again as JPEG of this quality (default: the bytes as they are)")
      ->check(CLI::Range(1, 100));
  command->add_flag("--bin", o->bin, "make an InsightFace verification .bin of --pairs");
  command->add_option("--pairs", o->pairs, "pair file (plsc-data pairs, or LFW's pairs.txt)");
  command->footer(
      "Examples:\n"
      "  plsc-data pack --input photos --output data/train.rec\n"
      "  plsc-data pack --input list.txt --output data/train.rec --no-shuffle\n"
      "  plsc-data pack --bin --input lfw --pairs lfw/pairs.txt --output lfw.bin");
  command->callback([o, &log] { pack(*o, log); });
}

}  // namespace plsc
