#pragma once

#include <ferrule/assert.hpp>
#include <ferrule/reactor/inbox.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/task/cancel.hpp>
#include <ferrule/task/environment.hpp>
#include <ferrule/task/fan_out.hpp>
#include <ferrule/task/host.hpp>
#include <ferrule/task/task.hpp>
#include <ferrule/version.hpp>

#include <atomic>
#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <expected>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <system_error>
#include <type_traits>
#include <utility>

namespace ferrule::inline v0 {

namespace detail {

/// A call on its way to another reactor and back. It lives in a block of the frame pool of the reactor that makes it,
/// not in the frame that awaits it: whoever awaits may be gone before it is back.
///
/// It belongs to the awaiter, to the message that goes there and comes back, and, when it is cancelled, to a second
/// message that goes behind the first and comes back too. The last of them to end frees it, at home, unless home has
/// ended.
class FERRULE_EXPORT CallState : public Message {
public:
    CallState(const CallState&) = delete;
    CallState& operator=(const CallState&) = delete;

    /// Sends the call to its target, under the deadline and the cancellation of `environment`. Home, once.
    void launch(const Environment& environment);
    /// Waits for its return; launches it before, if that has not been done. False: it is back, or refused. Home.
    bool wait(std::coroutine_handle<> handle, const Environment& environment);
    /// The awaiting coroutine goes on. Home.
    void resumed() noexcept {
        queued_ = false;
        waiter_ = nullptr;
    }
    /// After the wait: whether the function has ended, with a value or by an exception. False: it was refused or
    /// cancelled.
    [[nodiscard]] bool ended() const noexcept { return stage_ == Stage::back && !refused_; }
    /// The awaiter lets go of it.
    void let_go() noexcept;

protected:
    CallState(Reactor* target, std::shared_ptr<Inbox> target_inbox, std::size_t bytes) noexcept
        : target_(target), target_inbox_(std::move(target_inbox)), bytes_(bytes) {}
    virtual ~CallState();

    /// Runs the function, or begins it. True: it has ended. False: `ended_there` says when. There.
    virtual bool run_there(Reactor& there) noexcept = 0;
    /// Cancels what `run_there` has begun. There.
    virtual void cancel_there(CancelReason reason) noexcept = 0;
    /// Destroys the function and its result. Where they came from.
    virtual void drop() noexcept = 0;
    /// What was begun has ended. The state may be gone when this returns. There.
    void ended_there() noexcept;

    [[nodiscard]] std::uint64_t deadline_ns() const noexcept { return deadline_ns_; }
    [[nodiscard]] std::uint64_t trace() const noexcept { return trace_; }

private:
    enum class Stage : std::uint8_t { made, away, back };

    /// Follows the call, to cancel it there. Behind it in the mailbox, so it never comes first.
    struct Pursuit : Message {
        CallState* call = nullptr;
        std::shared_ptr<Inbox> home_inbox;
        CancelReason reason = CancelReason::cancelled;
    };

    static void arrive(Message* message, bool delivered) noexcept;
    static void come_home(Message* message, bool delivered) noexcept;
    static void pursue(Message* message, bool delivered) noexcept;
    static void pursuit_home(Message* message, bool delivered) noexcept;
    static void on_cancel(CancelNode& node, CancelReason reason) noexcept;

    void returned() noexcept;
    void cancel_away(CancelReason reason) noexcept;
    void release() noexcept;

    /// Only home touches these.
    struct Waiting : CancelNode {
        explicit Waiting(CallState& state) noexcept : CancelNode(&CallState::on_cancel), call(&state) {}
        CallState* call;
    };
    Waiting node_{*this};
    std::coroutine_handle<> waiter_;
    Reactor* home_ = nullptr;
    Reactor* target_;  // a name that is compared, never followed
    std::shared_ptr<Inbox> target_inbox_;
    Stage stage_ = Stage::made;
    bool queued_ = false;    // the waiter is in the ready list
    bool pursued_ = false;   // it was cancelled while it was away
    bool let_go_ = false;    // nobody wants the result
    bool is_local_ = false;  // the target is home
    /// Travels with the call.
    bool refused_ = false;
    bool runs_there_ = false;
    std::shared_ptr<Inbox> home_inbox_;
    std::uint64_t deadline_ns_ = 0;
    std::uint64_t trace_ = 0;
    Pursuit pursuit_;
    std::atomic<std::uint32_t> holders_{1};
    std::size_t bytes_;
};

/// A call whose function gives a `Value`.
template <class Value>
class CallResult : public CallState {
public:
    /// What the function gave, or ECANCELED; throws what it threw.
    std::expected<Value, std::error_code> take() {
        if (!ended()) return std::unexpected(std::make_error_code(std::errc::operation_canceled));
        if (exception_) std::rethrow_exception(exception_);
        if constexpr (std::is_void_v<Value>) {
            return {};
        } else {
            return std::expected<Value, std::error_code>(std::in_place, std::move(*value_));
        }
    }

protected:
    using CallState::CallState;

    template <class Made>
    void keep(Made&& make) noexcept {
        try {
            if constexpr (std::is_void_v<Value>) {
                make();
            } else {
                value_.emplace(make());
            }
        } catch (...) {
            exception_ = std::current_exception();
        }
    }
    void drop() noexcept override {
        value_.reset();
        exception_ = nullptr;
    }

    std::optional<NonVoid<Value>> value_;
    std::exception_ptr exception_;
};

template <class Function>
decltype(auto) invoke_on(Function& function, Reactor& there) {
    if constexpr (std::invocable<Function&, Reactor&>) {
        return std::invoke(function, there);
    } else {
        return std::invoke(function);
    }
}

template <class Function>
using CallReturns = decltype(invoke_on(std::declval<Function&>(), std::declval<Reactor&>()));

template <class Returns>
struct CallValue {
    using Type = Returns;
    static constexpr bool is_task = false;
};
template <class Value>
struct CallValue<Task<Value>> {
    using Type = Value;
    static constexpr bool is_task = true;
};

/// A call of a function that returns its value.
template <class Function>
class PlainCall final : public CallResult<CallReturns<Function>> {
    using Base = CallResult<CallReturns<Function>>;

public:
    template <class Given>
    PlainCall(Reactor* target, std::shared_ptr<Inbox> inbox, Given&& function)
        : Base(target, std::move(inbox), sizeof(PlainCall)), function_(std::forward<Given>(function)) {}

private:
    bool run_there(Reactor& there) noexcept override {
        this->keep([&]() -> decltype(auto) { return invoke_on(*function_, there); });
        return true;
    }
    void cancel_there(CancelReason) noexcept override {}
    void drop() noexcept override {
        Base::drop();
        function_.reset();
    }

    std::optional<Function> function_;
};

/// A call of a function that returns a task, which is awaited there.
template <class Function>
class TaskCall final : public CallResult<typename CallReturns<Function>::Value>, private Completion {
    using Value = typename CallReturns<Function>::Value;
    using Base = CallResult<Value>;

public:
    template <class Given>
    TaskCall(Reactor* target, std::shared_ptr<Inbox> inbox, Given&& function)
        : Base(target, std::move(inbox), sizeof(TaskCall)),
          Completion{&TaskCall::on_end},
          function_(std::forward<Given>(function)) {}

private:
    bool run_there(Reactor& there) noexcept override {
        try {
            task_ = invoke_on(*function_, there);
        } catch (...) {
            this->exception_ = std::current_exception();
            return true;
        }
        scope_.emplace(there.root_environment.scope);
        environment_ = {&*scope_, &there, this->trace()};
        if (this->deadline_ns() != 0) scope_->set_deadline(this->deadline_ns());
        // Its end may free this state.
        task_.start_observed(environment_, *this);
        return false;
    }
    void cancel_there(CancelReason reason) noexcept override { scope_->cancel(reason); }
    void drop() noexcept override {
        Base::drop();
        function_.reset();
    }

    static std::coroutine_handle<> on_end(Completion& completion, PromiseBase&, bool) noexcept {
        auto& self = static_cast<TaskCall&>(completion);
        self.keep([&]() -> decltype(auto) { return self.task_.await_resume(); });
        self.task_.reset();
        self.scope_.reset();
        self.ended_there();
        return std::noop_coroutine();
    }

    std::optional<Function> function_;
    std::optional<CancelScope> scope_;
    Environment environment_;
    Task<Value> task_;
};

/// Awaits a call; one pointer.
template <class Value>
class [[nodiscard("a call is made when it is awaited")]] CallAwaiter {
public:
    explicit CallAwaiter(CallResult<Value> * state) noexcept : state_(state) {}
    CallAwaiter(CallAwaiter && other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    CallAwaiter& operator=(CallAwaiter&&) = delete;
    ~CallAwaiter() {
        if (state_ != nullptr) state_->let_go();
    }

    /// Makes the call without waiting for it: for those who make several.
    void launch(const Environment& environment) {
        state_->launch(environment);
    }

    [[nodiscard]] bool await_ready() const noexcept {
        return false;
    }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) {
        return state_->wait(handle, *environment_of(handle));
    }
    std::expected<Value, std::error_code> await_resume() {
        // It lets go at the end of this, also when it throws.
        const CallAwaiter ended{std::exchange(state_, nullptr)};
        ended.state_->resumed();
        return ended.state_->take();
    }

private:
    CallResult<Value>* state_;
};

/// `target` is a name: the call goes to the mailbox.
template <class Given>
auto make_call(Reactor* target, std::shared_ptr<Inbox> inbox, Given&& function) {
    using Function = std::decay_t<Given>;
    using Returns = CallReturns<Function>;
    using Value = typename CallValue<Returns>::Type;
    static_assert(!std::is_reference_v<Value>, "a call gives a value: what it refers to belongs to the other reactor");
    using State = std::conditional_t<CallValue<Returns>::is_task, TaskCall<Function>, PlainCall<Function>>;
    static_assert(alignof(State) <= 16, "frames are aligned to 16");
    void* const memory = allocate_frame(sizeof(State));
    try {
        return CallAwaiter<Value>(new (memory) State(target, std::move(inbox), std::forward<Given>(function)));
    } catch (...) {
        deallocate_frame(memory, sizeof(State));
        throw;
    }
}

}  // namespace detail

/// Runs a function on another reactor's thread and gives what it returned: `auto length = co_await call(there,
/// measure);`.
///
/// `function` is called once, there, with nothing or with a `Reactor&`. It is moved there and back: it is made and
/// destroyed here, its result is made there and destroyed here. When it returns a `Task<T>`, that is awaited there, and
/// the call gives its `T`. References to what the caller owns are for those who know that the caller waits: see
/// docs/hazards.md. Name a capturing lambda before the co_await. On the own reactor it is called at once.
///
/// The result is a std::expected. ECANCELED when the function has not been called, because the other reactor ends, has
/// ended, or its mailbox is full, or because the deadline was over when the call arrived; and when the caller was
/// cancelled before the call came back. What the function or its task throws is rethrown here.
///
/// Cancelling or destroying the caller ends the await at once, and the task there is cancelled too, with the same
/// reason; a plain function runs to its end. What comes back then is dropped. The earliest deadline of the caller's
/// scopes goes along and bounds the task there. A reactor that ends waits for its calls to come back.
///
/// Reactor's own thread; elsewhere it throws std::logic_error (there is `Reactor::post`). The state of a call is in the
/// frame pool of this reactor: nothing is allocated once it is warm, and std::bad_alloc when the pool's bound is
/// reached. The other reactor may end, and be destroyed, before the call is back; this one may not be destroyed then.
///
/// ```cpp
/// Task<std::size_t> length_there(Reactor& there, std::string text) {
///     auto measure = [text = std::move(text)] { return text.size(); };
///     const auto length = co_await call(there, std::move(measure));
///     co_return length.value_or(0);
/// }
/// ```
template <class Function>
[[nodiscard]] auto call(Reactor& target, Function&& function) {
    return detail::make_call(&target, target.inbox(), std::forward<Function>(function));
}

}  // namespace ferrule::inline v0
