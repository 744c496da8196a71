#include "train/best.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "checkpoint/checkpoint.h"

namespace plsc {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

std::string file_of(const std::string& checkpoints) { return (fs::path(checkpoints) / "best.json").string(); }

}  // namespace

std::optional<Best> read_best(const std::string& checkpoints) {
  std::error_code ignored;
  if (!fs::exists(file_of(checkpoints), ignored)) return std::nullopt;
  try {
    const Json j = Json::parse(read_text(file_of(checkpoints)));
    Best best{j.at("metric").get<std::string>(), j.at("value").get<double>(), j.at("step").get<int64_t>()};
    if (!fs::is_directory(fs::path(checkpoints) / step_name(best.step), ignored)) return std::nullopt;
    return best;
  } catch (const Json::exception&) {
    return std::nullopt;  // edited by hand: the next evaluation writes it anew
  } catch (const Error&) {
    return std::nullopt;
  }
}

void write_best(const std::string& checkpoints, const Best& best) {
  const Json j = {{"metric", best.metric}, {"value", best.value}, {"step", best.step}};
  write_text_atomically(file_of(checkpoints), j.dump() + "\n");
}

}  // namespace plsc
