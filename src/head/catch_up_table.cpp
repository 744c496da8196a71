// The table of products and its text in a checkpoint's manifest.
#include "head/catch_up_table.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace plsc {
namespace {

math::UpdateKind kind_of(const std::string& name) {
  if (const auto kind = math::update_kind(name)) return *kind;
  fail("the head's catch-up table is of an optimizer '{}', expected sgd, lars, adamw or lamb", name);
}

std::vector<math::CoastingStep> coasting_of(const nlohmann::json& j, size_t products) {
  std::vector<math::CoastingStep> steps;
  if (!j.contains("coasting")) return steps;
  for (const auto& row : j.at("coasting")) {
    const math::CoastingStep c{row.at(0), row.at(1), row.at(2), row.at(3), row.at(4)};
    for (const double x : {c.rate, c.root, c.epsilon, c.beta1, c.root_beta2}) {
      if (!std::isfinite(x) || x < 0) fail("the head's catch-up table holds a coasting step with {}", x);
    }
    if (c.epsilon == 0) fail("the head's catch-up table holds a coasting step with an epsilon of 0");
    steps.push_back(c);
  }
  if (steps.size() != products)
    fail("the head's catch-up table holds {} coasting steps beside {} products", steps.size(), products);
  return steps;
}

}  // namespace

void CatchUpTable::append(const math::CatchUpMatrix<double>& step) {
  for (auto& product : products_) product = math::compose(step, product);
  products_.push_back(step);
  if (static_cast<int64_t>(products_.size()) > kWindow) products_.erase(products_.begin());
  ++next_;
  stale_ = true;
}

void CatchUpTable::append(const math::CoastingStep& step) {
  coasting_.push_back(step);
  if (static_cast<int64_t>(coasting_.size()) > kWindow) coasting_.erase(coasting_.begin());
}

void CatchUpTable::append(const math::UpdateRule& rule, int64_t number) {
  PLSC_CHECK(rule.kind != math::UpdateKind::lamb, "rows of lamb cannot be caught up");
  const bool adamw = rule.kind == math::UpdateKind::adamw;
  PLSC_CHECK(products_.empty() || adamw == is_adamw(), "rows of two optimizers in one catch-up table");
  if (!adamw)
    return append(rule.kind == math::UpdateKind::lars ? math::idle_lars(rule) : math::idle_step(sgd_rule(rule)));
  const math::CatchUpMatrix<double> step = math::idle_adamw(rule);
  for (math::CoastingStep& earlier : coasting_) earlier.rate *= 1 + step.ww1;
  append(math::coasting_step(rule, number));
  append(step);
}

void CatchUpTable::append_skipped(math::UpdateKind kind) {
  if (kind == math::UpdateKind::adamw) append(math::CoastingStep{});
  append(math::CatchUpMatrix<double>{});
}

void CatchUpTable::refresh() {
  if (!stale_) return;
  std::vector<float> values;
  for (const auto& m : products_) {
    for (double x : {m.ww1, m.wv, m.vw, m.vv}) values.push_back(static_cast<float>(x));
  }
  const auto count = static_cast<int64_t>(products_.size());
  rounded_ = Tensor::from(values, {count, 4});
  on_device_ = coasting_on_device_ = coasting_on_host_ = Tensor();
  if (is_adamw()) {
    const auto* first = reinterpret_cast<const double*>(coasting_.data());
    coasting_on_host_ = Tensor::from(std::vector<double>(first, first + 5 * count), {count, 5});
  }
  stale_ = false;
}

const Tensor& CatchUpTable::steps() {
  refresh();
  return rounded_;
}

const Tensor& CatchUpTable::coasting() {
  refresh();
  return coasting_on_host_;
}

RowLag CatchUpTable::lag(Device& device, int64_t* last_update) {
  RowLag lag;
  lag.first = first();
  lag.next = next_;
  lag.last_update = last_update;
  if (last_update == nullptr) return lag;
  refresh();
  if (!on_device_.defined()) {
    on_device_ = device.tensor(rounded_.shape());
    device.copy(rounded_, on_device_);
    if (is_adamw()) {
      coasting_on_device_ = device.tensor(coasting_on_host_.shape(), Dtype::f64);
      device.copy(coasting_on_host_, coasting_on_device_);
    }
  }
  lag.steps = reinterpret_cast<const math::CatchUpMatrix<float>*>(on_device_.data<float>());
  if (is_adamw()) lag.coasting = reinterpret_cast<const math::CoastingStep*>(coasting_on_device_.data<double>());
  return lag;
}

std::string CatchUpTable::to_json(bool lagging, math::UpdateKind update) const {
  nlohmann::ordered_json j;
  j["updates"] = next_;
  j["lagging"] = lagging;
  if (update != math::UpdateKind::sgd) j["update"] = name_of(update);
  j["products"] = nlohmann::ordered_json::array();
  if (lagging) {
    for (const auto& m : products_) j["products"].push_back({m.ww1, m.wv, m.vw, m.vv});
  }
  if (lagging && is_adamw()) {
    for (const auto& c : coasting_) j["coasting"].push_back({c.rate, c.root, c.epsilon, c.beta1, c.root_beta2});
  }
  return j.dump();
}

CatchUpTable::Stored CatchUpTable::from_json(const std::string& text) {
  try {
    const auto j = nlohmann::json::parse(text);
    const int64_t next = j.at("updates");
    Stored stored;
    stored.lagging = j.at("lagging");
    if (j.contains("update")) stored.update = kind_of(j.at("update"));  // older checkpoints have the one kind
    std::vector<math::CatchUpMatrix<double>> products;
    for (const auto& row : j.at("products")) {
      const math::CatchUpMatrix<double> m{row.at(0), row.at(1), row.at(2), row.at(3)};
      if (!std::isfinite(m.ww1) || !std::isfinite(m.wv) || !std::isfinite(m.vw) || !std::isfinite(m.vv)) {
        fail("the head's catch-up table holds a number that is not finite");
      }
      products.push_back(m);
    }
    std::vector<math::CoastingStep> coasting = coasting_of(j, products.size());
    if (coasting.empty() == (stored.update == math::UpdateKind::adamw) && !products.empty()) {
      fail("the head's catch-up table holds {} coasting steps, which are of adamw, beside the products of {}",
           coasting.size(), math::name_of(stored.update));
    }
    if (next < static_cast<int64_t>(products.size())) {
      fail("the head's catch-up table holds {} products after {} updates", products.size(), next);
    }
    next_ = next;
    products_ = std::move(products);
    coasting_ = std::move(coasting);
    stale_ = true;
    return stored;
  } catch (const nlohmann::json::exception& e) {
    fail_hint("use another checkpoint", "the head's catch-up table cannot be read: {}", e.what());
  }
}

}  // namespace plsc
