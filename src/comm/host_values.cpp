// Small host values over any collective: numbers and texts of all ranks, and agreement on errors.
#include <algorithm>

#include "comm/collective.h"
#include "comm/errors.h"

namespace plsc {
namespace {

template <class T>
std::vector<T> gather(Collective& host, T value) {
  const Tensor mine = Tensor::from<T>({value}, {1});
  Tensor all(host_allocator(), {host.size()}, DtypeOf<T>::value);
  host.all_gather(mine, all, "gathering a value of every rank");
  return all.values<T>();
}

}  // namespace

std::vector<int64_t> gather_values(Collective& host, int64_t value) { return gather(host, value); }
std::vector<double> gather_values(Collective& host, double value) { return gather(host, value); }

std::vector<std::string> gather_texts(Collective& host, const std::string& text) {
  const std::vector<int64_t> lengths = gather_values(host, static_cast<int64_t>(text.size()));
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  Tensor mine(host_allocator(), {longest}, Dtype::u8);
  Tensor all(host_allocator(), {host.size(), longest}, Dtype::u8);
  std::fill_n(mine.data<uint8_t>(), longest, uint8_t{0});
  std::copy(text.begin(), text.end(), mine.data<uint8_t>());
  host.all_gather(mine, all, "gathering a text of every rank");
  std::vector<std::string> texts;
  for (size_t r = 0; r < lengths.size(); ++r) {
    const uint8_t* begin = all.data<uint8_t>() + static_cast<int64_t>(r) * longest;
    texts.emplace_back(begin, begin + lengths[r]);
  }
  return texts;
}

std::string broadcast_text(Collective& host, const std::string& text, int root) {
  Tensor length = Tensor::from<int64_t>({static_cast<int64_t>(text.size())}, {1});
  host.broadcast(length, root, "the length of a text");
  Tensor bytes(host_allocator(), {length.data<int64_t>()[0]}, Dtype::u8);
  if (host.rank() == root) std::copy(text.begin(), text.end(), bytes.data<uint8_t>());
  host.broadcast(bytes, root, "a text");
  return {bytes.data<uint8_t>(), bytes.data<uint8_t>() + bytes.elements()};
}

void agree_or_fail(Collective& host, const std::string& error) {
  const std::vector<int64_t> failed = gather_values(host, static_cast<int64_t>(error.empty() ? 0 : 1));
  const auto first = std::find(failed.begin(), failed.end(), 1);
  if (first == failed.end()) return;
  const std::vector<std::string> errors = gather_texts(host, error);
  const auto rank = static_cast<size_t>(first - failed.begin());
  const bool alike = std::count(errors.begin(), errors.end(), errors[rank]) == host.size();
  throw AgreedError(alike ? errors[rank] : fmt::format("rank {}: {}", rank, errors[rank]),
                    host.rank() == 0 ? Voice::speak : Voice::wait);
}

void on_rank_0(Collective& host, const std::function<void()>& work) {
  std::string error;
  if (host.rank() == 0) {
    try {
      work();
    } catch (const std::exception& e) {
      error = e.what();
    }
  }
  agree_or_fail(host, error);
}

}  // namespace plsc
