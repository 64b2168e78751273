#pragma once

#include <ferrule/net/address.hpp>
#include <ferrule/net/connect.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/reactor/subsystem.hpp>
#include <ferrule/reactor/tag.hpp>
#include <ferrule/reactor/timer_heap.hpp>
#include <ferrule/ring/abi.hpp>
#include <ferrule/task/cancel.hpp>
#include <ferrule/task/environment.hpp>
#include <ferrule/task/task.hpp>

#include <coroutine>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace ferrule::inline v0 {

class Connector;
class ConnectRace;

/// One address that is, was, or will be tried. In the reactor's table, because the kernel reads the address; freed when
/// the race has let go of it and its last completion has come, and its descriptor is closed then.
struct ConnectAttempt {
    enum class Stage : std::uint8_t { untried, connecting, connected, failed, abandoned };

    ConnectRace* race = nullptr;     // null: nobody waits for it any more
    ConnectAttempt* next = nullptr;  // of its race, in order; in the free list otherwise
    const char* operation = "";      // what failed
    Address address;
    int error = 0;
    int descriptor = -1;
    std::uint32_t index = 0;
    std::uint32_t generation = 1;
    Stage stage = Stage::untried;
    bool in_kernel = false;  // a completion is to come
    bool polling = false;    // it is the one of a poll
};

/// Awaits the first of several addresses to connect; a local of the coroutine that awaits it, once. The kernel knows
/// nothing of it, so that it may go at any time.
class ConnectRace : private Timer, private CancelNode {
public:
    /// `due_ns`: monotonic; TimerHeap::never: none. `addresses`, at least one, and `options` outlive it. Throws
    /// std::bad_alloc.
    ConnectRace(Connector& connector, std::span<const Address> addresses, const ConnectOptions& options,
                std::uint64_t due_ns);
    ConnectRace(const ConnectRace&) = delete;
    ConnectRace& operator=(const ConnectRace&) = delete;
    ~ConnectRace();

    [[nodiscard]] bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) noexcept {
        return begin(handle, environment_of(handle));
    }
    /// The connected descriptor, which is the caller's; -1: error() tells.
    int await_resume() noexcept;

    /// Why none has connected.
    [[nodiscard]] ConnectError error() const;
    /// The address that has connected.
    [[nodiscard]] const Address& winner() const noexcept { return winner_->address; }

private:
    friend class Connector;
    bool begin(std::coroutine_handle<> handle, Environment* environment) noexcept;
    void go_on() noexcept;
    void arm_timer() noexcept;
    void finish() noexcept;
    void on_attempt(ConnectAttempt& attempt, int result) noexcept;
    void on_time() noexcept;
    static void on_cancelled(CancelNode& node, CancelReason reason) noexcept;

    Connector* connector_;
    std::span<const Address> addresses_;
    const ConnectOptions* options_;
    std::uint64_t due_ns_;
    std::uint64_t next_ns_ = TimerHeap::never;  // when the next address is tried, whatever the others do
    std::coroutine_handle<> waiter_;
    ConnectAttempt* first_ = nullptr;
    ConnectAttempt* untried_ = nullptr;
    ConnectAttempt* winner_ = nullptr;
    std::uint32_t connecting_ = 0;
    int refusal_ = 0;        // why all of it has ended, whatever the attempts say
    bool finished_ = false;  // nothing more is waited for
    bool queued_ = false;    // the waiter is in the ready list
};

/// The connects of one reactor that are under way. A service of its reactor.
class Connector final : public Subsystem {
public:
    explicit Connector(Reactor& reactor);
    ~Connector() override;
    Connector(const Connector&) = delete;
    Connector& operator=(const Connector&) = delete;

    static Connector& of(Reactor& reactor);

    [[nodiscard]] Reactor& reactor() const noexcept { return *reactor_; }

    // Subsystem.
    void shutdown() noexcept override;
    [[nodiscard]] bool quiescent() const noexcept override { return in_kernel_ == 0; }

private:
    friend class ConnectRace;
    static constexpr std::uint32_t attempts_per_chunk = 16;

    ConnectAttempt* take(const Address& address);
    void let_go(ConnectAttempt& attempt) noexcept;
    void free(ConnectAttempt& attempt) noexcept;
    void close_socket(ConnectAttempt& attempt) noexcept;
    [[nodiscard]] ConnectAttempt& at(std::uint32_t index) noexcept {
        return attempts_[index / attempts_per_chunk][index % attempts_per_chunk];
    }
    bool start(ConnectAttempt& attempt, const ConnectOptions& options) noexcept;
    int open_socket(ConnectAttempt& attempt, const ConnectOptions& options) noexcept;
    void submit(ConnectAttempt& attempt, bool poll) noexcept;
    void cancel(ConnectAttempt& attempt) noexcept;
    [[nodiscard]] ConnectAttempt* find(Tag tag) noexcept;
    [[nodiscard]] bool connected_to_itself(const ConnectAttempt& attempt) noexcept;
    void on_completion(const abi::Completion& completion) noexcept;
    void on_cancel_completion(const abi::Completion& completion) noexcept;

    Reactor* reactor_;
    std::uint8_t kind_ = 0;
    std::uint8_t cancel_kind_ = 0;
    std::uint8_t timer_route_ = 0;
    std::uint32_t in_kernel_ = 0;
    std::uint32_t live_ = 0;
    ConnectAttempt* free_ = nullptr;
    std::vector<std::unique_ptr<ConnectAttempt[]>> attempts_;
};

}  // namespace ferrule::inline v0
