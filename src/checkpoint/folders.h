// The folder output/checkpoints: its names, its changes (publish, prune, clean up), each safe against a crash half-way.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "checkpoint/checkpoint.h"

namespace plsc {

constexpr const char* kManifestName = "manifest.json";
constexpr const char* kLatestName = "latest";  // a text file: the name of the newest checkpoint

std::optional<int64_t> step_of(const std::string& name);  // the reverse of step_name; nothing for other names
std::string temporary_name(int64_t step);                 // .tmp.step_00001200

/// Creates output/checkpoints and removes what a crash left in it: only names of our own pattern.
void prepare_checkpoints_folder(const std::string& root);

/// Error when fewer than `bytes` are free where `root` lies.
void require_free_space(const std::string& root, int64_t bytes);

/// Gives root/.tmp.step_X its final name. A step_X that is there already is replaced: at no moment is there none.
void publish(const std::string& root, int64_t step);

/// Removes whole checkpoints that `keep` does not protect, and never `written`. What cannot be removed is a warning.
void prune(const std::string& output, int64_t written, const KeepPolicy& keep, Log& log);

/// Without an exception, for clean-up after an error.
void remove_quietly(const std::string& path) noexcept;

}  // namespace plsc
