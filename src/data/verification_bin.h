// InsightFace's verification sets: a pickle of (bins, issame), 2P encoded images and P booleans.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace plsc {

/// Images 2i and 2i + 1 form pair i; same[i] is 1 where they show the same class.
struct VerificationBin {
  std::vector<std::vector<uint8_t>> images;  // encoded (JPEG, PNG); make_memory_source takes them
  std::vector<uint8_t> same;
};

/// Reads pickles of protocols 0 to 5 whose images are str (Python 2), bytes, bytearray or numpy uint8 arrays, and whose
/// booleans are bool, int, numpy bools or a numpy array of them. Nothing in the file is executed: what the pickle asks
/// for beyond these types is refused by name. Throws Error naming file and offset.
VerificationBin load_verification_bin(const std::string& path);
/// The same of a pickle in memory; `name` stands for the path.
VerificationBin parse_verification_bin(std::span<const uint8_t> pickle, const std::string& name);

/// Writes a pickle (protocol 3, bytes and bools) that InsightFace's `pickle.load(f, encoding='bytes')` loads.
void save_verification_bin(const std::string& path, const VerificationBin& bin);

}  // namespace plsc
