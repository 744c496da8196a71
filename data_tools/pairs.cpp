// plsc-data pairs: balanced verification pairs of a folder's images.
#include "data/pairs.h"

#include <filesystem>

#include "base/error.h"
#include "commands.h"

namespace plsc {
namespace {

struct PairsCommand {
  std::string input, output;
  int64_t count = 6000;
  uint64_t seed = 1;
};

void make_pairs(const PairsCommand& o, Log& log) {
  if (!std::filesystem::is_directory(o.input)) fail("{}: expected an image folder", o.input);
  const auto source = open_source(std::vector<std::string>{o.input}, &log);
  if (source->classes() < 2) fail("{}: expected sub-folders of several classes", source->description());
  std::vector<int64_t> labels;
  std::vector<std::string> names;
  for (int64_t i = 0; i < source->size(); ++i) {
    labels.push_back(source->label(i));
    names.push_back(source->name(i));
  }
  const auto pairs = choose_pairs(labels, o.count, o.seed);
  save_pairs(o.output, names, pairs,
             fmt::format("{} pairs of {}, seed {}", pairs.size(), source->description(), o.seed));
  log.info("{}: {} pairs of {} images of {} classes", o.output, pairs.size(), source->size(), source->classes());
}

}  // namespace

void add_pairs_command(CLI::App& app, Log& log) {
  auto* command = app.add_subcommand("pairs", "choose balanced verification pairs of an image folder");
  auto o = std::make_shared<PairsCommand>();
  command->add_option("-i,--input", o->input, "folder of class folders")->required();
  command->add_option("-o,--output", o->output, "text file: `path <tab> path <tab> 0|1` a line")->required();
  command->add_option("--count", o->count, "pairs, half of them of one class")
      ->capture_default_str()
      ->check(CLI::Range(2, 100000000));
  command->add_option("--seed", o->seed, "another seed, other pairs")->capture_default_str();
  command->footer(
      "Example: plsc-data pairs --input data/verify --output data/pairs.txt --count 6000\n"
      "  eval: {sets: [{name: mine, folder: data/verify, pairs: data/pairs.txt}]}");
  command->callback([o, &log] { make_pairs(*o, log); });
}

}  // namespace plsc
