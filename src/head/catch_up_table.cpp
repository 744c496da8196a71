// The table of products and its text in a checkpoint's manifest.
#include "head/catch_up_table.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace plsc {

void CatchUpTable::append(const math::SgdRule& rule) {
  const auto step = math::idle_step(rule);
  for (auto& product : products_) product = math::compose(step, product);
  products_.push_back(step);
  if (static_cast<int64_t>(products_.size()) > kWindow) products_.erase(products_.begin());
  ++next_;
  stale_ = true;
}

const Tensor& CatchUpTable::steps() {
  if (!stale_) return rounded_;
  std::vector<float> values;
  for (const auto& m : products_) {
    for (double x : {m.ww1, m.wv, m.vw, m.vv}) values.push_back(static_cast<float>(x));
  }
  rounded_ = Tensor::from(values, {static_cast<int64_t>(products_.size()), 4});
  on_device_ = Tensor();
  stale_ = false;
  return rounded_;
}

RowLag CatchUpTable::lag(Device& device, int64_t* last_update) {
  RowLag lag;
  lag.first = first();
  lag.next = next_;
  lag.last_update = last_update;
  if (last_update == nullptr) return lag;
  const Tensor& values = steps();
  if (!on_device_.defined()) {
    on_device_ = device.tensor(values.shape());
    device.copy(values, on_device_);
  }
  lag.steps = reinterpret_cast<const math::CatchUpMatrix<float>*>(on_device_.data<float>());
  return lag;
}

std::string CatchUpTable::to_json(bool lagging) const {
  nlohmann::ordered_json j;
  j["updates"] = next_;
  j["lagging"] = lagging;
  j["products"] = nlohmann::ordered_json::array();
  if (lagging) {
    for (const auto& m : products_) j["products"].push_back({m.ww1, m.wv, m.vw, m.vv});
  }
  return j.dump();
}

bool CatchUpTable::from_json(const std::string& text) {
  try {
    const auto j = nlohmann::json::parse(text);
    const int64_t next = j.at("updates");
    const bool lagging = j.at("lagging");
    std::vector<math::CatchUpMatrix<double>> products;
    for (const auto& row : j.at("products")) {
      const math::CatchUpMatrix<double> m{row.at(0), row.at(1), row.at(2), row.at(3)};
      if (!std::isfinite(m.ww1) || !std::isfinite(m.wv) || !std::isfinite(m.vw) || !std::isfinite(m.vv)) {
        fail("the head's catch-up table holds a number that is not finite");
      }
      products.push_back(m);
    }
    if (next < static_cast<int64_t>(products.size())) {
      fail("the head's catch-up table holds {} products after {} updates", products.size(), next);
    }
    next_ = next;
    products_ = std::move(products);
    stale_ = true;
    return lagging;
  } catch (const nlohmann::json::exception& e) {
    fail_hint("use another checkpoint", "the head's catch-up table cannot be read: {}", e.what());
  }
}

}  // namespace plsc
