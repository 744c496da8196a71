// The folder that checkpoints go to: is it there, is there room, how fast is it, and do all hosts see the same one.
#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <thread>
#include <vector>

#include "app/doctor/disk_room.h"
#include "app/doctor/probes.h"
#include "app/quantity.h"
#include "base/error.h"
#include "base/files.h"
#include "checkpoint/checkpoint.h"

namespace plsc::doctor {
namespace {

namespace fs = std::filesystem;

constexpr double kAnswerSeconds = 10;                  // for a file system's answer to a small question
constexpr double kSpeedSeconds = 2, kSpeedLimit = 20;  // of writing; and until the disk has flushed it
constexpr size_t kPiece = 4 << 20, kMost = 256 << 20;  // bytes
constexpr double kFreeShare = 0.25;                    // of what is free that the test may take for a moment

/// "/data/runs" of "runs/": without a slash at its end.
std::string shown(const std::string& folder) {
  const fs::path path = fs::absolute(folder).lexically_normal();
  return (path.has_filename() || path == path.root_path() ? path : path.parent_path()).string();
}

/// The folder itself, or the nearest one above it that is there: training makes the rest.
std::string existing_folder(const std::string& output) {
  fs::path at = fs::absolute(output).lexically_normal();
  while (!fs::is_directory(at)) {
    if (fs::exists(at)) fail_hint("choose another `output`", "{} is no folder", at.string());
    if (!at.has_relative_path()) break;
    at = at.parent_path();
  }
  return at.string();
}

struct Space {
  std::string folder;
  double free = 0;
  std::vector<double> checkpoints;  // bytes of the whole ones that are there already, oldest first
};

/// Of the files in it; one that is pruned meanwhile counts as nothing.
double bytes_in(const std::string& folder) {
  double bytes = 0;
  std::error_code error, gone;
  for (fs::directory_iterator at(folder, error); !error && at != fs::directory_iterator(); at.increment(error)) {
    const auto size = at->file_size(gone);
    if (!gone) bytes += static_cast<double>(size);
  }
  return bytes;
}

/// A file without a name: it is gone whatever happens to this process.
class ScratchFile {
 public:
  explicit ScratchFile(const std::string& folder) {
    std::string path = folder + "/.plsc-doctor.XXXXXX";
    fd_ = ::mkstemp(path.data());
    if (fd_ < 0) {
      const bool full = errno == ENOSPC || errno == EDQUOT;
      fail_hint(full ? "choose another `output`, or free some space" : "choose another `output`, or mend its rights",
                "{} cannot be written: {}", folder, std::strerror(errno));
    }
    ::unlink(path.c_str());
  }
  ~ScratchFile() { ::close(fd_); }
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_ = -1;
};

Space look(const std::string& output) {
  Space space;
  space.folder = existing_folder(output);
  // Before a word on its space: rights alone do not tell (root has all of them, and some file systems take no file).
  { const ScratchFile trial(space.folder); }
  struct statvfs disk {};
  if (::statvfs(space.folder.c_str(), &disk) != 0) fail("{}: {}", space.folder, std::strerror(errno));
  space.free = static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize);
  for (const std::string& folder : list_checkpoints(output).whole) space.checkpoints.push_back(bytes_in(folder));
  return space;
}

struct Speed {
  double write = 0, read = 0;  // bytes a second
};

Speed measure(const std::string& folder, double free) {
  const ScratchFile file(folder);
  const auto most = std::min(static_cast<double>(kMost), kFreeShare * free);
  std::vector<char> piece(kPiece);
  for (size_t i = 0; i < piece.size(); ++i) piece[i] = static_cast<char>(i * 2654435761u >> 13);
  double bytes = 0;
  Stopwatch watch;
  while (bytes + static_cast<double>(kPiece) <= most && watch.seconds() < kSpeedSeconds) {
    const ssize_t n = ::write(file.fd(), piece.data(), piece.size());
    if (n <= 0) fail("writing to {} failed after {}: {}", folder, quantity(bytes, "B"), std::strerror(errno));
    bytes += static_cast<double>(n);
  }
  if (::fsync(file.fd()) != 0 && errno != EINVAL) fail("{} does not flush: {}", folder, std::strerror(errno));
  if (bytes == 0) return {};
  Speed speed;
  speed.write = bytes / watch.seconds();
  // As far as the system lets go of what it has cached.
  ::posix_fadvise(file.fd(), 0, 0, POSIX_FADV_DONTNEED);
  ::lseek(file.fd(), 0, SEEK_SET);
  watch.restart();
  double seen = 0;
  for (ssize_t n = 0; (n = ::read(file.fd(), piece.data(), piece.size())) > 0;) seen += static_cast<double>(n);
  speed.read = seen / watch.seconds();
  return speed;
}

void judge_space(const Space& space, const DiskWork& work, RankSheet& sheet) {
  sheet.add({"disk", "free", "{} free", space.free, "B"});
  if (work.checkpoint_bytes == 0) return;
  const auto one = static_cast<double>(work.checkpoint_bytes);
  const double more = bytes_wanted({one, work.keep, space.checkpoints});
  sheet.add({"disk", "checkpoint", "a checkpoint takes {}", one, "B"});
  sheet.add({"disk", "wanted", fmt::format("checkpoint.keep: {} want ", work.keep) + "{} more", more, "B"});
  if (space.free < one) {
    sheet.fail("disk",
               fmt::format("{} are free in {}, and one checkpoint takes {}", quantity(space.free, "B"), space.folder,
                           quantity(one, "B")),
               "choose another `output`, or free some space");
  } else if (space.free < more) {
    sheet.warn("disk",
               fmt::format("{} are free in {}, and checkpoint.keep: {} want {} more", quantity(space.free, "B"),
                           space.folder, work.keep, quantity(more, "B")),
               "choose another `output`, free some space, or lower checkpoint.keep");
  }
}

/// This host's view of the folder; nothing where it cannot be used.
std::optional<Space> probe_own(Patience& patience, const DiskWork& work, RankSheet& sheet) {
  const auto answer = patience.attempt<Space>(kAnswerSeconds, [output = work.output] { return look(output); });
  if (answer.late) {
    sheet.add({"disk", "output", work.output});
    sheet.fail("disk", fmt::format("{} does not answer", work.output), "is its file server there? (df hangs, too)");
    return {};
  }
  const std::string folder = shown(work.output);
  const bool to_make = answer.value && shown(answer.value->folder) != folder;
  sheet.add({"disk", "output", to_make ? fmt::format("{} (to be made in {})", folder, answer.value->folder) : folder});
  if (!answer.value) {
    sheet.fail_with("disk", answer.error);
    return {};
  }
  const Space& space = *answer.value;
  judge_space(space, work, sheet);
  const double most = std::min(kSpeedLimit, patience.left());
  const auto speed =
      patience.attempt<Speed>(most, [folder = space.folder, free = space.free] { return measure(folder, free); });
  if (speed.late) {
    sheet.warn("disk", fmt::format("writing at most {} to {} has not ended after {:.0f} s", quantity(kMost, "B"),
                                   space.folder, most));
  } else if (!speed.value) {
    sheet.fail_with("disk", speed.error);
  } else if (speed.value->write > 0) {
    sheet.add({"disk", "write", "writes {}", speed.value->write, "B/s", Agreement::rate});
    sheet.add({"disk", "read", "reads {}", speed.value->read, "B/s", Agreement::rate});
  }
  return space;
}

/// "path\nword" of a file that rank 0 leaves for the others; empty where it cannot.
std::string leave_token(Patience& patience, const std::string& folder) {
  const std::string path = fmt::format("{}/.plsc-doctor.{}", folder, ::getpid());
  const std::string word =
      fmt::format("{}-{}", ::getpid(), std::chrono::steady_clock::now().time_since_epoch().count());
  const auto written = patience.attempt<bool>(kAnswerSeconds, [path, word] {
    write_text_atomically(path, word);
    return true;
  });
  return written.value ? path + "\n" + word : "";
}

/// Network file systems may show a new file a moment late.
bool sees_token(const std::string& path, const std::string& word) {
  for (int i = 0; i < 30; ++i) {
    std::error_code ignored;
    if (fs::exists(path, ignored) && read_text(path) == word) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  return false;
}

}  // namespace

void probe_disk(World& world, Patience& patience, const DiskWork& work, RankSheet& sheet) {
  std::optional<Space> own;
  if (world.local_rank() == 0) own = probe_own(patience, work, sheet);
  std::string token;
  if (world.rank() == 0 && own && world.local_size() < world.size()) token = leave_token(patience, own->folder);
  token = broadcast_text(world.host_collective(), token);
  if (token.empty()) return;
  const std::string path = token.substr(0, token.find('\n')), word = token.substr(path.size() + 1);
  bool seen = true;
  if (world.local_rank() == 0) {
    const auto answer = patience.attempt<bool>(kAnswerSeconds, [path, word] { return sees_token(path, word); });
    seen = answer.value.value_or(false);
  }
  if (!seen) {
    sheet.fail("disk",
               fmt::format("{} here is not the folder that rank 0 (host {}) sees", work.output, world.hosts()[0]),
               "every rank writes its part of a checkpoint: set `output` to a folder that all hosts share");
  }
  const std::vector<int64_t> all = gather_values(world.host_collective(), static_cast<int64_t>(seen ? 1 : 0));
  const bool shared = std::count(all.begin(), all.end(), 1) == world.size();
  if (world.rank() == 0) sheet.add({"disk", "shared", shared ? "seen by all hosts" : "not shared by all hosts"});
  if (world.rank() == 0) patience.attempt<bool>(kAnswerSeconds, [path] { return fs::remove(path); });
}

}  // namespace plsc::doctor
