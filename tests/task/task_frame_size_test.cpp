// The bytes of coroutine frames of typical shapes, as this compiler makes them. A frame is what an idle connection
// costs.
#include <ferrule/task/channel.hpp>
#include <ferrule/task/mutex.hpp>
#include <ferrule/task/scope.hpp>
#include <ferrule/task/select.hpp>
#include <ferrule/task/spawn.hpp>
#include <ferrule/task/stream.hpp>
#include <ferrule/task/task_group.hpp>
#include <ferrule/task/when_all.hpp>
#include <ferrule/task/when_any.hpp>
#include <ferrule/task/yield.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdio>

namespace {

using namespace ferrule;

#if defined(FERRULE_LIVE_TASKS)
constexpr std::size_t list_bytes = sizeof(detail::LiveTaskLink);
#else
constexpr std::size_t list_bytes = 0;
#endif

std::size_t measured_bytes = 0;

/// A task whose promise tells how large its frame is.
struct Measured {
    struct promise_type : detail::TaskPromise<void> {
        static void* operator new(std::size_t bytes) {
            measured_bytes = bytes;
            return allocate_frame(bytes);
        }
        static void operator delete(void* memory, std::size_t bytes) noexcept { deallocate_frame(memory, bytes); }
        Measured get_return_object() noexcept { return {detail::TaskPromise<void>::get_return_object()}; }
    };
    Task<> task;
};

struct MeasuredNumber {
    struct promise_type : detail::TaskPromise<int> {
        static void* operator new(std::size_t bytes) {
            measured_bytes = bytes;
            return allocate_frame(bytes);
        }
        static void operator delete(void* memory, std::size_t bytes) noexcept { deallocate_frame(memory, bytes); }
        MeasuredNumber get_return_object() noexcept { return {detail::TaskPromise<int>::get_return_object()}; }
    };
    Task<int> task;
};

/// As the library's awaiters are: one pointer.
struct Operation {
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<>) const noexcept {}
    void await_resume() const noexcept {}
    void* slot = nullptr;
};

/// A handle as Connection is: pointer and generation, with a destructor.
struct Handle {
    Handle() noexcept = default;
    Handle(Handle&& other) noexcept : slot(other.slot) { other.slot = nullptr; }
    ~Handle() { slot = nullptr; }
    Operation read() const noexcept { return {slot}; }
    Operation flush() const noexcept { return {slot}; }
    void* slot = nullptr;
    std::uint32_t generation = 0;
};

// Not inlined: clang leaves out the frame of a coroutine that it inlines.
[[gnu::noinline]] Task<> child() {
    co_return;
}
[[gnu::noinline]] Task<int> number() {
    co_return 1;
}

[[gnu::noinline]] Measured empty() {
    co_return;
}
[[gnu::noinline]] Measured one_await() {
    co_await Operation();
}
[[gnu::noinline]] Measured six_awaits() {
    co_await Operation();
    co_await Operation();
    co_await Operation();
    co_await Operation();
    co_await Operation();
    co_await Operation();
}
[[gnu::noinline]] Measured one_child() {
    co_await child();
}
[[gnu::noinline]] Measured yields() {
    co_await yield_now();
}
[[gnu::noinline]] Measured handler(Handle handle) {
    for (int i = 0; i < 3; ++i) {
        co_await handle.read();
        co_await handle.flush();
    }
}
[[gnu::noinline]] MeasuredNumber one_await_with_result() {
    co_await Operation();
    co_return 1;
}
[[gnu::noinline]] Measured reads_environment() {
    co_await this_environment();
}
[[gnu::noinline]] Measured awaits_both() {
    co_await when_all(number(), number());
}
[[gnu::noinline]] Measured awaits_group() {
    const Environment& environment = co_await this_environment();
    TaskGroup group(environment);
    co_await group.join();
}

[[gnu::noinline]] Measured locks(Mutex& mutex) {
    const auto guard = co_await mutex.lock();
    co_await Operation();
}
[[gnu::noinline]] Measured sends_and_receives(Channel<int>& channel) {
    const auto sent = co_await channel.send(1);
    const auto received = co_await channel.receive();
}
[[gnu::noinline]] Measured selects(Channel<int>& channel) {
    co_await select(channel.receive(), Operation());
}
[[gnu::noinline]] Stream<int> numbers() {
    co_yield 1;
}

[[maybe_unused, gnu::noinline]] Task<> scoped(CancelScope& scope) {
    return with_scope(scope, child());
}
[[maybe_unused, gnu::noinline]] Task<> all_of_two() {
    return when_all(child(), child());
}
[[maybe_unused, gnu::noinline]] Task<std::variant<std::monostate, std::monostate>> any_of_two() {
    return when_any(child(), child());
}

class FrameSize : public ::testing::Test {
protected:
    template <class Make>
    void expect_at_most(const char* shape, std::size_t bytes_max, Make make) {
        const auto task = make();
        report(shape, measured_bytes - list_bytes, bytes_max);
    }

    /// For the library's own coroutines: the block that one takes.
    template <class Make>
    void expect_block_at_most(const char* shape, std::size_t bytes_max, Make make) {
        const std::uint64_t before = host.frames.live_bytes();
        const auto task = make();
        report(shape, host.frames.live_bytes() - before, bytes_max);
    }

    void report(const char* shape, std::size_t bytes, std::size_t bytes_max) {
        std::printf("%-40s %4zu bytes (at most %zu)\n", shape, bytes, bytes_max);
        RecordProperty(std::string("bytes_") + shape, std::to_string(bytes));
        EXPECT_LE(bytes, bytes_max) << shape;
    }

    ThreadHost host;
    HostBinding binding{host};
};

TEST_F(FrameSize, OfTypicalShapes) {
    expect_at_most("empty", 56, [] { return empty(); });
    expect_at_most("one_await", 72, [] { return one_await(); });
    expect_at_most("six_awaits", 112, [] { return six_awaits(); });
    expect_at_most("one_child", 72, [] { return one_child(); });
    expect_at_most("yields", 72, [] { return yields(); });
    expect_at_most("handler_of_a_connection", 104, [] { return handler(Handle()); });
    expect_at_most("one_await_with_result", 80, [] { return one_await_with_result(); });
    expect_at_most("reads_environment", 72, [] { return reads_environment(); });
    expect_at_most("awaits_both", 96, [] { return awaits_both(); });
    expect_at_most("awaits_group", 216, [] { return awaits_group(); });
    // What waits for another task has its node in the frame, and no memory beside it.
    Mutex mutex;
    Channel<int> channel(1);
    expect_at_most("locks", 168, [&] { return locks(mutex); });
    expect_at_most("sends_and_receives", 264, [&] { return sends_and_receives(channel); });
    expect_at_most("selects", 320, [&] { return selects(channel); });
}

TEST_F(FrameSize, OfTheLibrarysCoroutines) {
#if defined(FERRULE_LIVE_TASKS)
    GTEST_SKIP() << "built with FERRULE_LIVE_TASKS";
#else
    CancelScope scope;
    // Each is made with its children, whose blocks are of 64 bytes.
    expect_block_at_most("child", 64, [] { return child(); });
    expect_block_at_most("with_scope", 64 + 160, [&] { return scoped(scope); });
    expect_block_at_most("when_all_of_two", 2 * 64 + 256, [] { return all_of_two(); });
    expect_block_at_most("when_any_of_two", 2 * 64 + 288, [] { return any_of_two(); });
    // With its context, of 112 bytes.
    expect_block_at_most("stream", 112 + 112, [] { return numbers(); });
#endif
}

}  // namespace
