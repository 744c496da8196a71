// What the tests of the data share: a folder of their own, small images, and the text of an expected error.
#pragma once
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/error.h"
#include "data/encode.h"
#include "data/image_files.h"
#include "data/recordio.h"
#include "support/catch.h"

namespace plsc::test {

/// Removed with all that is in it.
class TempFolder {
 public:
  TempFolder() {
    // In memory where there is such a place: many of these tests write thousands of little files.
    const bool memory = ::access("/dev/shm", W_OK | X_OK) == 0;
    const std::filesystem::path base = memory ? "/dev/shm" : std::filesystem::temp_directory_path();
    std::string name = (base / "plsc-data-test-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  std::string path() const { return path_.string(); }

  /// Writes a file, making the folders that it is in.
  std::string write(const std::string& name, const std::string& text) const {
    const std::filesystem::path path = path_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
    return path.string();
  }
  std::string write(const std::string& name, const std::vector<uint8_t>& bytes) const {
    return write(name, std::string(bytes.begin(), bytes.end()));
  }

 private:
  std::filesystem::path path_;
};

/// The message of the Error that `body` throws; empty where it throws none. Other exceptions fail the test.
template <class Body>
std::string error_of(Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// A small image whose pixels depend on `number`.
inline Pixels small_image(int number, int64_t height = 6, int64_t width = 5, int64_t channels = 1) {
  Pixels p{height, width, channels, {}};
  for (int64_t i = 0; i < height * width * channels; ++i) {
    p.bytes.push_back(static_cast<uint8_t>((i * 37 + number * 101 + i * i * number) % 251));
  }
  return p;
}
inline std::vector<uint8_t> small_png(int number, int64_t height = 6, int64_t width = 5, int64_t channels = 1) {
  return encode_png(small_image(number, height, width, channels));
}

/// ../shared/data beside the project, or $PLSC_SHARED_DATA; empty where the file is not there.
inline std::string shared_data(const std::string& name) {
  const char* const set = std::getenv("PLSC_SHARED_DATA");
  const std::filesystem::path base =
      set != nullptr ? std::filesystem::path(set) : std::filesystem::path(PLSC_SOURCE_DIR) / "../shared/data";
  return std::filesystem::exists(base / name) ? (base / name).string() : "";
}

}  // namespace plsc::test
