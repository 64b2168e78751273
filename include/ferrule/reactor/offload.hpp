#pragma once

#include <ferrule/reactor/inbox.hpp>
#include <ferrule/ring/kernel.hpp>
#include <ferrule/task/environment.hpp>
#include <ferrule/version.hpp>

#include <atomic>
#include <coroutine>
#include <deque>
#include <exception>
#include <expected>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

namespace ferrule::inline v0 {

class Reactor;

/// One blocking call on its way to a thread and back. It lives in the awaiting frame, which therefore must not be
/// destroyed before it is back (assertion).
struct FERRULE_EXPORT OffloadCall : Message {
    /// Where the call is. Reactor's own thread.
    enum class State : std::uint8_t { idle, refused, in_flight, returned };

    OffloadCall() = default;
    OffloadCall(OffloadCall&&) = default;
    virtual ~OffloadCall();
    /// On the other thread.
    virtual void call() noexcept = 0;
    std::coroutine_handle<> waiter;
    Reactor* home = nullptr;
    std::shared_ptr<Inbox> home_inbox;
    State state = State::idle;
};

/// The few threads of a reactor on which blocking calls run. The reactor's thread gives, they take.
class FERRULE_EXPORT OffloadPool {
public:
    explicit OffloadPool(Reactor& reactor);
    ~OffloadPool();
    OffloadPool(const OffloadPool&) = delete;
    OffloadPool& operator=(const OffloadPool&) = delete;

    /// Hands the call over once the current dispatch has unwound. False when `ReactorOptions::offload_limit` calls
    /// wait. The reactor's own thread.
    bool give(OffloadCall& call);
    /// Whether every call has come back. The reactor's own thread.
    [[nodiscard]] bool idle() const noexcept { return in_flight_ == 0; }
    /// Calls that have not come back. The reactor's own thread.
    [[nodiscard]] std::size_t in_flight() const noexcept { return in_flight_; }
    /// Whether calls were given and not dispatched yet. The reactor's own thread.
    [[nodiscard]] bool has_given() const noexcept { return !given_.empty(); }
    /// The reactor's side of a call that has come back.
    void returned() noexcept { --in_flight_; }
    /// Takes what `give` has been handed to the threads.
    void dispatch() noexcept;
    /// Waits until every call has been made and its message sent, and ends the threads. No call is taken afterwards.
    void end() noexcept;

private:
    void work() noexcept;
    void wake_threads(std::size_t count) noexcept;
    /// The next call, when there is one; null: none, and `*ended` says whether there will be none.
    OffloadCall* next(bool* ended) noexcept;

    Reactor* reactor_;
    std::size_t in_flight_ = 0;
    std::vector<OffloadCall*> given_;
    std::mutex mutex_;
    std::deque<OffloadCall*> queue_;
    bool stopping_ = false;
    // Counts what changes under the mutex: the threads wait for the next change through the kernel, not through a
    // condition variable, which no other kernel than the system's could answer.
    std::atomic<std::uint32_t> changes_{0};
    std::vector<std::unique_ptr<ThreadHandle>> threads_;
};

namespace detail {

/// Queues `call` on the current reactor. False when it is refused and the coroutine goes on at once.
FERRULE_EXPORT bool offload_call(OffloadCall& call, std::coroutine_handle<> waiter);

template <class Result>
struct OffloadResult {
    std::optional<Result> value;
    template <class Function>
    void run(Function& function) {
        value.emplace(function());
    }
    Result take() { return std::move(*value); }
};
template <>
struct OffloadResult<void> {
    template <class Function>
    void run(Function& function) {
        function();
    }
    void take() {}
};

template <class Function>
class OffloadAwaiter final : OffloadCall {
public:
    using Result = std::invoke_result_t<Function&>;
    explicit OffloadAwaiter(Function function) : function_(std::move(function)) {}
    [[nodiscard]] bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) {
        return offload_call(*this, handle);
    }
    std::expected<Result, std::error_code> await_resume() {
        waiter = nullptr;
        if (state == State::refused)
            return std::unexpected(std::make_error_code(std::errc::resource_unavailable_try_again));
        if (exception_) std::rethrow_exception(exception_);
        if constexpr (std::is_void_v<Result>) {
            return {};
        } else {
            return result_.take();
        }
    }

private:
    void call() noexcept override {
        try {
            result_.run(function_);
        } catch (...) {
            exception_ = std::current_exception();
        }
    }

    Function function_;
    OffloadResult<Result> result_;
    std::exception_ptr exception_;
};

}  // namespace detail

/// Runs a blocking call on a thread of the current reactor's small pool and resumes here with what it returned. What it
/// throws is rethrown. EAGAIN when `ReactorOptions::offload_limit` calls wait already, and when the reactor ends. Name
/// a capturing lambda before the co_await. It cannot be cancelled: the await lasts as long as the call, so does the end
/// of the reactor, and destroying the awaiter before that is not allowed (assertion). Reactor's own thread. Throws
/// std::system_error when the first call finds that no thread can be started.
///
/// ```cpp
/// auto read = [] { return read_configuration("/etc/app.conf"); };
/// const auto text = co_await offload(read);
/// if (text) connection.write(*text);
/// ```
template <class Function>
[[nodiscard]] detail::OffloadAwaiter<std::decay_t<Function>> offload(Function&& function) {
    return detail::OffloadAwaiter<std::decay_t<Function>>(std::forward<Function>(function));
}

}  // namespace ferrule::inline v0
