#include <ferrule/task/mutex.hpp>

namespace ferrule::inline v0 {

void Mutex::Lock::on_cancel(CancelNode& node, CancelReason) noexcept {
    auto& self = static_cast<Lock&>(of(node));
    self.mutex_->waiters_.cancel(self);
}

void Mutex::Lock::give_up() noexcept {
    if (abandon(mutex_->waiters_) == State::granted) {
        mutex_->unlock();
    }
}

}  // namespace ferrule::inline v0
