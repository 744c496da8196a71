#include "train/run_folder.h"

#include <chrono>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "train/state.h"

namespace plsc {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

std::string utc_now() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

std::string move_aside(const fs::path& path) {
  for (int n = 1;; ++n) {
    const fs::path target = path.string() + "." + std::to_string(n);
    if (fs::exists(target)) continue;
    fs::rename(path, target);
    return target.string();
  }
}

}  // namespace

RunFolder::RunFolder(Context& context, const Config& config) : path_(config.output) {
  on_rank_0(context, [&] {
    std::error_code code;
    fs::create_directories(path_, code);
    if (code) fail_hint("choose another `output`", "cannot make the run directory {}: {}", path_, code.message());
    lock_ = std::make_unique<FileLock>(path_ + "/.lock");
  });
  std::string error;
  try {
    context.log.open_file(path_ + "/train.log");
  } catch (const std::exception& e) {
    error = e.what();  // another host that does not see the folder
  }
  agree_or_fail(context.host, error);
}

void RunFolder::write_config(Context& context, const Config& config) {
  on_rank_0(context, [&] { write_text_atomically(path_ + "/config.yaml", to_yaml(config)); });
}

void RunFolder::write_class_names(Context& context, const std::vector<std::string>& names) {
  on_rank_0(context, [&] {
    const std::string file = path_ + "/classes.txt";
    std::error_code ignored;
    if (names.empty()) {
      fs::remove(file, ignored);
    } else {
      write_text_atomically(file, class_names_text(names));
    }
  });
}

void RunFolder::write_versions(Context& context, const std::string& versions, const std::vector<std::string>& hosts) {
  on_rank_0(context, [&] {
    const std::string file = path_ + "/run.json";
    Json starts = fs::exists(file) ? Json::parse(read_text(file), nullptr, false) : Json::array();
    if (!starts.is_array()) starts = Json::array();
    starts.push_back({{"started", utc_now()},
                      {"versions", versions},
                      {"device", context.device().description()},
                      {"ranks", context.ranks()},
                      {"hosts", hosts}});
    write_text_atomically(file, starts.dump(2) + "\n");
  });
}

void RunFolder::set_aside_earlier_run(Context& context) {
  on_rank_0(context, [&] {
    for (const char* name : {"checkpoints", "metrics.jsonl"}) {
      std::error_code absent;
      if (fs::is_empty(fs::path(path_) / name, absent) || absent) continue;
      context.log.warn("starting at step 0: {} of an earlier run is now {}", name, move_aside(fs::path(path_) / name));
    }
  });
}

}  // namespace plsc
