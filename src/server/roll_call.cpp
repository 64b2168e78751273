#include <ferrule/assert.hpp>

#include "server/roll_call.hpp"

#include <exception>
#include <utility>

namespace ferrule::inline v0 {

/// On its way to a reactor, or home again.
struct RollCall::Call : Message {
    RollCall* roll = nullptr;
    std::size_t index = 0;
    bool homeward = false;
};

RollCall::RollCall(Reactor& control, const std::vector<std::unique_ptr<Member>>& members)
    : control_(control), home_(control.inbox()), members_(members), calls_(members.size()) {
    for (std::size_t index = 0; index < calls_.size(); ++index) {
        calls_[index].run = &RollCall::on_arrival;
        calls_[index].roll = this;
        calls_[index].index = index;
    }
}

RollCall::~RollCall() = default;

void RollCall::ask(std::function<void(std::size_t)> question, std::function<void()> answered) {
    FERRULE_ASSERT(!under_way());
    question_ = std::move(question);
    answered_ = std::move(answered);
    missing_ = calls_.size();
    for (Call& call : calls_) {
        call.homeward = false;
        control_.send_later(members_[call.index]->reactor->inbox(), call, true);
    }
}

void RollCall::on_arrival(Message* message, bool delivered) noexcept {
    auto& call = *static_cast<Call*>(message);
    if (call.homeward) {
        if (delivered) call.roll->heard();
        return;
    }
    // One that has ended has nothing to say.
    if (delivered) call.roll->answer(call);
    call.homeward = true;
    // Its control may have ended, and this with it, as soon as it is there.
    const std::shared_ptr<Inbox> home = call.roll->home_;
    if (home->put_beyond_limit(call) && home->claim_wake()) home->wake();
}

void RollCall::answer(Call& call) noexcept {
    try {
        question_(call.index);
    } catch (...) {
        members_[call.index]->reactor->fault(std::current_exception());
    }
}

void RollCall::heard() noexcept {
    if (--missing_ != 0) return;
    try {
        // It may ask the next question.
        const auto answered = std::exchange(answered_, nullptr);
        answered();
    } catch (...) {
        control_.fault(std::current_exception());
    }
}

}  // namespace ferrule::inline v0
