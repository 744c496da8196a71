// Names and crash-safe changes of output/checkpoints.
#include "checkpoint/folders.h"

#include <fcntl.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "base/clock.h"
#include "base/error.h"
#include "base/files.h"

namespace plsc {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTemporary = ".tmp.";  // being written, or being removed
constexpr const char* kReplaced = ".old.";   // renamed away while its successor takes its place

std::string replaced_name(int64_t step) { return kReplaced + step_name(step); }

// The step of "<prefix>step_N".
std::optional<int64_t> step_after(const std::string& name, const std::string& prefix) {
  if (name.compare(0, prefix.size(), prefix) != 0) return std::nullopt;
  return step_of(name.substr(prefix.size()));
}

[[noreturn]] void fail_rename(const std::string& from, const std::string& to) {
  fail("cannot rename {} to {}: {}", from, to, std::strerror(errno));
}

void rename_or_fail(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) fail_rename(from, to);
}

bool exchange(const std::string& a, const std::string& b) {
  return ::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0;
}

struct Candidate {
  int64_t step;
  std::string name;
};

// The folders that may be checkpoints, by step. A replaced one counts only while its successor is missing.
std::vector<Candidate> candidates(const std::string& root) {
  std::vector<Candidate> found;
  std::error_code error, ignored;
  const fs::directory_iterator entries(root, error);
  if (error && error != std::errc::no_such_file_or_directory) {
    fail_hint("make it readable, or choose another `output`", "cannot list the checkpoints in {}: {}", root,
              error.message());
  }
  for (const auto& entry : entries) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_directory(ignored)) continue;
    if (const auto step = step_of(name)) found.push_back({*step, name});
    const auto replaced = step_after(name, kReplaced);
    if (replaced && !fs::exists(fs::path(root) / step_name(*replaced), ignored)) found.push_back({*replaced, name});
  }
  std::sort(found.begin(), found.end(), [](const Candidate& a, const Candidate& b) { return a.step < b.step; });
  return found;
}

}  // namespace

std::string checkpoints_folder(const std::string& output) { return (fs::path(output) / "checkpoints").string(); }

std::string step_name(int64_t step) { return fmt::format("step_{:08d}", step); }

std::optional<int64_t> step_of(const std::string& name) {
  constexpr std::string_view kPrefix = "step_";
  if (name.size() <= kPrefix.size() || name.compare(0, kPrefix.size(), kPrefix) != 0) return std::nullopt;
  int64_t step = -1;
  const auto [end, error] = std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), step);
  if (error != std::errc() || step < 0 || end != name.data() + name.size() || step_name(step) != name) {
    return std::nullopt;
  }
  return step;
}

std::string temporary_name(int64_t step) { return kTemporary + step_name(step); }

void remove_quietly(const std::string& path) noexcept {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

void prepare_checkpoints_folder(const std::string& root) {
  std::error_code error;
  fs::create_directories(root, error);
  if (error) fail("cannot create {}: {}", root, error.message());
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(root, error)) names.push_back(entry.path().filename().string());
  if (error) fail("cannot list {}: {}", root, error.message());
  for (const std::string& name : names) {
    const std::string path = (fs::path(root) / name).string();
    if (step_after(name, kTemporary)) remove_quietly(path);
    if (const auto step = step_after(name, kReplaced)) {
      const std::string successor = (fs::path(root) / step_name(*step)).string();
      if (fs::exists(successor, error)) {
        remove_quietly(path);
      } else {
        rename_or_fail(path, successor);
      }
    }
  }
}

void require_free_space(const std::string& root, int64_t bytes) {
  struct statvfs info {};
  if (::statvfs(root.c_str(), &info) != 0 || info.f_blocks == 0) return;  // the file system does not say
  const double available = static_cast<double>(info.f_bavail) * static_cast<double>(info.f_frsize);
  if (available < static_cast<double>(bytes)) {
    fail_hint("free some space, lower checkpoint.keep, or set `output` to a larger disk",
              "no space for a checkpoint in {}: it needs {}, {} are free", root,
              human_bytes(static_cast<double>(bytes)), human_bytes(available));
  }
}

void publish(const std::string& root, int64_t step) {
  const auto path = [&](const std::string& name) { return (fs::path(root) / name).string(); };
  const std::string temporary = path(temporary_name(step)), final_path = path(step_name(step));
  std::error_code ignored;
  if (!fs::exists(final_path, ignored)) {
    rename_or_fail(temporary, final_path);
    sync_folder(root);
  } else if (exchange(temporary, final_path)) {
    sync_folder(root);
    remove_quietly(temporary);  // now the old one
  } else {                      // not every file system exchanges names (NFS): by way of a third name
    const std::string replaced = path(replaced_name(step));
    rename_or_fail(final_path, replaced);
    rename_or_fail(temporary, final_path);
    sync_folder(root);
    remove_quietly(replaced);
  }
}

void prune(const std::string& output, int64_t written, const KeepPolicy& keep, Log& log) {
  if (keep.keep <= 0) return;
  const std::string root = checkpoints_folder(output);
  const CheckpointList list = list_checkpoints(output);
  for (const std::string& reason : list.rejected) log.warn("not a whole checkpoint, left alone: {}", reason);
  int64_t newest = 0;
  for (auto it = list.whole.rbegin(); it != list.whole.rend(); ++it) {
    const auto step = step_of(fs::path(*it).filename().string());
    if (!step || newest++ < keep.keep || *step == written || keep.best_step == step) continue;
    if (keep.keep_every > 0 && *step % keep.keep_every == 0) continue;
    // Out of the way under one rename, so that a crash leaves no half of a checkpoint that looks like one.
    const std::string doomed = (fs::path(root) / temporary_name(*step)).string();
    std::error_code error;
    fs::rename(*it, doomed, error);
    if (!error) fs::remove_all(doomed, error);
    if (error) log.warn("cannot remove the old checkpoint {}: {}", *it, error.message());
  }
}

std::vector<std::string> set_aside_later(const std::string& output, int64_t step) {
  const fs::path root = checkpoints_folder(output), aside = root / "set_aside";
  std::vector<std::string> moved;
  for (const Candidate& c : candidates(root.string())) {
    if (c.step <= step) continue;
    std::error_code error;
    fs::create_directory(aside, error);
    if (error) fail("cannot create {}: {}", aside.string(), error.message());
    const fs::path to = aside / step_name(c.step);
    fs::remove_all(to, error);  // of an earlier time
    rename_or_fail((root / c.name).string(), to.string());
    moved.push_back(step_name(c.step));
  }
  if (moved.empty()) return moved;
  const std::string latest = (root / kLatestName).string();
  if (const auto whole = list_checkpoints(output).whole; whole.empty()) {
    remove_quietly(latest);
  } else {
    write_text_atomically(latest, fs::path(whole.back()).filename().string() + "\n");
  }
  sync_folder(root.string());
  return moved;
}

CheckpointList list_checkpoints(const std::string& output) {
  CheckpointList list;
  const std::string root = checkpoints_folder(output);
  for (const Candidate& c : candidates(root)) {
    const std::string path = (fs::path(root) / c.name).string();
    try {
      const auto reader = CheckpointReader::open(path);
      if (reader->step() != c.step) fail("{}: its manifest is of step {}", path, reader->step());
      list.whole.push_back(path);
    } catch (const Error& e) {
      list.rejected.push_back(without_hint(e.what()));
    }
  }
  return list;
}

}  // namespace plsc
