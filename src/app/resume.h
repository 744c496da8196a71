// Where a training begins: at step 0, or with what a checkpoint holds.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "config/config.h"
#include "head/margin_head.h"
#include "nn/module.h"
#include "runtime/context.h"
#include "train/run_folder.h"
#include "train/state.h"

namespace plsc {

/// What is trained.
struct Model {
  std::unique_ptr<Backbone> backbone;
  std::unique_ptr<MarginHead> head;
};

/// What a checkpoint is restored into.
struct Fresh {
  Model& model;
  /// Makes `model` anew, as a start finds it. All ranks call it.
  std::function<void()> renew;
  const std::vector<std::string>& class_names;
  RunFolder& folder;
};

/// Restores where there is something to restore, else draws first values; returns the first step to run. `resume`:
/// auto, none or a folder. Where auto's choice turns out to be damaged while it is read, on whatever rank, all go on
/// from the checkpoint before it into a new model, and the damaged one is set aside. All ranks call it.
int64_t start_or_resume(Context& context, const std::string& resume, const Config& config, const Fresh& fresh,
                        const RunMeta& meta);

}  // namespace plsc
