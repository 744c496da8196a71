// Decoding ahead, and embeddings that do not depend on the number of ranks.
#include "eval/embed.h"

#include "eval/image_feed.h"
#include "eval_fixture.h"
#include "support/catch.h"
#include "support/error_text.h"

using namespace plsc;
using namespace plsc::test;

TEST_CASE("the feed gives every image once, in order, whatever the threads") {
  const PixelSource source = numbered_source(103);
  DataConfig data = pixel_data();
  for (int workers : {1, 2, 7}) {
    for (int64_t batch : {int64_t{1}, int64_t{8}, int64_t{103}, int64_t{200}}) {
      for (int64_t begin : {int64_t{0}, int64_t{5}}) {
        ImageFeed feed(source, data, {begin, 103, batch}, workers);
        for (int64_t i = begin; i < 103;) {
          const Tensor bytes = feed.next();
          REQUIRE(bytes.dim(0) == std::min(batch, 103 - i));
          for (int64_t b = 0; b < bytes.dim(0); ++b, ++i) REQUIRE(bytes.data<uint8_t>()[b * 24] == i % 251);
        }
      }
    }
  }
}

TEST_CASE("a feed that is given up early ends its threads") {
  const PixelSource source = numbered_source(500);
  const DataConfig data = pixel_data();
  for (int taken = 0; taken < 4; ++taken) {
    ImageFeed feed(source, data, {0, 500, 4}, 4);
    for (int i = 0; i < taken; ++i) feed.next();
  }
  const ImageFeed empty(source, data, {7, 7, 4}, 4);
}

TEST_CASE("the feed names the first image that cannot be read, when its batch is due") {
  PixelSource source = numbered_source(40);
  source.broken = {{25, true}, {22, true}, {39, true}};
  const DataConfig data = pixel_data();
  for (int repeat = 0; repeat < 20; ++repeat) {
    ImageFeed feed(source, data, {0, 40, 10}, 4);
    feed.next();
    feed.next();
    CHECK(contains(error_text([&] { feed.next(); }), "image 22: damaged"));
  }
}

TEST_CASE("a range: embeddings in order, the mirrored image added") {
  const PixelSource source = numbered_source(50);
  const DataConfig data = pixel_data();
  on_ranks(1, [&](Context& context, int) {
    PixelNet net;
    const Tensor plain = embed_range(context, net, source, data, 10, 50, 16, false);
    REQUIRE(plain.shape() == Shape{40, 4});
    const Tensor sum = embed_range(context, net, source, data, 10, 50, 16, true);
    for (int64_t i = 0; i < 40; ++i) {
      const auto first = static_cast<float>((10 + i) % 251), last = static_cast<float>((10 + i) % 13);
      CHECK(plain.data<float>()[i * 4] == first);
      CHECK(plain.data<float>()[i * 4 + 1] == last);
      CHECK(sum.data<float>()[i * 4] == first + last);
      CHECK(sum.data<float>()[i * 4 + 1] == first + last);
    }
    CHECK(embed_range(context, net, source, data, 50, 50, 16, true).shape() == Shape{0, 4});
  });
}

TEST_CASE("one to five ranks give the same bits, in batches of the same images") {
  const DataConfig data = pixel_data();
  // 4 images a batch and 16 batches a round: fewer batches than ranks, one round, several rounds, short last batches.
  for (int64_t size : {int64_t{1}, int64_t{6}, int64_t{64}, int64_t{333}}) {
    const PixelSource source = numbered_source(size);
    std::vector<float> expected;
    for (int ranks = 1; ranks <= 5; ++ranks) {
      INFO(size << " images on " << ranks << " ranks");
      std::atomic<int64_t> images = 0;
      std::vector<std::vector<float>> found(static_cast<size_t>(ranks));
      on_ranks(ranks, [&](Context& context, int rank) {
        PixelNet net(0.25f);
        const Tensor all = embed_all(context, net, {source, data, 4, true, ""});
        found[static_cast<size_t>(rank)] = all.values<float>();
        images += net.images;
      });
      if (ranks == 1) expected = found[0];
      CHECK(expected.size() == static_cast<size_t>(4 * size));
      for (const auto& f : found) CHECK(f == expected);
      CHECK(images == 2 * size);  // each image and its mirror image, once over all ranks
    }
  }
}

TEST_CASE("an image that cannot be read is an error on every rank") {
  PixelSource source = numbered_source(300);
  source.broken = {{211, true}};
  const DataConfig data = pixel_data();
  for (int ranks : {1, 2, 4}) {
    std::atomic<int> told = 0;
    on_ranks(ranks, [&](Context& context, int) {
      PixelNet net;
      const std::string text = error_text([&] { embed_all(context, net, {source, data, 8, false, ""}); });
      if (contains(text, "image 211: damaged")) ++told;
    });
    CHECK(told == ranks);
  }
}
