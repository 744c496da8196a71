// From /proc/self/cgroup to folders.
#include "base/control_group.h"

#include <algorithm>
#include <fstream>
#include <sstream>

namespace plsc {
namespace {

namespace fs = std::filesystem;

/// `mount` and all folders from there to `group` below it.
void add_groups(const fs::path& mount, const std::string& group, std::vector<fs::path>& found) {
  const auto add = [&](const fs::path& folder) {
    if (std::find(found.begin(), found.end(), folder) == found.end()) found.push_back(folder);
  };
  add(mount);
  fs::path folder = mount;
  for (const auto& part : fs::path(group).relative_path()) {
    if (part == "..") break;
    folder /= part;
    add(folder);
  }
}

}  // namespace

std::vector<fs::path> control_groups(const std::string& membership, const std::string& root,
                                     const std::string& controller) {
  std::vector<fs::path> found;
  std::istringstream lines(membership);
  // A line is "number:controllers:path"; version 2 is "0::path".
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), group = line.substr(second + 1);
    if (controllers.empty()) {
      add_groups(root, group, found);
    } else if (("," + controllers + ",").find("," + controller + ",") != std::string::npos) {
      // Mounted under its own name, under that of all its controllers, or both.
      add_groups(fs::path(root) / controller, group, found);
      add_groups(fs::path(root) / controllers, group, found);
    }
  }
  return found;
}

std::string control_group_membership() {
  std::ifstream in("/proc/self/cgroup");
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

}  // namespace plsc
