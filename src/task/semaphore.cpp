#include <ferrule/task/semaphore.hpp>

namespace ferrule::inline v0 {

void Semaphore::Acquire::on_cancel(CancelNode& node, CancelReason) noexcept {
    auto& self = static_cast<Acquire&>(of(node));
    self.semaphore_->waiters_.cancel(self);
    // It may have been the first, and have wanted more than those behind it.
    self.semaphore_->grant();
}

void Semaphore::Acquire::give_up() noexcept {
    switch (abandon(semaphore_->waiters_)) {
        case State::granted:
            semaphore_->give_back(amount());
            break;
        case State::waiting:
            semaphore_->grant();
            break;
        default:
            break;
    }
}

void Semaphore::close() noexcept {
    waiters_.check_thread();
    closed_ = true;
    waiters_.end_all(State::closed);
}

void Semaphore::grant() noexcept {
    while (!waiters_.empty() && waiters_.first()->amount() <= available_) {
        take(waiters_.first()->amount());
        waiters_.end_first(State::granted);
    }
}

}  // namespace ferrule::inline v0
