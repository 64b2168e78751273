#pragma once

#include <ferrule/reactor/inbox.hpp>
#include <ferrule/reactor/reactor.hpp>

#include "server/member.hpp"

#include <coroutine>
#include <cstddef>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

namespace ferrule::inline v0 {

/// Asks every reactor of a server something, each on its own thread, and tells the control when the last one has
/// answered or has ended. One question at a time. Asking allocates nothing, and a full mailbox does not lose it.
///
/// The control's, which it must outlive, and so must the members.
class RollCall {
public:
    RollCall(Reactor& control, const std::vector<std::unique_ptr<Member>>& members);
    ~RollCall();
    RollCall(const RollCall&) = delete;
    RollCall& operator=(const RollCall&) = delete;

    /// Calls `question` with the number of each reactor on its thread, then `answered` on the control's. What a
    /// question throws is that reactor's fault. Not while one is under way.
    void ask(std::function<void(std::size_t index)> question, std::function<void()> answered);

    /// `ask`, to be awaited by a task of the control: `auto asked = roll.asked(question); co_await asked;`.
    class Asked {
    public:
        Asked(RollCall& roll, std::function<void(std::size_t)> question)
            : roll_(roll), question_(std::move(question)) {}
        [[nodiscard]] bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<> waiter) {
            roll_.ask(std::move(question_), [&control = roll_.control_, waiter] { control.resume_later(waiter); });
        }
        void await_resume() const noexcept {}

    private:
        RollCall& roll_;
        std::function<void(std::size_t)> question_;
    };
    Asked asked(std::function<void(std::size_t index)> question) { return Asked(*this, std::move(question)); }

    /// Whether answers are missing.
    [[nodiscard]] bool under_way() const noexcept { return missing_ != 0; }

private:
    struct Call;
    static void on_arrival(Message* message, bool delivered) noexcept;
    void answer(Call& call) noexcept;
    void heard() noexcept;

    Reactor& control_;
    std::shared_ptr<Inbox> home_;
    const std::vector<std::unique_ptr<Member>>& members_;
    std::vector<Call> calls_;
    std::function<void(std::size_t)> question_;
    std::function<void()> answered_;
    std::size_t missing_ = 0;
};

}  // namespace ferrule::inline v0
