// What layers keep from a forward pass to its backward pass, once for each micro-batch that is between the two.
#pragma once
#include <cstddef>
#include <vector>

namespace plsc {

/// Of any layer: the network says for all of them which micro-batch the next pass is of (Backbone::use_place).
class SavedPlaces {
 public:
  /// From here on it is what was kept in `place`, 0 from the start. Places do not know of each other.
  virtual void use(size_t place) = 0;

 protected:
  SavedPlaces() = default;
  ~SavedPlaces() = default;
  SavedPlaces(const SavedPlaces&) = default;
  SavedPlaces& operator=(const SavedPlaces&) = default;
};

/// A T in each place.
template <class T>
class Saved final : public SavedPlaces {
 public:
  void use(size_t place) override {
    if (place >= places_.size()) places_.resize(place + 1);
    now_ = place;
  }
  T& operator*() { return places_[now_]; }
  T* operator->() { return &places_[now_]; }

 private:
  std::vector<T> places_ = std::vector<T>(1);
  size_t now_ = 0;
};

}  // namespace plsc
