// plsc-data synth: a many-class set of procedural glyphs, with classes held out for verification.
#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/threads.h"
#include "commands.h"
#include "data/encode.h"
#include "data/glyphs.h"
#include "data/pairs.h"
#include "data/progress.h"
#include "data/record_pack.h"

namespace plsc {
namespace {

namespace fs = std::filesystem;

struct SynthOptions {
  std::string output, sheet;
  int64_t classes = 600, images = 20, held_out = 100, pairs = 3000;
  GlyphStyle style;
  bool rec = false, jpeg = false;
};

std::string image_path(const SynthOptions& o, int64_t glyph, int64_t image) {
  return fmt::format("glyph_{:06d}/{:04d}.{}", glyph, image, o.jpeg ? "jpg" : "png");
}

/// Writes glyphs [begin, end) below `folder`, one sub-folder a glyph.
void write_glyphs(const SynthOptions& o, const fs::path& folder, int64_t begin, int64_t end, Log& log) {
  if (fs::exists(folder) && !fs::is_empty(folder)) {
    fail_hint("choose another --output, or remove it", "{}: the folder is not empty", folder.string());
  }
  fs::create_directories(folder);
  Progress progress(&log, "drawing " + folder.string(), (end - begin) * o.images);
  parallel_ranges(end - begin, available_cores(), [&](int64_t from, int64_t to, int) {
    for (int64_t glyph = begin + from; glyph < begin + to; ++glyph) {
      fs::create_directory(folder / fmt::format("glyph_{:06d}", glyph));
      for (int64_t image = 0; image < o.images; ++image) {
        const Pixels pixels = draw_glyph(o.style, glyph, image);
        const auto bytes = o.jpeg ? encode_jpeg(pixels, 95) : encode_png(pixels);
        write_file_bytes((folder / image_path(o, glyph, image)).string(), bytes);
        progress.add();
      }
    }
  });
}

/// Balanced pairs of the held-out glyphs: as many as asked for, or as there are.
int64_t write_pairs(const SynthOptions& o) {
  std::vector<int64_t> labels;
  std::vector<std::string> names;
  for (int64_t glyph = o.classes; glyph < o.classes + o.held_out; ++glyph) {
    for (int64_t image = 0; image < o.images; ++image) {
      labels.push_back(glyph);
      names.push_back(image_path(o, glyph, image));
    }
  }
  const int64_t alike = o.held_out * (o.images * (o.images - 1) / 2);
  const int64_t count = std::min(o.pairs, 2 * alike);
  const auto pairs = choose_pairs(labels, count, o.style.seed);
  save_pairs((fs::path(o.output) / "pairs.txt").string(), names, pairs,
             fmt::format("{} pairs of {} glyphs; folder: verify", count, o.held_out));
  return count;
}

/// One row a glyph, ten glyphs.
void write_sheet(const SynthOptions& o) {
  std::vector<Pixels> tiles;
  const int64_t columns = std::min<int64_t>(o.images, 16);
  for (int64_t glyph = 0; glyph < std::min<int64_t>(10, o.classes); ++glyph) {
    for (int64_t image = 0; image < columns; ++image) tiles.push_back(draw_glyph(o.style, glyph, image));
  }
  write_file_bytes(o.sheet, encode_png(contact_sheet(tiles, columns, std::max<int64_t>(o.style.size, 32))));
}

void pack_training(const SynthOptions& o, Log& log) {
  const fs::path folder = fs::path(o.output) / "train";
  const auto source = open_source(std::vector<std::string>{folder.string()}, &log);
  PackOptions pack;
  pack.output = (fs::path(o.output) / "train.rec").string();
  pack.seed = o.style.seed;
  pack_records(*source, pack, &log);
  fs::remove_all(folder);
}

void synth(const SynthOptions& o, Log& log) {
  if (o.held_out > 0 && o.images < 2) fail("--images-per-class {}: pairs of one class need two images", o.images);
  if (o.held_out == 1) fail("--held-out 1: pairs of two classes need two");
  const fs::path root = o.output;
  write_glyphs(o, root / "train", 0, o.classes, log);
  if (o.rec) pack_training(o, log);
  log.info("{}: {} images of {} classes", (root / (o.rec ? "train.rec" : "train")).string(), o.classes * o.images,
           o.classes);
  if (o.held_out > 0) {
    write_glyphs(o, root / "verify", o.classes, o.classes + o.held_out, log);
    const int64_t count = write_pairs(o);
    log.info("{}: {} images of {} other classes; {}: {} pairs", (root / "verify").string(), o.held_out * o.images,
             o.held_out, (root / "pairs.txt").string(), count);
  }
  if (!o.sheet.empty()) {
    write_sheet(o);
    log.info("{}: a look at the first classes, a row each", o.sheet);
  }
}

}  // namespace

void add_synth_command(CLI::App& app, Log& log) {
  auto* command = app.add_subcommand("synth", "make a many-class image set of procedural glyphs");
  auto o = std::make_shared<SynthOptions>();
  command->add_option("-o,--output", o->output, "folder to write: train/, verify/, pairs.txt")->required();
  command->add_option("--classes", o->classes, "training classes")
      ->capture_default_str()
      ->check(CLI::Range(1, 10000000));
  command->add_option("--images-per-class", o->images, "images of each class")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  command->add_option("--held-out", o->held_out, "further classes, for verification alone")
      ->capture_default_str()
      ->check(CLI::Range(0, 1000000));
  command->add_option("--pairs", o->pairs, "verification pairs, half of them of one class")
      ->capture_default_str()
      ->check(CLI::Range(2, 10000000));
  command->add_option("--size", o->style.size, "height and width in pixels")
      ->capture_default_str()
      ->check(CLI::Range(8, 1024));
  command->add_option("--channels", o->style.channels, "1: grey, 3: coloured ink and paper")
      ->capture_default_str()
      ->check(CLI::IsMember({1, 3}));
  command->add_option("--seed", o->style.seed, "another seed, other glyphs")->capture_default_str();
  command->add_flag("--rec", o->rec, "train.rec instead of a folder train/");
  command->add_flag("--jpeg", o->jpeg, "JPEG files (quality 95) instead of PNG");
  command->add_option("--sheet", o->sheet, "also write a PNG of the first ten classes, to look at");
  command->footer(
      "The same options give the same files.\n"
      "Example: plsc-data synth --output data/glyphs --classes 600 --held-out 100 --sheet glyphs.png\n"
      "  data:  {train: data/glyphs/train, image_size: [32, 32], channels: 1}\n"
      "  eval:  {sets: [{name: glyphs, folder: data/glyphs/verify, pairs: data/glyphs/pairs.txt}]}");
  command->callback([o, &log] { synth(*o, log); });
}

}  // namespace plsc
