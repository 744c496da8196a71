// What updates the class centres: optimizer.head beside the rest.
#include "optim/optimizer.h"
#include "support/catch.h"

namespace plsc::test {
namespace {

TEST_CASE("class centres are updated as all else unless optimizer.head says otherwise") {
  OptimizerConfig config;
  config.name = "adamw";
  config.weight_decay = 0.02;
  config.beta1 = 0.8;
  const math::UpdateRule same = Optimizer(config).head_rule(0.4);
  CHECK(head_update(config) == math::UpdateKind::adamw);
  CHECK(same.kind == math::UpdateKind::adamw);
  CHECK(same.lr == 0.4F);
  CHECK(same.weight_decay == 0.02F);
  CHECK(same.beta1 == 0.8);

  config.head = {.name = "lars", .lr = 0.5, .weight_decay = 0};
  config.trust = 0.01;
  const Optimizer optimizer(config);
  const math::UpdateRule own = optimizer.head_rule(0.4);
  CHECK(head_update(config) == math::UpdateKind::lars);
  CHECK(own.kind == math::UpdateKind::lars);
  CHECK(own.lr == 0.2F);
  CHECK(own.weight_decay == 0);
  CHECK(own.trust == 0.01F);
  CHECK(own.gradient_scale == 1);
  // And the rest as before.
  CHECK(optimizer.rule(0.4).kind == math::UpdateKind::adamw);
  CHECK(optimizer.rule(0.4).weight_decay == 0.02F);
  CHECK(optimizer.rule(0.4).lr == 0.4F);
}

}  // namespace
}  // namespace plsc::test
