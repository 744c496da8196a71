// The run directory: its lock, and the files that say what ran. All ranks construct it; rank 0 writes.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/files.h"
#include "config/config.h"
#include "runtime/context.h"

namespace plsc {

class RunFolder {
 public:
  /// Makes `config.output`, locks it against a second run, and opens train.log on every rank.
  /// Error on every rank when the folder is in use or cannot be written.
  RunFolder(Context& context, const Config& config);

  /// config.yaml, the effective configuration: once the run is accepted, so that a refused one leaves the last.
  void write_config(Context& context, const Config& config);
  /// The class-name map (classes.txt: "id<TAB>name"), for sources that know names; an earlier run's goes.
  void write_class_names(Context& context, const std::vector<std::string>& names);
  /// run.json: versions, hosts, ranks; one entry is appended for each start.
  void write_versions(Context& context, const std::string& versions, const std::vector<std::string>& hosts);
  /// Moves what an earlier run left (checkpoints, metrics) aside, as *.1, *.2, ..., for a run that starts at step 0.
  void set_aside_earlier_run(Context& context);

 private:
  std::string path_;
  std::unique_ptr<FileLock> lock_;  // rank 0
};

inline void on_rank_0(Context& context, const std::function<void()>& work) { on_rank_0(context.host, work); }

}  // namespace plsc
