#include "nn/module.h"

#include "nn/batch_norm.h"

namespace plsc {

void Module::finish_step(Context& context) {
  struct Finish final : ParamVisitor {
    explicit Finish(Context& c) : context(c) {}
    Context& context;
    void param(Param&) override {}
    void norm(BatchNorm& n) override { n.finish_step(context); }
  } finish(context);
  visit(finish);
}

void Module::step_was_played(int64_t step) {
  struct Note final : ParamVisitor {
    explicit Note(int64_t s) : step(s) {}
    int64_t step;
    void param(Param&) override {}
    void norm(BatchNorm& n) override { n.step_was_played(step); }
  } note(step);
  visit(note);
}

void Module::use_place(size_t place) {
  struct Use final : ParamVisitor {
    explicit Use(size_t p) : place(p) {}
    size_t place;
    void param(Param&) override {}
    void saved(SavedPlaces& s) override { s.use(place); }
  } use(place);
  visit(use);
}

std::vector<Param*> Backbone::params() {
  struct Collect final : ParamVisitor {
    std::vector<Param*> found;
    void param(Param& p) override { found.push_back(&p); }
  } collect;
  visit(collect);
  return std::move(collect.found);
}

std::vector<Tensor*> Backbone::summed() {
  struct Collect final : ParamVisitor {
    std::vector<Tensor*> found;
    void param(Param&) override {}
    void summed(Tensor& t) override { found.push_back(&t); }
  } collect;
  visit(collect);
  return std::move(collect.found);
}

}  // namespace plsc
