// Small host values over real ranks: texts of unlike lengths, and agreement on errors.
#include "comm/errors.h"
#include "dist/mpi_main.h"
#include "support/catch.h"

using namespace plsc;

namespace {
/// Rank r's text: empty on rank 1, long on rank 2, with a zero byte on rank 3.
std::string text_of(int rank) {
  if (rank == 0) return "zero";
  if (rank == 1) return "";
  if (rank == 2) return std::string(100'000, 'x') + "end";
  return std::string("a\0b", 3) + std::to_string(rank);
}
}  // namespace

TEST_CASE("values and texts of every rank") {
  Collective& host = test::world().host_collective();
  const std::vector<int64_t> values = gather_values(host, int64_t{1} << (40 + host.rank()));
  const std::vector<double> reals = gather_values(host, 0.5 * host.rank());
  const std::vector<std::string> texts = gather_texts(host, text_of(host.rank()));
  REQUIRE(texts.size() == static_cast<size_t>(host.size()));
  for (int r = 0; r < host.size(); ++r) {
    const auto at = static_cast<size_t>(r);
    CHECK(values[at] == int64_t{1} << (40 + r));
    CHECK(reals[at] == 0.5 * r);
    CHECK(texts[at] == text_of(r));
    CHECK(broadcast_text(host, text_of(host.rank()), r) == text_of(r));
  }
  const std::vector<std::string> none = gather_texts(host, "");
  for (const std::string& text : none) CHECK(text.empty());
}

TEST_CASE("one rank's error becomes everybody's") {
  Collective& host = test::world().host_collective();
  CHECK_NOTHROW(agree_or_fail(host, ""));
  for (int bad = 0; bad < host.size(); ++bad) {
    // The middle rank and all after it fail: the first of them is quoted.
    const std::string mine = host.rank() >= bad ? "disk full on " + std::to_string(host.rank()) : "";
    try {
      agree_or_fail(host, mine);
      FAIL("nothing was thrown");
    } catch (const SharedError& error) {
      const std::string expected = "disk full on " + std::to_string(bad);
      CHECK(std::string(error.what()).find(expected) != std::string::npos);
      CHECK(error.voice() == (host.rank() == 0 ? Voice::speak : Voice::wait));
      if (host.size() > 1) CHECK(std::string(error.what()).find("rank " + std::to_string(bad)) != std::string::npos);
    }
  }
  CHECK_NOTHROW(agree_or_fail(host, ""));
  try {
    agree_or_fail(host, "no such file");
    FAIL("nothing was thrown");
  } catch (const AgreedError& error) {
    CHECK(std::string(error.what()) == "no such file");  // of every rank, so of no rank's in particular
  }
}

TEST_CASE("work of rank 0 is done there alone, and its error is everybody's") {
  Collective& host = test::world().host_collective();
  int done = 0;
  on_rank_0(host, [&] { ++done; });
  CHECK(done == (host.rank() == 0 ? 1 : 0));
  try {
    on_rank_0(host, [] { throw Error("disk full"); });
    FAIL("nothing was thrown");
  } catch (const AgreedError& error) {
    CHECK(std::string(error.what()) == (host.size() == 1 ? "disk full" : "rank 0: disk full"));
  }
}
