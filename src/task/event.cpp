#include <ferrule/task/event.hpp>

namespace ferrule::inline v0 {

void Event::Wait::on_cancel(CancelNode& node, CancelReason) noexcept {
    auto& self = static_cast<Wait&>(of(node));
    self.event_->waiters_.cancel(self);
}

}  // namespace ferrule::inline v0
