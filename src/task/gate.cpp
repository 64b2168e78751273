#include <ferrule/task/gate.hpp>

namespace ferrule::inline v0 {

void Gate::Close::on_cancel(CancelNode& node, CancelReason) noexcept {
    auto& self = static_cast<Close&>(of(node));
    self.gate_->closers_.cancel(self);
}

}  // namespace ferrule::inline v0
