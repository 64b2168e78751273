#pragma once

#include <ferrule/assert.hpp>
#include <ferrule/task/cancel.hpp>
#include <ferrule/task/environment.hpp>
#include <ferrule/task/host.hpp>
#include <ferrule/task/task.hpp>
#include <ferrule/version.hpp>

#include <concepts>
#include <coroutine>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace ferrule::inline v0 {

template <class T>
class Stream;

namespace detail {

/// What the coroutine of a stream runs under: a scope of its own, so that no wait of its body is in that of a reader
/// who may go. Beside the frame, because the parameters of a coroutine outlive its promise.
struct StreamContext {
    CancelScope scope;
    Environment environment{&scope, Host::current(), 0};
};

class StreamNext;

/// The promise of a stream without the type of its items.
class FERRULE_EXPORT StreamPromiseBase : public PromiseBase {
public:
    StreamPromiseBase() : context_(new (allocate_frame(sizeof(StreamContext))) StreamContext) {
        this->environment = &context_->environment;
    }
    StreamPromiseBase(const StreamPromiseBase&) = delete;
    StreamPromiseBase& operator=(const StreamPromiseBase&) = delete;

    /// At an item, and at the end: goes on with the reader, when one waits.
    struct Stop {
        bool await_ready() const noexcept { return false; }
        template <class Promise>
        std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> handle) const noexcept {
            StreamPromiseBase& self = handle.promise();
            FERRULE_ASSERT(Host::current() == self.context_->environment.host);
            self.at_rest_ = true;
            if (!self.continuation) {
                return std::noop_coroutine();
            }
            return std::exchange(self.continuation, nullptr);
        }
        void await_resume() const noexcept {}
    };

    Stop final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    void unhandled_exception() noexcept { exception_ = std::current_exception(); }

    /// Gives up the context: whoever destroys the frame ends it afterwards.
    StreamContext* context() const noexcept { return context_; }
    /// Whether somebody is in `next`.
    bool awaited() const noexcept { return next_ != nullptr; }

protected:
    ~StreamPromiseBase() = default;

    // An item, in the frame, that nobody has taken yet.
    void* item_ = nullptr;

private:
    friend StreamNext;

    StreamContext* context_;
    std::exception_ptr exception_;
    StreamNext* next_ = nullptr;
    // Suspended at its beginning, at an item, or at its end: not in an await of its body.
    bool at_rest_ = true;
};

template <class T>
class StreamPromise final : public StreamPromiseBase {
public:
    /// An item that has been copied into the frame.
    class Copied : public Stop {
    public:
        explicit Copied(const T& item) : item_(item) {}
        template <class Promise>
        std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> handle) noexcept {
            handle.promise().item_ = std::addressof(item_);
            return Stop::await_suspend(handle);
        }

    private:
        T item_;
    };

    Stream<T> get_return_object(std::source_location where = std::source_location::current()) noexcept;

    Stop yield_value(T&& item) noexcept {
        this->item_ = std::addressof(item);
        return {};
    }
    Copied yield_value(const T& item) requires std::copy_constructible<T> { return Copied(item); }

    T* item() const noexcept { return static_cast<T*>(this->item_); }
    void forget_item() noexcept { this->item_ = nullptr; }
};

/// What does not depend on the type of the items in what `next` gives to await.
class FERRULE_EXPORT StreamNext : private CancelNode {
public:
    bool await_ready() const {
        if (promise_->awaited()) [[unlikely]] {
            misuse();
        }
        return decided() && Host::current()->spend_inline_budget();
    }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) {
        return suspend(handle, environment_of(handle));
    }

protected:
    StreamNext(StreamPromiseBase& promise, std::coroutine_handle<> stream) noexcept
        : CancelNode(&on_cancel), promise_(&promise), stream_(stream) {}
    StreamNext(StreamNext&& other) noexcept
        : CancelNode(other.cancel), promise_(other.promise_), stream_(other.stream_) {
        FERRULE_ASSERT(!other.reader_);
    }
    ~StreamNext() {
        if (reader_) [[unlikely]] {
            detach();
        }
    }

    /// The reader goes on. Throws what has left the body.
    void resume() {
        if (reader_) {
            leave();
        }
        if (promise_->item_ == nullptr && promise_->exception_ != nullptr) [[unlikely]] {
            std::rethrow_exception(std::exchange(promise_->exception_, nullptr));
        }
    }

private:
    static void on_cancel(CancelNode& node, CancelReason reason) noexcept;
    [[noreturn]] static void misuse();

    /// Whether the next item is there, or there will be none.
    bool decided() const noexcept { return promise_->item_ != nullptr || stream_.done(); }
    bool suspend(std::coroutine_handle<> handle, const Environment* environment);
    void leave() noexcept;
    void detach() noexcept;

    StreamPromiseBase* promise_;
    std::coroutine_handle<> stream_;
    // Null but while it is suspended.
    std::coroutine_handle<> reader_;
    // The reader is in the ready list.
    bool queued_ = false;
};

}  // namespace detail

/// A coroutine that makes items one by one, each when it is asked for: `co_yield` gives one, `co_await` waits for what
/// it needs, its end ends the stream. It runs while somebody awaits `next`, inline, and is suspended at its `co_yield`
/// otherwise. Its frame comes from the current host's pool (std::bad_alloc from the call).
///
/// Destroying the stream destroys the coroutine where it is suspended, with its locals; what it awaits detaches itself.
/// Nobody may be in `next` then (assertion).
///
/// Cancelling the scope of a task that waits in `next` cancels what the body waits for, then and from then on; `next`
/// ends when the body does, or with the item that it gives all the same. To stop waiting and keep the stream, use
/// `select`: a `next` that loses takes nothing, the body goes on with what it waits for, and the next `next` gets its
/// item.
///
/// Thread: that of the host on which it is made.
///
/// ```cpp
/// Stream<std::string> lines_of(std::vector<std::string> names) {
///     for (const std::string& name : names) {
///         std::string line = co_await ask(name);
///         co_yield std::move(line);  // co_yield line copies
///     }
/// }
///
/// Task<> print(Stream<std::string> lines) {
///     while (auto line = co_await lines.next()) std::puts(line->c_str());
/// }
/// ```
template <class T>
class [[nodiscard("a stream does nothing until next is awaited")]] Stream {
    static_assert(std::is_object_v<T> && std::is_nothrow_move_constructible_v<T>);

public:
    using promise_type = detail::StreamPromise<T>;
    using Value = T;

    Stream() noexcept = default;
    Stream(Stream && other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Stream& operator=(Stream&& other) noexcept {
        if (this != &other) {
            reset();
            handle_ = std::exchange(other.handle_, nullptr);
        }
        return *this;
    }
    ~Stream() {
        reset();
    }

    /// True until it is moved from or reset. It says nothing of whether an item comes.
    explicit operator bool() const noexcept {
        return handle_ != nullptr;
    }

    /// Destroys the coroutine, wherever it is suspended.
    void reset() noexcept {
        if (const auto handle = std::exchange(handle_, nullptr)) {
            FERRULE_ASSERT(!handle.promise().awaited() &&
                           "a stream is destroyed while somebody waits for its next item");
            detail::StreamContext* context = handle.promise().context();
            handle.destroy();
            std::destroy_at(context);
            deallocate_frame(context, sizeof(detail::StreamContext));
        }
    }

    /// What `next` gives to await.
    class [[nodiscard]] Next : public detail::StreamNext {
    public:
        explicit Next(std::coroutine_handle<promise_type> handle) noexcept
            : StreamNext(handle.promise(), handle), handle_(handle) {}
        Next(Next&&) noexcept = default;

        std::optional<T> await_resume() {
            this->resume();
            promise_type& promise = handle_.promise();
            std::optional<T> item;
            if (promise.item() != nullptr) {
                item.emplace(std::move(*promise.item()));
                promise.forget_item();
            }
            return item;
        }

    private:
        std::coroutine_handle<promise_type> handle_;
    };

    /// `while (auto item = co_await stream.next())`: the next item; empty when there are no more. An exception that has
    /// left the body is thrown, once; then the stream has ended. One at a time: a second throws std::logic_error. The
    /// stream is one (assertion).
    Next next() {
        FERRULE_ASSERT(handle_);
        return Next(handle_);
    }

private:
    friend promise_type;
    explicit Stream(std::coroutine_handle<promise_type> handle) noexcept : handle_(handle) {}

    std::coroutine_handle<promise_type> handle_;
};

template <class T>
Stream<T> detail::StreamPromise<T>::get_return_object(std::source_location where) noexcept {
    const auto handle = std::coroutine_handle<StreamPromise>::from_promise(*this);
    this->list_as_live(handle.address(), where);
    return Stream<T>(handle);
}

}  // namespace ferrule::inline v0
