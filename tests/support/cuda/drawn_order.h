// Random orders that cost nothing to draw: the emulator draws one whenever threads could run in any order.
#pragma once
#include <cstdint>
#include <numeric>

namespace plsc::standin {

/// xorshift64*: enough to shuffle by.
class Draw {
 public:
  explicit Draw(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u | 1u) {}
  uint32_t operator()() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return static_cast<uint32_t>((state_ * 0x2545F4914F6CDD1Du) >> 32);
  }

 private:
  uint64_t state_;
};

/// An order of 0 to 31: item = factor * place + start, modulo 32, with an odd factor.
class Order32 {
 public:
  Order32() = default;
  explicit Order32(Draw& draw) {
    const uint32_t bits = draw();
    factor_ = (bits | 1u) % 32;
    start_ = (bits >> 8) % 32;
    // The odd numbers modulo 32 are a group whose elements' eighth powers are 1.
    const uint32_t cube = factor_ * factor_ * factor_;
    inverse_ = cube * cube * factor_ % 32;
  }
  int item(int place) const { return static_cast<int>((factor_ * static_cast<uint32_t>(place) + start_) % 32); }
  int place(int item) const { return static_cast<int>((static_cast<uint32_t>(item) + 32 - start_) * inverse_ % 32); }

 private:
  uint32_t factor_ = 1;
  uint32_t start_ = 0;
  uint32_t inverse_ = 1;
};

/// Walks over 0 to n - 1 in a drawn order: steps of a size without a common factor with n.
class Walk {
 public:
  Walk(int64_t n, Draw& draw) : n_(n), at_(draw() % n), step_(n == 1 ? 1 : 1 + draw() % (n - 1)) {
    while (std::gcd(step_, n_) != 1) step_ = step_ % n_ + 1;
  }
  int64_t next() {
    at_ = (at_ + step_) % n_;
    return at_;
  }

 private:
  int64_t n_;
  int64_t at_;
  int64_t step_;
};

}  // namespace plsc::standin
