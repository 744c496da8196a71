// Drawing balanced verification pairs from labels.
#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/error.h"
#include "data/pairs.h"
#include "data/permutation.h"
#include "kernels/math/rng.h"

namespace plsc {
namespace {

using Pair = PairList::Pair;

class PairDrawer {
 public:
  PairDrawer(const std::vector<int64_t>& labels, uint64_t seed) : labels_(labels), seed_(seed) {
    for (size_t i = 0; i < labels.size(); ++i) members_[labels[i]].push_back(static_cast<int64_t>(i));
    for (size_t i = 0; i < labels.size(); ++i) {
      if (members_[labels[i]].size() > 1) paired_.push_back(static_cast<int64_t>(i));
    }
  }

  /// How many different pairs there are.
  int64_t available(bool same) const {
    const auto pairs_of = [](size_t n) { return static_cast<int64_t>(n) * (static_cast<int64_t>(n) - 1) / 2; };
    int64_t alike = 0;
    for (const auto& [label, m] : members_) alike += pairs_of(m.size());
    return same ? alike : pairs_of(labels_.size()) - alike;
  }

  /// By chance: an image, then another of its class (each image counts the same, so that a class with very many does
  /// not fill the list), or of any other. Where nearly all pairs are wanted, or nearly all images are of one class,
  /// chance finds the last ones too rarely: those are taken from all pairs in a shuffled order.
  std::vector<Pair> draw(int64_t count, bool same) {
    std::vector<Pair> pairs;
    for (uint64_t i = 0; static_cast<int64_t>(pairs.size()) < count; ++i) {
      if (i > 20 * static_cast<uint64_t>(count) + 1000) {
        add_remaining(pairs, count, same);
        break;
      }
      add(pairs, candidate(i, same), same);
    }
    return pairs;
  }

 private:
  Pair candidate(uint64_t i, bool same) const {
    const math::Random4 r = math::random4(seed_, math::Draw::pairs, i, same ? 1 : 0);
    const uint64_t x = static_cast<uint64_t>(r.x[1]) << 32 | r.x[0], y = static_cast<uint64_t>(r.x[3]) << 32 | r.x[2];
    if (!same) {
      return {static_cast<int64_t>(x % labels_.size()), static_cast<int64_t>(y % labels_.size()), false};
    }
    const int64_t a = paired_[x % paired_.size()];
    const auto& of_class = members_.at(labels_[static_cast<size_t>(a)]);
    return {a, of_class[y % of_class.size()], true};
  }

  bool add(std::vector<Pair>& pairs, Pair p, bool same) {
    const bool alike = labels_[static_cast<size_t>(p.a)] == labels_[static_cast<size_t>(p.b)];
    if (p.a == p.b || alike != same || !seen_.insert({std::min(p.a, p.b), std::max(p.a, p.b)}).second) return false;
    pairs.push_back(p);
    return true;
  }

  /// All pairs of the kind are numbered, class by class, and taken in a shuffled order: none is listed.
  void add_remaining(std::vector<Pair>& pairs, int64_t count, bool same) {
    std::vector<int64_t> grouped;  // images by class
    for (const auto& [label, m] : members_) grouped.insert(grouped.end(), m.begin(), m.end());
    struct Block {  // the pairs whose first image is of one class
      int64_t first_pair, begin, end;
    };
    std::vector<Block> blocks;
    const auto n = static_cast<int64_t>(grouped.size());
    int64_t all = 0, begin = 0;
    for (const auto& [label, m] : members_) {
      const auto size = static_cast<int64_t>(m.size());
      blocks.push_back({all, begin, begin + size});
      begin += size;
      all += same ? size * (size - 1) / 2 : size * (n - begin);
    }
    const Permutation order(all, seed_, 0);
    for (int64_t i = 0; i < all && static_cast<int64_t>(pairs.size()) < count; ++i) {
      const int64_t number = order(i);
      const Block& of = *std::prev(
          std::partition_point(blocks.begin(), blocks.end(), [&](const Block& b) { return b.first_pair <= number; }));
      const int64_t k = number - of.first_pair, others = n - of.end;
      const auto [x, y] = same ? pair_within(k) : std::pair(k / others, of.end - of.begin + k % others);
      add(pairs, {grouped[static_cast<size_t>(of.begin + x)], grouped[static_cast<size_t>(of.begin + y)], same}, same);
    }
  }

  /// Pair `number` of all pairs x < y: those of smaller y come first.
  static std::pair<int64_t, int64_t> pair_within(int64_t number) {
    const auto before = [](int64_t y) { return y * (y - 1) / 2; };
    auto y = static_cast<int64_t>((1 + std::sqrt(1 + 8 * static_cast<double>(number))) / 2);
    while (before(y) > number) --y;  // what rounding did
    while (before(y + 1) <= number) ++y;
    return {number - before(y), y};
  }

  const std::vector<int64_t>& labels_;
  uint64_t seed_;
  std::map<int64_t, std::vector<int64_t>> members_;
  std::vector<int64_t> paired_;  // samples whose class has another
  std::set<std::pair<int64_t, int64_t>> seen_;
};

}  // namespace

std::vector<Pair> choose_pairs(const std::vector<int64_t>& labels, int64_t count, uint64_t seed) {
  PairDrawer drawer(labels, seed);
  const int64_t alike = (count + 1) / 2, different = count / 2;
  for (const bool same : {true, false}) {
    const int64_t wanted = same ? alike : different;
    if (wanted > drawer.available(same)) {
      fail("{} pairs of {} wanted, but {} images of these classes give only {}", wanted,
           same ? "the same class" : "different classes", labels.size(), drawer.available(same));
    }
  }
  const std::vector<Pair> same = drawer.draw(alike, true), other = drawer.draw(different, false);
  std::vector<Pair> pairs;
  for (size_t i = 0; i < same.size(); ++i) {
    pairs.push_back(same[i]);
    if (i < other.size()) pairs.push_back(other[i]);
  }
  return pairs;
}

}  // namespace plsc
