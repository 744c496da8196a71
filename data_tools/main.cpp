// plsc-data: makes, packs, pairs and inspects image sets. Errors are printed once, here.
#include <cstdio>

#include "base/error.h"
#include "commands.h"

int main(int argc, char** argv) {
  plsc::Log log;
  CLI::App app("Makes, packs and inspects the image sets that plsc-train trains and evaluates on.");
  app.name("plsc-data");
  app.require_subcommand(1);
  app.footer(
      "Examples:\n"
      "  plsc-data synth --output data/glyphs\n"
      "  plsc-data pack --input photos --output data/train.rec\n"
      "  plsc-data pairs --input data/glyphs/verify --output pairs.txt --count 6000\n"
      "  plsc-data inspect --input data/train.rec --verify --sheet sheet.png\n"
      "Each command explains itself: plsc-data COMMAND --help");
  try {
    plsc::add_synth_command(app, log);
    plsc::add_pack_command(app, log);
    plsc::add_pairs_command(app, log);
    plsc::add_inspect_command(app, log);
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "plsc-data: error: %s\n", error.what());
    return 1;
  }
  return 0;
}
