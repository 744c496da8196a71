// Chooses the checkpoint that a training goes on from, and restores it.
#include "app/resume.h"

#include <fmt/ranges.h>

#include <sstream>

#include "base/error.h"
#include "config/step_map.h"
#include "optim/optimizer.h"
#include "train/init_weights.h"

namespace plsc {
namespace {

constexpr const char* kNoneIsOfUse =
    "mend it, name another with --resume DIR, or start anew with --resume none (what is there moves aside)";

/// The checkpoints to resume from, the last one first to be tried; the same on every rank. None: a new start.
std::vector<std::string> choose_checkpoints(Context& context, const std::string& resume, const std::string& output) {
  if (resume == "none") return {};
  if (resume != "auto") return {resume};
  std::string lines;
  on_rank_0(context, [&] {
    const CheckpointList list = list_checkpoints(output);
    for (const std::string& why : list.rejected)
      context.log.warn("not resuming from a checkpoint that is not whole: {}", why);
    if (list.whole.empty() && !list.rejected.empty()) {
      // To begin again at step 0 without a word would cost the user the run so far.
      fail_hint(kNoneIsOfUse, "{} holds {} checkpoint(s), and none can be used; the newest: {}", output,
                list.rejected.size(), list.rejected.back());
    }
    for (const std::string& folder : list.whole) lines += folder + '\0';
  });
  std::istringstream text(broadcast_text(context.host, lines));
  std::vector<std::string> folders;
  for (std::string folder; std::getline(text, folder, '\0');) folders.push_back(folder);
  return folders;
}

/// What the bits of a step depend on; with exact sums and common statistics neither on ranks nor on threads.
std::string bits_depend_on(const RunMeta& meta, bool exact) {
  const std::string versions = ", " + meta.versions;
  if (!exact) return fmt::format("{} rank(s), {}", meta.ranks, meta.device) + versions;
  return meta.device.substr(meta.device.rfind(", ") + 2) + versions;  // the instruction set
}

void warn_of_differences(Context& context, const Config& config, const RunMeta& stored, const RunMeta& now,
                         int64_t step) {
  const bool exact = context.sums_in_double && config.model.sync_batch_norm.all_ranks();
  const std::string then = bits_depend_on(stored, exact), today = bits_depend_on(now, exact);
  if (then != today) {
    context.log.warn("resuming, but not bit for bit: the checkpoint was written by {}; this run has {}", then, today);
  }
  try {
    const Config before = parse_config(stored.config, "the checkpoint's configuration").config;
    if (const auto changed = training_differences(before, config); !changed.empty()) {
      context.log.warn("changed since the checkpoint: {}", fmt::join(changed, ", "));
    }
  } catch (const Error& e) {  // of another version: no reason not to resume
    context.log.warn("cannot say what has changed since the checkpoint: {}", e.what());
  }
  if (stored.samples != now.samples || stored.global_batch != now.global_batch) {
    context.log.warn(
        "{} samples in batches of {} now, {} in batches of {} in the checkpoint: epochs are counted anew from "
        "the step number",
        now.samples, now.global_batch, stored.samples, stored.global_batch);
  } else if (const int64_t images = step_map(config.train, now.samples, now.global_batch).images(step),
             before = stored.images.value_or(step * stored.global_batch);  // the batch never grew before it was stored
             before != images) {
    context.log.warn(
        "the batch grows otherwise now: {} steps are of {} images, and were of {} in the checkpoint; epochs are "
        "counted anew from the step number",
        step, images, before);
  }
}

int64_t start(Context& context, const Config& config, const Fresh& fresh) {
  Backbone& backbone = *fresh.model.backbone;
  MarginHead& head = *fresh.model.head;
  if (!config.head.class_map.empty() && config.init.from.empty())
    context.log.warn("head.class_map: {} is not used: there is no checkpoint to go on from", config.head.class_map);
  fresh.folder.set_aside_earlier_run(context);
  if (context.loss_scaling) set_loss_scale(context.backend, {math::kFirstLossScale, 0});
  if (!config.init.from.empty()) {
    init_weights(context, config, backbone, head, fresh.class_names);
  } else {
    backbone.init(context);
    head.init();
  }
  return 0;
}

/// AgreedDamage leaves the model as restore_state does.
int64_t resume_from(Context& context, const std::string& folder, const Config& config, const Fresh& fresh,
                    const RunMeta& meta) {
  Backbone& backbone = *fresh.model.backbone;
  MarginHead& head = *fresh.model.head;
  std::unique_ptr<CheckpointReader> reader;
  RunMeta stored;
  ClassMap classes;
  read_together(context, [&] {
    reader = CheckpointReader::open(folder);
    stored = RunMeta::from_json(reader->meta(), folder);
    classes = plan_classes(*reader, config.head, {head.shard().total, fresh.class_names}, Leaving::error);
    require_same_optimizer(*reader, config.optimizer);
  });
  restore_state(context, *reader, backbone, head, classes);
  if (config.train.ema.decay > 0 && !restore_averages(context, *reader, backbone)) {
    context.log.info("{} holds no averaged weights: the average begins with the weights that are in it", folder);
  }
  set_updates(context.backend, stored.updates.value_or(reader->step()));
  if (!classes.same()) context.log.warn("classes changed since the checkpoint: {}", classes.text());
  if (context.loss_scaling) {
    // Where the run was not in fp16 before, the search for the scale begins here.
    set_loss_scale(context.backend, stored.loss_scale.value_or(math::LossScale{math::kFirstLossScale, 0}));
  }
  warn_of_differences(context, config, stored, meta, reader->step());
  context.log.info("resuming from {}: step {} of {}", folder, reader->step(), meta.total_steps);
  return reader->step();
}

/// What an abandoned past left behind must not be what `--resume auto` finds next, nor count as a checkpoint to keep.
void leave_later_ones(Context& context, const std::string& output, int64_t step, bool damaged) {
  on_rank_0(context, [&] {
    for (const std::string& name : set_aside_later(output, step)) {
      if (damaged) {
        context.log.warn(
            "{0} is now in checkpoints/set_aside: delete it, or mend it from a backup and go on from it with --resume "
            "{1}/set_aside/{0}",
            name, checkpoints_folder(output));
      } else {
        context.log.warn("{} is of a later step: it is now in checkpoints/set_aside", name);
      }
    }
  });
}

}  // namespace

int64_t start_or_resume(Context& context, const std::string& resume, const Config& config, const Fresh& fresh,
                        const RunMeta& meta) {
  const std::vector<std::string> folders = choose_checkpoints(context, resume, config.output);
  std::string newest_damage;
  for (auto folder = folders.rbegin(); folder != folders.rend(); ++folder) {
    try {
      const int64_t step = resume_from(context, *folder, config, fresh, meta);
      if (resume != "auto" || !newest_damage.empty())
        leave_later_ones(context, config.output, step, !newest_damage.empty());
      return step;
    } catch (const AgreedDamage& e) {
      if (resume != "auto") throw;
      const std::string found = without_hint(e.what());
      if (newest_damage.empty()) newest_damage = found;
      context.log.warn("not resuming from {}: {}", *folder, found);
      // A part of it is restored: the next one may not have all that it has.
      if (std::next(folder) != folders.rend()) fresh.renew();
    }
  }
  if (folders.empty()) return start(context, config, fresh);
  agree_or_fail(context.host, Error(fmt::format("{} holds {} checkpoint(s), and none can be used; the newest: {}",
                                                config.output, folders.size(), newest_damage),
                                    kNoneIsOfUse)
                                  .what());
  return 0;
}

}  // namespace plsc
