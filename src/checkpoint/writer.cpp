// save_checkpoint: every rank streams its own files; rank 0 then makes them one checkpoint.
#include <filesystem>

#include "base/clock.h"
#include "base/error.h"
#include "base/files.h"
#include "checkpoint/block_file.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/folders.h"
#include "checkpoint/manifest.h"

namespace plsc {
namespace {

namespace fs = std::filesystem;

// One tensor, or this rank's rows of one.
struct Item {
  std::string name;
  Tensor value;
  bool sharded = false;
  int64_t begin = 0, total = 0;
};

// One file that this rank is to write.
struct FilePlan {
  std::string file, group;
  std::vector<Item> items;
  SafetensorsLayout layout;
};

Shape whole_shape(const Item& item) {
  if (!item.sharded) return item.value.shape();
  const auto local = item.value.shape().dims();
  std::vector<int64_t> dims(local.begin(), local.end());
  dims[0] = item.total;
  return Shape(std::span<const int64_t>(dims));
}

FilePlan plan_file(std::string file, std::string group, std::vector<Item> items) {
  FilePlan plan{std::move(file), std::move(group), std::move(items), {}};
  std::vector<TensorSpec> specs;
  for (const Item& item : plan.items) {
    PLSC_CHECK(item.value.defined(), "{} '{}' has no value", plan.group, item.name);
    PLSC_CHECK(!item.sharded ||
                   (item.value.shape().size() > 0 && item.begin >= 0 && item.begin + item.value.dim(0) <= item.total),
               "{} '{}': rows from {} of {}", plan.group, item.name, item.begin, item.total);
    specs.push_back({item.name, item.value.shape(), item.value.dtype()});
  }
  std::map<std::string, std::string> metadata{{"format", "pt"}};
  if (!plan.items.empty() && plan.items[0].sharded) {
    const Item& first = plan.items[0];
    metadata["rows"] = fmt::format("[{}, {}) of {}", first.begin, first.begin + first.value.dim(0), first.total);
  }
  plan.layout = layout_safetensors(specs, metadata);
  return plan;
}

std::vector<Item> whole_items(const std::vector<NamedTensor>& tensors) {
  std::vector<Item> items;
  for (const NamedTensor& t : tensors) items.push_back({t.name, t.value, false, 0, 0});
  return items;
}

std::vector<Item> row_items(const std::vector<NamedRows>& tensors) {
  std::vector<Item> items;
  for (const NamedRows& t : tensors) items.push_back({t.name, t.rows, true, t.begin, t.total});
  return items;
}

std::vector<FilePlan> plan_files(const Context& context, const CheckpointContent& content) {
  std::vector<FilePlan> plans;
  const std::string shard = fmt::format(".{:05d}-of-{:05d}.safetensors", context.rank(), context.ranks());
  if (context.rank() == 0) {
    plans.push_back(plan_file("backbone.safetensors", "backbone", whole_items(content.backbone)));
    if (!content.backbone_ema.empty()) {
      plans.push_back(plan_file("backbone_ema.safetensors", "backbone_ema", whole_items(content.backbone_ema)));
    }
    if (!content.optimizer.empty()) {
      plans.push_back(plan_file("optimizer.safetensors", "optimizer", whole_items(content.optimizer)));
    }
  }
  if (!content.head.empty()) plans.push_back(plan_file("head" + shard, "head", row_items(content.head)));
  if (!content.head_optimizer.empty()) {
    plans.push_back(plan_file("optimizer" + shard, "head_optimizer", row_items(content.head_optimizer)));
  }
  if (!content.compressed.empty())
    plans.push_back(plan_file("compressed" + shard, "compressed", row_items(content.compressed)));
  return plans;
}

std::span<const std::byte> bytes_of(const Tensor& t) { return {static_cast<const std::byte*>(t.raw()), t.bytes()}; }

// Memory of a device goes through one block of host memory, whatever the tensor's size.
void write_tensor(Device& device, const Tensor& value, BlockWriter& writer) {
  if (value.on_host()) {
    writer.write(bytes_of(value));
    return;
  }
  const int64_t chunk = kBlockBytes / static_cast<int64_t>(dtype_size(value.dtype()));
  Tensor staging(host_allocator(), Shape{std::min(chunk, value.elements())}, value.dtype());
  for (int64_t at = 0; at < value.elements(); at += chunk) {
    const Shape part{std::min(chunk, value.elements() - at)};
    Tensor host = staging.slice(0, part);
    device.copy(value.slice(at, part), host);
    device.synchronize();
    writer.write(bytes_of(host));
  }
}

void write_file(Device& device, const FilePlan& plan, const std::string& folder, Manifest& manifest) {
  BlockWriter writer((fs::path(folder) / plan.file).string());
  writer.write(std::as_bytes(std::span<const char>(plan.layout.prefix)));
  for (size_t i : plan.layout.source) write_tensor(device, plan.items[i].value, writer);
  PLSC_CHECK(writer.bytes() == plan.layout.header.file_bytes, "{}: wrote {} of {} bytes", plan.file, writer.bytes(),
             plan.layout.header.file_bytes);
  const int64_t bytes = writer.bytes();
  manifest.files.push_back({plan.file, bytes, writer.finish()});
  for (const Item& item : plan.items) {
    ManifestPart part{plan.file, 0, 0};
    if (item.sharded) part = {plan.file, item.begin, item.begin + item.value.dim(0)};
    manifest.tensors.push_back(
        {plan.group, {item.name, whole_shape(item), item.value.dtype()}, item.sharded, {std::move(part)}});
  }
}

// Runs `work` and gives the message of what it threw: for agree_or_fail.
template <class Work>
std::string error_of(Work&& work) {
  try {
    work();
    return {};
  } catch (const std::exception& e) {
    return e.what();
  }
}

int64_t sum(const std::vector<int64_t>& values) {
  int64_t total = 0;
  for (int64_t v : values) total += v;
  return total;
}

void make_temporary_folder(const std::string& root, const std::string& temporary, int64_t bytes) {
  prepare_checkpoints_folder(root);
  require_free_space(root, bytes);
  std::error_code error;
  fs::create_directory(temporary, error);
  if (error) fail("cannot create {}: {}", temporary, error.message());
}

void write_text_file(const NamedText& text, const std::string& folder, Manifest& manifest) {
  BlockWriter writer((fs::path(folder) / text.file).string());
  writer.write(std::as_bytes(std::span<const char>(text.text)));
  const int64_t bytes = writer.bytes();
  manifest.files.push_back({text.file, bytes, writer.finish()});
}

Manifest write_own_files(const Context& context, const std::vector<FilePlan>& plans,
                         const std::vector<NamedText>& texts, const std::string& temporary) {
  std::error_code error;
  if (!fs::is_directory(temporary, error)) {
    fail_hint("set `output` to a folder on a file system that all nodes share",
              "{} was created by rank 0 and is not visible here", temporary);
  }
  Manifest own;
  context.device().synchronize();
  for (const FilePlan& plan : plans) write_file(context.device(), plan, temporary, own);
  if (context.rank() == 0)
    for (const NamedText& text : texts) write_text_file(text, temporary, own);
  return own;
}

// Rank 0: the manifest comes last, so that a folder with one is whole.
void complete(const std::string& temporary, Manifest& manifest, const std::vector<std::string>& parts) {
  for (const std::string& text : parts) manifest.add(Manifest::parse(text, temporary));
  manifest.check_whole(temporary);
  File file = File::create((fs::path(temporary) / kManifestName).string());
  const std::string text = manifest.to_text();
  file.write(std::as_bytes(std::span<const char>(text)));
  file.sync();
  file.close();
  sync_folder(temporary);
}

int64_t bytes_over_ranks(Context& context, const std::vector<FilePlan>& plans, const CheckpointContent& content) {
  int64_t bytes = 0;
  for (const FilePlan& plan : plans) bytes += plan.layout.header.file_bytes;
  if (context.rank() == 0)
    for (const NamedText& text : content.texts) bytes += static_cast<int64_t>(text.text.size());
  return sum(gather_values(context.host, bytes));
}

void write_and_publish(Context& context, const std::string& root, const CheckpointContent& content) {
  const std::string temporary = (fs::path(root) / temporary_name(content.step)).string();
  const std::vector<FilePlan> plans = plan_files(context, content);
  const int64_t all_bytes = bytes_over_ranks(context, plans, content);

  std::string error;
  if (context.rank() == 0) error = error_of([&] { make_temporary_folder(root, temporary, all_bytes); });
  agree_or_fail(context.host, error);
  try {
    Manifest own;
    agree_or_fail(context.host, error_of([&] { own = write_own_files(context, plans, content.texts, temporary); }));
    const std::vector<std::string> parts = gather_texts(context.host, own.to_text());
    if (context.rank() == 0) {
      error = error_of([&] {
        Manifest manifest;
        manifest.step = content.step;
        manifest.ranks = context.ranks();
        manifest.block_bytes = kBlockBytes;
        if (!content.meta.empty()) manifest.meta = content.meta;
        complete(temporary, manifest, parts);
        publish(root, content.step);
      });
    }
    agree_or_fail(context.host, error);
  } catch (...) {
    if (context.rank() == 0) remove_quietly(temporary);
    throw;
  }
}

}  // namespace

std::string save_checkpoint(Context& context, const std::string& output, const CheckpointContent& content,
                            const KeepPolicy& keep) {
  PLSC_CHECK(content.step >= 0, "step {}", content.step);
  const std::string root = checkpoints_folder(output);
  write_and_publish(context, root, content);
  if (context.rank() == 0) {  // the checkpoint is safe: what fails from here on is no reason to stop
    const std::string late = error_of([&] {
      write_text_atomically((fs::path(root) / kLatestName).string(), step_name(content.step) + "\n");
      prune(output, content.step, keep, context.log);
    });
    if (!late.empty()) context.log.warn("after writing {}: {}", step_name(content.step), late);
  }
  return (fs::path(root) / step_name(content.step)).string();
}

void require_checkpoint_space(Context& context, const std::string& output, const CheckpointContent& content) {
  const std::string root = checkpoints_folder(output);
  const int64_t bytes = bytes_over_ranks(context, plan_files(context, content), content);
  std::string error;
  if (context.rank() == 0) {
    error = error_of([&] {
      prepare_checkpoints_folder(root);
      require_free_space(root, bytes);
    });
  }
  agree_or_fail(context.host, error);
}

}  // namespace plsc
