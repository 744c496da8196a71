// Files: complete reads and writes, atomic replacement, locks that name their holder.
#include "base/files.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>

#include "support/catch.h"
#include "support/error_text.h"
#include "support/temp_folder.h"

using namespace plsc;
using namespace plsc::test;

namespace {

std::span<const std::byte> bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

std::string read_piece(const File& file, int64_t offset, size_t size) {
  std::string text(size, '?');
  file.read_at(offset, std::as_writable_bytes(std::span(text)));
  return text;
}

/// Runs `work` in a child process; its exit status.
template <class Work>
int in_child(const Work& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    int status = 99;
    try {
      status = work();
    } catch (...) {
    }
    ::_exit(status);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

TEST_CASE("pieces of a file are read, and a read beyond its end says what is there") {
  const TempFolder folder;
  const std::string path = folder / "ten";
  {
    File file = File::create(path);
    file.write(bytes("01234"));
    file.write(bytes("56789"));
    file.sync();
    file.close();
    file.close();  // harmless
  }
  const File file = File::open_read(path);
  CHECK(file.size() == 10);
  CHECK(read_piece(file, 3, 4) == "3456");
  CHECK(read_piece(file, 10, 0).empty());
  const std::string error = error_text([&] { read_piece(file, 8, 5); });
  CHECK(contains_all(error, {path, "5 bytes wanted at offset 8", "only 2", "has 10", "hint"}));
  std::array<std::byte, 8> some{};
  CHECK(file.read_some(6, some) == 4);
  CHECK(file.read_some(20, some) == 0);
}

TEST_CASE("a file that is not there, or is a folder, is named") {
  const TempFolder folder;
  CHECK(contains_all(error_text([&] { File::open_read(folder / "none"); }), {"none", "No such file", "hint"}));
  CHECK(contains_all(error_text([&] { read_text(folder.path()); }), {folder.path(), "folder"}));
  CHECK(contains_all(error_text([&] { File::create(folder / "no/such/place"); }), {"no/such/place"}));
}

TEST_CASE("a file that is mounted on its own cannot be replaced, and what to do is said") {
  const TempFolder folder;
  const std::string path = folder / "mounted";
  write_text_atomically(path, "before");
  constexpr int kMayNotMount = 77;
  // Mounts of the child's own, where the system lets it.
  const int status = in_child([&] {
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0 && ::unshare(CLONE_NEWNS) != 0) return kMayNotMount;
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return kMayNotMount;
    if (::mount(path.c_str(), path.c_str(), nullptr, MS_BIND, nullptr) != 0) return kMayNotMount;
    const std::string error = error_text([&] { write_text_atomically(path, "after"); });
    return contains_all(error,
                        {"cannot replace " + path, "Device or resource busy", "hint: something is mounted on it"})
               ? 0
               : 1;
  });
  if (status == kMayNotMount) {
    WARN("skipped: nothing may be mounted here");
    return;
  }
  CHECK(status == 0);
  CHECK(read_text(path) == "before");
}

TEST_CASE("a whole file is read, whatever size the system reports") {
  const TempFolder folder;
  spit(folder / "empty", "");
  CHECK(read_text(folder / "empty").empty());
  const std::string large(300'000, 'x');
  spit(folder / "large", large);
  CHECK(read_text(folder / "large") == large);
  CHECK(read_bytes(folder / "large").size() == large.size());
  CHECK(contains(read_text("/proc/self/status"), "Name:"));  // reports a size of 0
}

TEST_CASE("a file moves with its object") {
  const TempFolder folder;
  spit(folder / "a", "text of a");
  File first = File::open_read(folder / "a");
  File second = std::move(first);
  CHECK(read_piece(second, 0, 4) == "text");
  spit(folder / "b", "text of b");
  second = File::open_read(folder / "b");
  CHECK(read_piece(second, 8, 1) == "b");
}

TEST_CASE("an atomic write replaces the text and leaves nothing beside it") {
  const TempFolder folder;
  const std::string path = folder / "latest";
  write_text_atomically(path, "first");
  write_text_atomically(path, "second, longer");
  write_text_atomically(path, "");
  CHECK(slurp(path).empty());
  write_text_atomically(path, "third");
  CHECK(slurp(path) == "third");
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("an atomic write that fails keeps the old text and leaves nothing beside it") {
  const TempFolder folder;
  const std::string path = folder / "latest";
  write_text_atomically(path, "old");
  // A limit on file sizes fails as a full disk does: in the middle of write(2).
  const int status = in_child([&] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1000, 1000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    return contains(error_text([&] { write_text_atomically(path, std::string(5000, 'n')); }), "latest.tmp.") ? 0 : 1;
  });
  CHECK(status == 0);
  CHECK(slurp(path) == "old");
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("an atomic file appears when it is whole, and not at all where it is given up") {
  const TempFolder folder;
  const std::string path = folder / "file";
  spit(path, "old");
  {
    AtomicFile file(path);
    file.write("given up");
  }
  CHECK(slurp(path) == "old");
  const std::string piece(700'000, 'x'), large(3'000'000, 'y');
  {
    AtomicFile file(path);
    for (const std::string& text : {piece, piece, std::string("z"), large, piece}) file.write(text);
    CHECK(slurp(path) == "old");
    file.publish();
  }
  CHECK(slurp(path) == piece + piece + "z" + large + piece);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("an atomic file takes no device's or folder's place") {
  const TempFolder folder;
  std::filesystem::create_directory(folder / "here");
  CHECK(contains_all(error_text([&] { AtomicFile(folder / "here"); }), {"here", "it is a folder"}));
  CHECK(contains_all(error_text([] { AtomicFile("/dev/null"); }), {"/dev/null", "it is a device"}));
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("a relative path without a folder is written where the process stands") {
  const TempFolder folder;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  write_text_atomically("here", "x");
  std::filesystem::current_path(before);
  CHECK(slurp(folder / "here") == "x");
}

TEST_CASE("a full device is an error with a hint") {
  File full = File::create("/dev/full");
  const std::string error = error_text([&] { full.write(bytes("x")); });
  CHECK(contains_all(error, {"/dev/full", "No space left", "hint: free some space"}));
}

TEST_CASE("a lock keeps other processes out, names its holder, and ends with it") {
  const TempFolder folder;
  const std::string path = folder / "lock";
  const std::string holder = "process " + std::to_string(::getpid());
  {
    const FileLock lock(path);
    CHECK(in_child([&] {
            const std::string error = error_text([&] { FileLock second(path); });
            return contains_all(error, {path, "in use by", holder, "on host"}) ? 0 : 1;
          }) == 0);
    // Within one process too: two runs of one test program, say.
    CHECK(contains(error_text([&] { FileLock second(path); }), holder));
  }
  CHECK(error_text([&] { FileLock again(path); }).empty());
  // A child that is killed with the lock in its hands leaves it free.
  CHECK(in_child([&] {
          auto* held = new FileLock(path);
          return held != nullptr ? 0 : 1;
        }) == 0);
  CHECK(error_text([&] { FileLock again(path); }).empty());
}
