// What the driver, CUDA's libraries and the GPUs say; who else uses the GPUs.
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "app/doctor/probes.h"
#include "app/quantity.h"
#include "backend/device_health.h"
#include "base/error.h"
#include "comm/nccl.h"

namespace plsc::doctor {
namespace {

namespace fs = std::filesystem;

constexpr double kDriverSeconds = 40;  // contexts on eight GPUs take some seconds
constexpr double kUsed = 0.05;         // of a GPU's memory: what a context and a display take is less

/// "550.54.15" of the driver's own file; empty: no driver is loaded. It is there for builds without CUDA, too.
std::string driver_version() {
  std::ifstream in("/proc/driver/nvidia/version");
  for (std::string word; in >> word;) {
    const bool number = !word.empty() && std::all_of(word.begin(), word.end(),
                                                     [](unsigned char c) { return std::isdigit(c) != 0 || c == '.'; });
    if (number && word.find('.') != std::string::npos) return word;
  }
  return "";
}

/// "NVIDIA's driver 550.54.15", "/dev/nvidia0" or "nvidia-smi": what tells of GPUs to a build that cannot ask for them;
/// empty where nothing does.
std::string trace_of_gpus(const std::string& driver) {
  if (!driver.empty()) return "NVIDIA's driver " + driver;
  std::error_code ignored;
  if (fs::exists("/dev/nvidia0", ignored)) return "/dev/nvidia0";
  const char* path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "" : path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    if (!folder.empty() && ::access((folder + "/nvidia-smi").c_str(), X_OK) == 0) return folder + "/nvidia-smi";
  }
  return "";
}

/// The number in /dev/nvidia<N> of the GPU on this bus; below 0: not known.
int minor_number(std::string bus) {
  for (char& c : bus) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  std::ifstream in("/proc/driver/nvidia/gpus/" + bus + "/information");
  for (std::string line; std::getline(in, line);) {
    int number = 0;
    if (line.rfind("Device Minor:", 0) == 0 && std::istringstream(line.substr(13)) >> number) return number;
  }
  return -1;
}

/// As far as they can be listed: processes come and go meanwhile.
std::vector<fs::path> entries(const fs::path& folder) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (fs::directory_iterator at(folder, error); !error && at != fs::directory_iterator(); at.increment(error))
    paths.push_back(at->path());
  return paths;
}

/// "python3 (pid 70)" of each process that this one may look at and that has the GPU open.
std::vector<std::string> users_of(const std::string& bus) {
  std::vector<std::string> users;
  const int number = minor_number(bus);
  if (number < 0) return users;
  const std::string file = fmt::format("/dev/nvidia{}", number);
  std::error_code ignored;
  for (const fs::path& process : entries("/proc")) {
    const std::string pid = process.filename();
    if (pid.find_first_not_of("0123456789") != std::string::npos || pid == std::to_string(::getpid())) continue;
    for (const fs::path& fd : entries(process / "fd")) {
      if (fs::read_symlink(fd, ignored) != file) continue;
      std::string name;
      std::ifstream comm(process / "comm");
      std::getline(comm, name);
      users.push_back(fmt::format("{} (pid {})", name, pid));
      break;
    }
  }
  return users;
}

std::vector<int> numbers_of(const std::string& version) {
  std::vector<int> numbers;
  std::istringstream in(version);
  for (std::string part; std::getline(in, part, '.');) numbers.push_back(std::atoi(part.c_str()));
  return numbers;
}

void add_libraries(const CudaHealth& health, const std::string& driver, RankSheet& sheet) {
  const bool none = driver.empty() && health.driver_cuda.empty();
  const std::string version = driver.empty() ? "" : driver + " ";
  if (!none)
    sheet.add({"libraries",
               "driver",
               fmt::format("driver {}for CUDA {}", version, health.driver_cuda),
               {},
               "",
               Agreement::same});
  std::vector<LibraryVersion> libraries = health.libraries;
  libraries.push_back({"NCCL", nccl_version(), nccl_built_version()});
  for (const LibraryVersion& library : libraries) {
    const bool same = library.found == library.built;
    sheet.add({"libraries",
               library.name,
               fmt::format("{} {}{}", library.name, library.found, same ? "" : " (built with " + library.built + ")"),
               {},
               "",
               Agreement::same});
    if (same || numbers_of(library.found) >= numbers_of(library.built)) continue;
    sheet.warn("libraries",
               fmt::format("{} {} is older than {}, which plsc-train was built with", library.name, library.found,
                           library.built),
               "put the newer one first in LD_LIBRARY_PATH");
  }
  // Behind what is there, and the line of the GPUs says what it means.
  if (none) sheet.add({"libraries", "driver", "and no NVIDIA driver", {}, "", Agreement::same});
}

/// "all reach each other directly", or who reaches whom.
std::string peer_text(const std::vector<GpuHealth>& gpus) {
  if (gpus.size() < 2) return "";
  const bool all =
      std::all_of(gpus.begin(), gpus.end(), [&](const GpuHealth& g) { return g.peers.size() + 1 == gpus.size(); });
  const bool none = std::all_of(gpus.begin(), gpus.end(), [](const GpuHealth& g) { return g.peers.empty(); });
  if (all) return "peer access between all";
  if (none) return "no peer access between them";
  std::vector<std::string> rows;
  for (size_t i = 0; i < gpus.size(); ++i) rows.push_back(fmt::format("{}: {}", i, fmt::join(gpus[i].peers, " ")));
  return fmt::format("peer access {}", fmt::join(rows, "; "));
}

void judge_gpu(const GpuHealth& gpu, size_t number, const std::string& architectures, RankSheet& sheet) {
  const std::string who = fmt::format("GPU {} ({})", number, gpu.name);
  if (!gpu.problem.empty()) sheet.fail("gpus", fmt::format("{}: {}", who, gpu.problem));
  const GpuCode code = code_for(gpu.capability, architectures);
  const std::string version = fmt::format("{}.{}", gpu.capability / 10, gpu.capability % 10);
  if (code == GpuCode::none) {
    sheet.fail("gpus",
               fmt::format("{} has compute capability {}; this build holds code for {}", who, version, architectures),
               fmt::format("build with -DCMAKE_CUDA_ARCHITECTURES={}-real, or use device: cpu", gpu.capability));
  } else if (code == GpuCode::ptx) {
    sheet.warn("gpus",
               fmt::format("{} has compute capability {}, for which this build holds PTX alone: the driver compiles it "
                           "at the first start",
                           who, version),
               "that takes minutes once; CUDA_CACHE_PATH should outlive the job");
  }
  if (gpu.exclusive)
    sheet.warn("gpus", fmt::format("{} is in exclusive mode: two ranks cannot share it", who), "nvidia-smi -c 0");
  const auto used = static_cast<double>(gpu.memory - gpu.free), total = static_cast<double>(gpu.memory);
  if (total > 0 && used > kUsed * total) {
    const std::vector<std::string> users = users_of(gpu.bus);
    sheet.warn("gpus",
               fmt::format("{}: {} of its memory is in use already, by {}", who, quantity(used, "B"),
                           users.empty() ? "processes that cannot be seen from here"
                                         : fmt::format("{}", fmt::join(users, ", "))),
               "nvidia-smi shows them");
  }
}

void add_gpus(const CudaHealth& health, RankSheet& sheet) {
  std::map<std::string, int> models;
  double memory = 0, free = 0;
  for (size_t i = 0; i < health.gpus.size(); ++i) {
    const GpuHealth& gpu = health.gpus[i];
    ++models[fmt::format("{} ({}.{})", gpu.name, gpu.capability / 10, gpu.capability % 10)];
    memory = i == 0 ? static_cast<double>(gpu.memory) : std::min(memory, static_cast<double>(gpu.memory));
    free = i == 0 ? static_cast<double>(gpu.free) : std::min(free, static_cast<double>(gpu.free));
    judge_gpu(gpu, i, health.architectures, sheet);
  }
  std::vector<std::string> names;
  for (const auto& [name, count] : models) names.push_back(fmt::format("{} x {}", count, name));
  sheet.add({"gpus", "models", fmt::format("{}", fmt::join(names, ", ")), {}, "", Agreement::same});
  sheet.add({"gpus", "memory", "{} each", memory, "B", Agreement::near});
  sheet.add({"gpus", "free", "{} free", free, "B"});
  const bool ecc = std::all_of(health.gpus.begin(), health.gpus.end(), [](const GpuHealth& g) { return g.ecc; });
  sheet.add({"gpus", "ECC", ecc ? "ECC on" : "ECC off", {}, "", Agreement::same});
  sheet.add({"gpus", "peers", peer_text(health.gpus), {}, "", Agreement::same});
}

/// No GPU: what that means depends on what was asked for, and what the machine has.
void add_nothing(const CudaHealth& health, const Config& config, const std::string& driver, RankSheet& sheet) {
  sheet.add({"gpus", "models", fmt::format("none used: {}", health.problem), {}, "", Agreement::same});
  if (config.device == "cuda") return;  // the session's own error follows
  const std::string trace = health.built ? "" : trace_of_gpus(driver);
  if (!trace.empty()) {
    sheet.warn("gpus", fmt::format("this machine has {}, but this build has no CUDA: GPUs would not be used", trace),
               "build the preset cuda, or take the bundle with CUDA");
  } else if (health.built) {
    sheet.warn("gpus", "training would run on the CPU", "device: cpu asks for that without a warning");
  }
}

}  // namespace

void probe_gpus(Patience& patience, const Config& config, RankSheet& sheet) {
  if (config.device == "cpu") {
    sheet.add({"gpus", "models", "not looked for: device: cpu"});
    return;
  }
  const Attempt<CudaHealth> attempt = patience.attempt<CudaHealth>(kDriverSeconds, [] { return examine_cuda(); });
  if (!attempt.value) {
    sheet.add({"gpus", "models", "not known"});
    if (attempt.late) {
      sheet.fail("gpus", "NVIDIA's driver does not answer", "nvidia-smi hangs, too? then the machine needs a restart");
    } else {
      sheet.fail_with("gpus", attempt.error);
    }
    return;
  }
  const CudaHealth& health = *attempt.value;
  const std::string driver = driver_version();
  if (health.gpus.empty()) {
    add_nothing(health, config, driver, sheet);
  } else {
    add_gpus(health, sheet);
  }
  if (health.built) add_libraries(health, driver, sheet);
}

}  // namespace plsc::doctor
