#pragma once

#include <ferrule/assert.hpp>
#include <ferrule/task/environment.hpp>
#include <ferrule/task/host.hpp>
#include <ferrule/version.hpp>

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <source_location>
#include <type_traits>
#include <utility>

namespace ferrule::inline v0 {

class PromiseBase;
template <class T>
class Task;

/// Called when a detached task has ended and its frame is destroyed; `exception` is what left it, or null. The thread
/// that ended it.
using CompletionHook = void (*)(void* argument, std::exception_ptr exception) noexcept;

namespace detail {

/// Told of the end of a task that somebody else owns (when_all, when_any).
struct Completion {
    /// Returns what is to be resumed next. The task is suspended at its end and keeps its result.
    std::coroutine_handle<> (*ended)(Completion& completion, PromiseBase& promise, bool failed) noexcept;
};

}  // namespace detail

/// What every promise of the library has in common. An awaiter's `await_suspend(std::coroutine_handle<Promise>)` reads
/// `handle.promise().environment`; see environment_of for coroutines of other kinds.
class PromiseBase
#if defined(FERRULE_LIVE_TASKS)
    : public detail::LiveTaskLink
#endif
{
public:
    union {
        /// What the task runs under: set when it is awaited or spawned.
        Environment* environment = nullptr;
        /// In a detached task whose body has thrown, and which therefore reads no environment any more.
        CompletionHook hook_after_failure;
    };
    /// What is resumed when the task ends: null while it has not waited yet. Tagged when the end is not a resumption
    /// (see `detached`).
    std::coroutine_handle<> continuation = nullptr;

    // The low bits of `continuation`, whose pointer is aligned to 8 in each case.
    /// The rest is a detail::Completion.
    static constexpr std::uintptr_t observed = 1;
    /// The task destroys itself and calls its hook with the rest as the argument.
    static constexpr std::uintptr_t detached = 2;
    /// It is detached and has thrown: the hook is in `hook_after_failure`.
    static constexpr std::uintptr_t detached_failed = 4;
    static constexpr std::uintptr_t tags = observed | detached | detached_failed;

    /// The continuation with its tags.
    std::uintptr_t continuation_bits() const noexcept {
        return reinterpret_cast<std::uintptr_t>(continuation.address());
    }

    /// Makes the end of the task something else than a resumption: `pointer`, aligned to 8, as `tag` says.
    void set_tagged_continuation(void* pointer, std::uintptr_t tag) noexcept {
        const auto bits = reinterpret_cast<std::uintptr_t>(pointer);
        FERRULE_ASSERT((bits & tags) == 0);
        continuation = std::coroutine_handle<>::from_address(reinterpret_cast<void*>(bits | tag));
    }

    /// The continuation without its tags.
    void* tagged_pointer() const noexcept {
        return reinterpret_cast<void*>(continuation_bits() & ~tags);
    }

    static void* operator new(std::size_t bytes) {
        void* memory = allocate_frame(bytes);
#if defined(FERRULE_LIVE_TASKS)
        if (Host* host = Host::current(); host != nullptr) host->live_tasks.allocated(memory, bytes);
#endif
        return memory;
    }
    static void operator delete(void* memory, std::size_t bytes) noexcept {
        deallocate_frame(memory, bytes);
    }

    std::suspend_always initial_suspend() const noexcept {
        return {};
    }

protected:
    PromiseBase() noexcept = default;
    ~PromiseBase() = default;

    void list_as_live([[maybe_unused]] const void* address,
                      [[maybe_unused]] const std::source_location& where) noexcept {
#if defined(FERRULE_LIVE_TASKS)
        if (Host* host = Host::current(); host != nullptr) {
            this->frame = address;
            this->function = where;
            this->since_ns = host->now_ns();
            this->LiveTaskLink::continuation = &continuation_of;
            host->live_tasks.add(*this);
        }
#endif
    }

#if defined(FERRULE_LIVE_TASKS)
private:
    // The task's thread stores it, without an atomic, whenever it begins to wait: what is read is one or the other.
    __attribute__((no_sanitize("thread"))) static std::uintptr_t continuation_of(
        const detail::LiveTaskLink& link) noexcept {
        const auto* place = &static_cast<const PromiseBase&>(link).continuation;
        static_assert(sizeof(*place) == sizeof(std::uintptr_t) && LiveTaskList::tags == tags);
        return __atomic_load_n(reinterpret_cast<const std::uintptr_t*>(place), __ATOMIC_RELAXED);
    }
#endif
};

/// The environment that a coroutine runs under: its promise's, or, for one that has none, the current host's root.
template <class Promise>
Environment* environment_of(std::coroutine_handle<Promise> handle) noexcept {
    if constexpr (std::derived_from<Promise, PromiseBase>) {
        return handle.promise().environment;
    } else {
        Host* host = Host::current();
        FERRULE_ASSERT(host != nullptr);
        return &host->root_environment;
    }
}

namespace detail {

template <class T>
class TaskPromise;

/// The end of a task: resumes who awaits it, by symmetric transfer.
struct FinalAwaiter {
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> handle) const noexcept {
        const std::uintptr_t bits = handle.promise().continuation_bits();
        if ((bits & PromiseBase::tags) != 0) [[unlikely]] {
            return handle.promise().end_tagged(handle);
        }
        if (bits == 0) {
            // It never had to wait: whoever resumed it sees that it is done.
            return std::noop_coroutine();
        }
        return handle.promise().continuation;
    }
    void await_resume() const noexcept {}
};

/// What a `Task<T>` stores of its result: the value, or the exception, in the same place.
template <class T>
class TaskPromise : public PromiseBase {
public:
    using Stored = std::conditional_t<std::is_reference_v<T>, std::add_pointer_t<T>, T>;

    TaskPromise() noexcept {}
    TaskPromise(const TaskPromise&) = delete;
    TaskPromise& operator=(const TaskPromise&) = delete;
    ~TaskPromise() {
        if (state_ == State::value) {
            std::destroy_at(std::addressof(value_));
        } else if (state_ == State::failed) {
            std::destroy_at(&exception_);
        }
    }

    Task<T> get_return_object(std::source_location where = std::source_location::current()) noexcept;
    FinalAwaiter final_suspend() const noexcept { return {}; }

    template <class Value = T>
    requires(!std::is_reference_v<T> && std::constructible_from<T, Value&&>) void return_value(Value&& value) noexcept(
        std::is_nothrow_constructible_v<T, Value&&>) {
        std::construct_at(std::addressof(value_), std::forward<Value>(value));
        state_ = State::value;
    }
    void return_value(T value) noexcept requires std::is_reference_v<T> {
        value_ = std::addressof(value);
        state_ = State::value;
    }
    void unhandled_exception() noexcept {
        std::construct_at(&exception_, std::current_exception());
        state_ = State::failed;
    }

    bool failed() const noexcept { return state_ == State::failed; }
    std::exception_ptr exception() const noexcept { return failed() ? exception_ : nullptr; }

    T take() {
        if (state_ == State::failed) [[unlikely]] {
            std::rethrow_exception(std::move(exception_));
        }
        FERRULE_ASSERT(state_ == State::value);
        if constexpr (std::is_reference_v<T>) {
            return static_cast<T>(*value_);
        } else {
            return std::move(value_);
        }
    }

    std::coroutine_handle<> end_tagged(std::coroutine_handle<>) noexcept {
        auto& completion = *static_cast<Completion*>(tagged_pointer());
        return completion.ended(completion, *this, failed());
    }

private:
    enum class State : std::uint8_t { running, value, failed };
    union {
        Stored value_;
        std::exception_ptr exception_;
    };
    State state_ = State::running;
};

template <>
class TaskPromise<void> : public PromiseBase {
public:
    TaskPromise() noexcept : exception_() {}
    TaskPromise(const TaskPromise&) = delete;
    TaskPromise& operator=(const TaskPromise&) = delete;
    ~TaskPromise() {
        // A detached task that has not failed has its hook here, and never an exception.
        if ((continuation_bits() & (detached | detached_failed)) != detached) {
            std::destroy_at(&exception_);
        }
    }

    Task<void> get_return_object(std::source_location where = std::source_location::current()) noexcept;
    FinalAwaiter final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}

    void unhandled_exception() noexcept {
        if ((continuation_bits() & detached) == 0) {
            exception_ = std::current_exception();
            return;
        }
        const CompletionHook hook = hook_;
        hook_after_failure = hook;
        std::construct_at(&exception_, std::current_exception());
        set_tagged_continuation(tagged_pointer(), detached | detached_failed);
    }

    bool failed() const noexcept { return exception_ != nullptr; }
    std::exception_ptr exception() const noexcept { return exception_; }

    void take() {
        if (exception_ != nullptr) [[unlikely]] {
            std::rethrow_exception(std::move(exception_));
        }
    }

    /// From now on the task belongs to nobody: at its end it destroys its frame and then calls `hook`. `argument` is
    /// aligned to 8.
    void detach(CompletionHook hook, void* argument) noexcept {
        set_tagged_continuation(argument, detached);
        std::destroy_at(&exception_);
        hook_ = hook;
    }

    std::coroutine_handle<> end_tagged(std::coroutine_handle<> handle) noexcept {
        if ((continuation_bits() & observed) != 0) {
            auto& completion = *static_cast<Completion*>(tagged_pointer());
            return completion.ended(completion, *this, failed());
        }
        void* argument = tagged_pointer();
        CompletionHook hook = nullptr;
        std::exception_ptr exception;
        if ((continuation_bits() & detached_failed) != 0) {
            hook = hook_after_failure;
            exception = std::move(exception_);
        } else {
            hook = hook_;
        }
        handle.destroy();
        hook(argument, std::move(exception));
        return std::noop_coroutine();
    }

private:
    union {
        std::exception_ptr exception_;
        CompletionHook hook_;
    };
};

}  // namespace detail

/// A coroutine that somebody awaits, once: lazy, move-only. It starts when it is awaited, inline; when it has ended
/// without having to wait, the awaiting coroutine goes on without being suspended. When it ends later, its end resumes
/// the awaiting coroutine directly. Its frame comes from the current host's pool (std::bad_alloc from the call when the
/// pool's bound is reached).
///
/// Destroying a task that has not ended destroys its frame and, with its locals, the tasks that it awaits, from the top
/// down to the operation at the bottom, which detaches itself; a task that is running may not be destroyed.
///
/// An exception that leaves the coroutine is thrown again where it is awaited.
///
/// Thread: the host's own. There are no atomics in it: a task that leaves its thread (a hop, an offload) does so only
/// after the dispatch that suspended it has unwound. Whoever moves tasks between threads keeps the hop back until then.
///
/// ```cpp
/// Task<std::size_t> length_of_answer(std::string whom) {
///     const std::string answer = co_await ask(whom);
///     co_return answer.size();
/// }
/// ```
template <class T = void>
class [[nodiscard("a task does nothing until it is awaited or spawned")]] Task {
public:
    using promise_type = detail::TaskPromise<T>;
    using Handle = std::coroutine_handle<promise_type>;
    using Value = T;

    Task() noexcept = default;
    Task(Task && other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Task& operator=(Task&& other) noexcept {
        if (this != &other) {
            reset();
            handle_ = std::exchange(other.handle_, nullptr);
        }
        return *this;
    }
    ~Task() {
        if (handle_) {
            handle_.destroy();
        }
    }

    /// True until the task is moved from or spawned.
    explicit operator bool() const noexcept {
        return handle_ != nullptr;
    }

    /// True when the coroutine has ended, and its result has not been taken.
    bool done() const noexcept {
        return handle_ && handle_.done();
    }

    /// Destroys the coroutine, wherever it is suspended.
    void reset() noexcept {
        if (Handle handle = std::exchange(handle_, nullptr)) {
            handle.destroy();
        }
    }

    bool await_ready() const noexcept {
        return false;
    }

    /// Starts the task under the awaiting coroutine's environment. False when it has ended already.
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> awaiting) const noexcept {
        return start(*environment_of(awaiting), awaiting);
    }

    /// What await_suspend does, under a given environment, which outlives the task.
    bool start(Environment & environment, std::coroutine_handle<> awaiting) const noexcept {
        FERRULE_ASSERT(handle_);
        auto& promise = handle_.promise();
        FERRULE_ASSERT(promise.environment == nullptr);
        promise.environment = &environment;
        handle_.resume();
        if (handle_.done()) {
            return false;
        }
        promise.continuation = awaiting;
        return true;
    }

    /// Starts the task for an owner who does not await it but is told of its end, and then takes the result by
    /// `await_resume`.
    void start_observed(Environment & environment, detail::Completion & completion) const noexcept {
        FERRULE_ASSERT(handle_);
        auto& promise = handle_.promise();
        FERRULE_ASSERT(promise.environment == nullptr);
        promise.environment = &environment;
        promise.set_tagged_continuation(&completion, PromiseBase::observed);
        handle_.resume();
    }

    T await_resume() const {
        return handle_.promise().take();
    }

    /// Gives up ownership: whoever takes the handle destroys the frame or detaches the task.
    Handle release() noexcept {
        return std::exchange(handle_, nullptr);
    }
    /// The coroutine; null after a move. For those who build on tasks.
    Handle handle() const noexcept {
        return handle_;
    }

private:
    friend promise_type;
    explicit Task(Handle handle) noexcept : handle_(handle) {}

    Handle handle_ = nullptr;
};

template <class T>
Task<T> detail::TaskPromise<T>::get_return_object(std::source_location where) noexcept {
    const auto handle = std::coroutine_handle<TaskPromise>::from_promise(*this);
    list_as_live(handle.address(), where);
    return Task<T>(handle);
}

inline Task<void> detail::TaskPromise<void>::get_return_object(std::source_location where) noexcept {
    const auto handle = std::coroutine_handle<TaskPromise>::from_promise(*this);
    list_as_live(handle.address(), where);
    return Task<void>(handle);
}

}  // namespace ferrule::inline v0
