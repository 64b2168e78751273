#include "net/resolver_state.hpp"

#include <algorithm>
#include <cstddef>
#include <new>
#include <utility>

namespace ferrule::inline v0 {

Resolver::State::Wait::Wait(State& state) noexcept : CancelNode(&Wait::on_cancel), state_(state) {
    route = state.timer_route;
}

Resolver::State::Wait::~Wait() {
    if (stage_ == Stage::queued) state_.reactor.forget(waiter_);
    CancelScope::remove(*this);
    state_.reactor.timers().disarm(*this);
    for (std::size_t index = 0; index < count_; ++index) std::erase(lookups_[index]->waits, this);
}

void Resolver::State::Wait::add(std::shared_ptr<Lookup> lookup) {
    if (lookup->answer == nullptr) lookup->waits.push_back(this);
    lookups_[count_++] = std::move(lookup);
}

Resolver::State::Answer Resolver::State::Wait::answer(std::size_t index) const noexcept {
    return lookups_[index]->answer;
}

bool Resolver::State::Wait::complete() const noexcept {
    return std::all_of(lookups_.begin(), lookups_.begin() + static_cast<std::ptrdiff_t>(count_),
                       [](const auto& lookup) { return lookup->answer != nullptr; });
}

bool Resolver::State::Wait::has_addresses() const noexcept {
    return std::any_of(lookups_.begin(), lookups_.begin() + static_cast<std::ptrdiff_t>(count_),
                       [](const auto& lookup) { return lookup->answer != nullptr && !lookup->answer->error; });
}

bool Resolver::State::Wait::await_ready() const noexcept {
    return complete() && state_.reactor.spend_inline_budget();
}

void Resolver::State::Wait::suspend(std::coroutine_handle<> handle, Environment* environment) {
    waiter_ = handle;
    stage_ = Stage::waiting;
    if (complete()) {
        // It need not wait, but its budget for this pass is used up.
        state_.reactor.mutable_counters().yields.add();
        wake();
        return;
    }
    // A task that visits another reactor is cancelled when it comes home: its scope is not this thread's to touch.
    CancelScope* scope = environment != nullptr && environment->host == &state_.reactor && environment->scope != nullptr
                             ? environment->scope
                             : state_.reactor.root_environment.scope;
    if (!scope->add(*this)) {
        cancelled_ = scope->reason();
        wake();
        return;
    }
    if (has_addresses()) on_answer();
}

void Resolver::State::Wait::on_answer() noexcept {
    if (stage_ != Stage::waiting) return;
    if (complete()) {
        wake();
    } else if (has_addresses() && !armed()) {
        try {
            const auto delay = static_cast<std::uint64_t>(
                std::max<std::int64_t>(std::chrono::nanoseconds(state_.options.resolution_delay).count(), 0));
            state_.reactor.timers().arm(*this, state_.reactor.kernel().monotonic_ns() + delay);
        } catch (const std::bad_alloc&) {
            wake();
        }
    }
}

void Resolver::State::Wait::wake() noexcept {
    if (stage_ != Stage::waiting) return;
    stage_ = Stage::queued;
    CancelScope::remove(*this);
    state_.reactor.timers().disarm(*this);
    state_.reactor.resume_later(waiter_);
}

void Resolver::State::Wait::on_cancel(CancelNode& node, CancelReason reason) noexcept {
    auto& wait = static_cast<Wait&>(node);
    wait.cancelled_ = reason;
    wait.wake();
}

}  // namespace ferrule::inline v0
