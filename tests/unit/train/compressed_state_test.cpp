// What nodes keep of compressed gradients goes through a checkpoint: to the bit on as many nodes, and without a loss in
// the sum on others.
#include "train/compressed_state.h"

#include <cmath>
#include <map>
#include <mutex>

#include "base/error.h"
#include "optim/compressor.h"
#include "step_fixture.h"
#include "support/catch.h"
#include "support/temp_folder.h"
#include "train/state.h"

namespace plsc::test {
namespace {

constexpr int64_t kExclude = 500;

/// One rank's network and head.
struct Member {
  Member(ThreadRank& self, int node, bool compressed = true)
      : cpu(self), net(tiny_net("plsc")), backbone(make_tiny(cpu.context, net)) {
    if (node > 1) group = self.comm.split(node, self.host);
    cpu.context.node_group = group.get();
    head = drawn_head(cpu.context, {}, kClasses, net.model.embedding_size);
    if (compressed) compress_gradients(cpu.context, backbone->params(), {"topk", 0.001, 0, kExclude, "dense"});
  }
  /// Other values on every rank; nothing in the padding.
  void fill() {
    uint64_t number = 0;
    for (Param* p : backbone->params()) {
      ++number;
      if (!p->part.defined()) continue;
      for (int64_t i = 0; i < p->part.size && p->part.begin + i < p->value.elements(); ++i) {
        const auto at = static_cast<uint64_t>(p->part.node * 1'000'000 + p->part.begin + i);
        const math::Random4 bits = math::random4(5, math::Draw::synthetic, number, at);
        p->momentum.data<float>()[i] = math::to_unit_float(bits.x[0]) - 0.25F;
        p->unsent.data<float>()[i] = 100 * math::to_unit_float(bits.x[1]) - 50;
      }
    }
  }
  std::string save(const std::string& output) {
    RunMeta meta;
    meta.classes = kClasses;
    return save_checkpoint(cpu.context, output, collect_state(*backbone, *head, 3, meta, {}), {});
  }
  void restore(const std::string& folder) {
    restore_state(cpu.context, *CheckpointReader::open(folder), *backbone, *head, ClassMap::identity(kClasses));
  }
  CpuContext cpu;
  std::unique_ptr<Collective> group;
  TinyNet net;
  std::unique_ptr<Backbone> backbone;
  std::unique_ptr<MarginHead> head;
};

/// (which, parameter, node, element): the value.
using Kept = std::map<std::string, std::map<int64_t, std::vector<double>>>;

/// All nodes' values of a world; `work` before they are collected.
Kept kept_in(int ranks, int node, bool compressed, const std::function<void(Member&)>& work) {
  Kept all;
  std::mutex mutex;
  run_ranks(ranks, [&](ThreadRank& self) {
    Member member(self, node, compressed);
    work(member);
    const std::lock_guard lock(mutex);
    for (const Param* p : member.backbone->params()) {
      const bool plain = !p->part.defined() && p->value.elements() >= kExclude && p->kind == ParamKind::weight;
      if (!p->part.defined() && !plain) continue;
      const GradientPart part = plain ? GradientPart{0, p->value.elements(), p->value.elements(), 0, 1} : p->part;
      for (const Tensor& t : {p->momentum, p->unsent}) {
        if (!t.defined()) continue;
        const bool first = t.raw() == p->momentum.raw();
        std::vector<double>& to = all[(first ? "momentum " : "unsent ") + p->name][part.node];
        to.resize(static_cast<size_t>(p->value.elements()));
        for (int64_t i = 0; i < part.size && part.begin + i < p->value.elements(); ++i)
          to[static_cast<size_t>(part.begin + i)] = static_cast<double>(t.data<float>()[i]);
      }
    }
  });
  return all;
}

std::map<std::string, std::vector<double>> sums(const Kept& kept) {
  std::map<std::string, std::vector<double>> out;
  for (const auto& [name, nodes] : kept) {
    std::vector<double>& sum = out[name];
    for (const auto& [node, values] : nodes) {
      sum.resize(values.size());
      for (size_t i = 0; i < values.size(); ++i) sum[i] += values[i];
    }
  }
  return out;
}

/// Sums of a few fp32 values of up to 50, rounded once more each.
void require_same_sums(const Kept& before, const Kept& after, size_t kinds) {
  const auto was = sums(before), is = sums(after);
  REQUIRE(is.size() == was.size() / 2 * kinds);
  for (const auto& [name, values] : is) {
    const std::vector<double>& expected = was.at(name);
    for (size_t i = 0; i < values.size(); ++i)
      if (!(std::abs(values[i] - expected[i]) <= 2e-5))
        FAIL(name << " " << i << ": " << values[i] << ", expected " << expected[i]);
  }
}

}  // namespace

TEST_CASE("as many nodes go on with what each of them had, however many ranks they are of") {
  TempFolder folder;
  std::string saved;
  const Kept before = kept_in(4, 2, true, [&](Member& m) {
    m.fill();
    const std::string path = m.save(folder.path());
    if (m.cpu.context.rank() == 0) saved = path;
  });
  REQUIRE(before.size() >= 4);
  CHECK(before.begin()->second.size() == 2);
  CHECK(kept_in(4, 2, true, [&](Member& m) { m.restore(saved); }) == before);
  CHECK(kept_in(2, 1, true, [&](Member& m) { m.restore(saved); }) == before);
  CHECK(kept_in(6, 3, true, [&](Member& m) { m.restore(saved); }) == before);
}

TEST_CASE("on other nodes nothing of the sum over all of them is lost") {
  TempFolder folder;
  std::string saved;
  const Kept before = kept_in(3, 1, true, [&](Member& m) {
    m.fill();
    const std::string path = m.save(folder.path());
    if (m.cpu.context.rank() == 0) saved = path;
  });
  require_same_sums(before, kept_in(1, 1, true, [&](Member& m) { m.restore(saved); }), 2);
  require_same_sums(before, kept_in(2, 1, true, [&](Member& m) { m.restore(saved); }), 2);
  require_same_sums(before, kept_in(4, 2, true, [&](Member& m) { m.restore(saved); }), 2);
  const Kept shared = kept_in(2, 1, true, [&](Member& m) { m.restore(saved); });
  for (const auto& [name, nodes] : shared) CHECK(nodes.at(0) == nodes.at(1));
  // Sent whole from now on: the momentum is that of all.
  require_same_sums(before,
                    kept_in(2, 1, false,
                            [&](Member& m) {
                              m.restore(saved);
                              if (m.cpu.context.rank() == 0) return;
                              for (Param* p : m.backbone->params())
                                p->momentum = {};  // the same on every rank: one counts
                            }),
                    1);
}

TEST_CASE("a momentum of gradients that were sent whole is shared out among the nodes") {
  TempFolder folder;
  std::string saved;
  const Kept before = kept_in(2, 1, false, [&](Member& m) {
    for (Param* p : m.backbone->params()) {
      if (!p->trainable()) continue;
      p->momentum = m.cpu.backend.device->zeros(p->value.shape());
      for (int64_t i = 0; i < p->value.elements(); ++i) p->momentum.data<float>()[i] = static_cast<float>(i % 13) - 6;
    }
    const std::string path = m.save(folder.path());
    if (m.cpu.context.rank() == 0) saved = path;
    if (m.cpu.context.rank() == 1)
      for (Param* p : m.backbone->params()) p->momentum = {};
  });
  const auto was = sums(before);
  const auto is = sums(kept_in(4, 1, true, [&](Member& m) { m.restore(saved); }));
  for (const auto& [name, values] : was) CHECK(is.at(name) == values);  // quarters of small numbers are exact
  for (const auto& [name, values] : is) {
    if (name.starts_with("unsent")) CHECK(std::ranges::all_of(values, [](double x) { return x == 0; }));
  }
}

TEST_CASE("a checkpoint whose parts do not come out even is refused") {
  TempFolder folder;
  kept_in(3, 1, true, [&](Member& m) {
    m.fill();
    const std::string saved = m.save(folder.path());
    const auto reader = CheckpointReader::open(saved);
    std::string message;
    try {
      restore_compressed(m.cpu.context, *reader, m.backbone->params(), 7);
    } catch (const Error& e) {
      message = e.what();
    }
    if (message.find("of 7 nodes") == std::string::npos) throw Error("not refused: " + message);
  });
}

}  // namespace plsc::test
