#pragma once

#include <ferrule/net/network.hpp>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/ring/kernel.hpp>

#include "support/client_socket.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <future>
#include <iterator>
#include <memory>
#include <mutex>
#include <ostream>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace ferrule_test {

/// Descriptors that this process has open.
inline std::size_t open_descriptors() {
    const std::filesystem::directory_iterator entries{"/proc/self/fd"};
    return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
}

/// An abstract Unix address that no other test has.
inline ferrule::Address unique_unix_address() {
    static std::atomic<unsigned> count{0};
    const std::string name =
        "unix:@ferrule-test-" + std::to_string(::getpid()) + "-" + std::to_string(count.fetch_add(1));
    return *ferrule::Address::parse(name, 0);
}

/// Reads a batch, writes each slice back, flushes: the raw form of the echo of all echo cases.
inline ferrule::Task<> echo(ferrule::Connection connection) {
    while (auto received = co_await connection.read()) {
        for (const auto slice : received) connection.write(slice);
        co_await connection.flush();
    }
}

/// How connections come to their reactors.
enum class Accepting {
    usual,         ///< each reactor listens on the same TCP port; on a Unix address one does, and hands over in turn
    each_its_own,  ///< each reactor listens, on a Unix address of its own
    handed_over,   ///< one reactor listens, and hands over in turn
};

struct EngineOptions {
    unsigned reactors = 1;
    Accepting accepting = Accepting::usual;
    ferrule::ReactorOptions reactor;
    ferrule::NetworkOptions network;
    ferrule::ListenSocketOptions socket{.address = ferrule::Address::loopback(0)};
    ferrule::Kernel* kernel = &ferrule::linux_kernel();
    /// Whether the end of the engine checks that nothing is left of its connections.
    bool check_remains = true;
};

/// Reactors with networks on threads of their own, all serving with one handler, as EngineOptions::accepting says.
class Engine {
public:
    /// What a network still has when its reactor has ended.
    struct Remains {
        std::uint64_t connections = 0;
        std::uint32_t buffers = 0;
        std::uint32_t slices = 0;
        std::uint64_t slab_bytes = 0;
        std::uint64_t frames = 0;

        bool operator==(const Remains&) const = default;
    };

    explicit Engine(ferrule::ConnectionHandler handler, EngineOptions options = {}) : options_(std::move(options)) {
        const bool shares_port = options_.socket.address.family() != ferrule::AddressFamily::unix_domain;
        const bool all_listen =
            options_.accepting == Accepting::each_its_own || (options_.accepting == Accepting::usual && shares_port);
        std::vector<int> sockets;
        for (unsigned number = 0; number < (all_listen ? options_.reactors : 1); ++number) {
            if (number != 0 && !shares_port) options_.socket.address = unique_unix_address();
            const auto socket = ferrule::open_listen_socket(*options_.kernel, options_.socket);
            if (!socket) throw std::runtime_error(socket.error().message);
            sockets.push_back(*socket);
            addresses_.push_back(*ferrule::local_address(*options_.kernel, *socket));
            if (shares_port) options_.socket.address = addresses_.front();
        }
        std::vector<std::promise<void>> started(options_.reactors);
        remains_.resize(options_.reactors);
        for (unsigned number = 0; number < options_.reactors; ++number) {
            reactors_.push_back(std::make_unique<ferrule::Reactor>(number, options_.reactor, *options_.kernel));
        }
        networks_.resize(options_.reactors);
        for (unsigned number = 0; number < options_.reactors; ++number) {
            ferrule::Reactor& reactor = *reactors_[number];
            reactor.on_fault([this](ferrule::Reactor&, std::exception_ptr fault) {
                const std::lock_guard lock(mutex_);
                faults_.push_back(std::move(fault));
            });
            const int socket = number < sockets.size() ? sockets[number] : -1;
            threads_.emplace_back([this, number, socket, handler, hands_over = !all_listen, &started] {
                ferrule::Reactor& own = *reactors_[number];
                own.on_start([&, number](ferrule::Reactor& starting) {
                    auto& network = starting.add_service<ferrule::Network>(starting, options_.network);
                    networks_[number] = &network;
                    if (socket < 0) {
                        network.add_handler(handler, options_.socket.proxy);
                    } else {
                        network.listen(socket, handler, nullptr, options_.socket.proxy);
                        if (networks_.size() > 1 && hands_over) {
                            network.on_accept(
                                [this](int accepted, std::uint16_t listener) { return hand_over(accepted, listener); });
                        }
                    }
                    started[number].set_value();
                });
                try {
                    own.run();
                } catch (...) {
                    const std::lock_guard lock(mutex_);
                    faults_.push_back(std::current_exception());
                }
                const ferrule::Network& network = *networks_[number];
                remains_[number] = {network.counters().connections.value(), network.buffers().held(), network.leases(),
                                    network.slabs().used_bytes(), own.frames.live_frames()};
            });
        }
        for (auto& one : started) one.get_future().wait();
    }
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;
    ~Engine() {
        stop();
        join();
        if (options_.check_remains) {
            for (const Remains& remains : remains_) EXPECT_EQ(remains, Remains{});
        }
    }

    const ferrule::Address& address() const noexcept { return addresses_.front(); }
    ClientSocket connect(int receive_buffer = 0) const { return ClientSocket::connect(address(), receive_buffer); }
    /// To the address of a reactor, where each has its own, and by turns.
    ClientSocket connect_to(unsigned number) const {
        return ClientSocket::connect(addresses_[number % addresses_.size()]);
    }
    ferrule::Reactor& reactor(unsigned number = 0) { return *reactors_[number]; }
    ferrule::Network& network(unsigned number = 0) { return *networks_[number]; }
    const ferrule::NetworkCounters& counters(unsigned number = 0) { return network(number).counters(); }

    /// Calls the function on the reactor's thread and returns what it returns.
    template <class Function>
    auto on_reactor(Function function, unsigned number = 0) {
        std::packaged_task<std::invoke_result_t<Function>()> task{std::move(function)};
        auto result = task.get_future();
        if (!reactors_[number]->post([&task] { task(); })) throw std::runtime_error("the reactor has ended");
        return result.get();
    }

    /// Waits until the predicate holds on the reactor's thread: asks again and again, because what it waits for has no
    /// event of its own.
    template <class Predicate>
    void eventually(const char* what, Predicate predicate, unsigned number = 0) {
        const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(ClientSocket::patience_seconds);
        while (!on_reactor(predicate, number)) {
            if (std::chrono::steady_clock::now() > until) throw std::runtime_error(std::string("in vain: ") + what);
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    }
    /// Waits until the reactor has no connection any more.
    void until_empty(unsigned number = 0) {
        eventually(
            "no connections", [this, number] { return counters(number).connections.value() == 0; }, number);
    }

    void stop() {
        for (const auto& reactor : reactors_) reactor->stop();
    }
    void drain(std::chrono::nanoseconds timeout, unsigned number = 0) {
        on_reactor([this, timeout, number] { reactors_[number]->drain(timeout); }, number);
    }
    /// Waits until all reactors have ended.
    void join() {
        for (std::thread& thread : threads_) {
            if (thread.joinable()) thread.join();
        }
    }
    /// What was left when the reactor ended; after `join`.
    const Remains& remains(unsigned number = 0) const { return remains_[number]; }

    /// What left handlers as exceptions so far.
    std::size_t faults() const {
        const std::lock_guard lock(mutex_);
        return faults_.size();
    }

private:
    bool hand_over(int accepted, std::uint16_t listener) {
        const auto number = next_++ % static_cast<unsigned>(networks_.size());
        if (number == 0) return false;
        reactors_[number]->post([this, number, accepted, listener] { networks_[number]->adopt(accepted, listener); });
        return true;
    }

    EngineOptions options_;
    std::vector<ferrule::Address> addresses_;
    unsigned next_ = 0;
    std::vector<std::unique_ptr<ferrule::Reactor>> reactors_;
    std::vector<ferrule::Network*> networks_;
    std::vector<Remains> remains_;
    mutable std::mutex mutex_;
    std::vector<std::exception_ptr> faults_;
    std::vector<std::thread> threads_;
};

inline std::ostream& operator<<(std::ostream& stream, const Engine::Remains& remains) {
    return stream << remains.connections << " connections, " << remains.buffers << " buffers, " << remains.slices
                  << " slices, " << remains.slab_bytes << " slab bytes, " << remains.frames << " frames";
}

/// Calls the function with 0, 1, ... `count` - 1, each on a thread of its own; throws what the first of them threw.
template <class Function>
void in_parallel(unsigned count, Function function) {
    std::vector<std::future<void>> all;
    for (unsigned number = 0; number < count; ++number) {
        all.push_back(std::async(std::launch::async, [&function, number] { function(number); }));
    }
    for (auto& one : all) one.wait();
    for (auto& one : all) one.get();
}

/// A counter of events that threads wait for.
class Signal {
public:
    void raise() {
        const std::lock_guard lock(mutex_);
        ++count_;
        condition_.notify_all();
    }
    /// Waits until it has been raised so many times.
    void wait(unsigned times = 1) {
        std::unique_lock lock(mutex_);
        if (!condition_.wait_for(lock, std::chrono::seconds(ClientSocket::patience_seconds),
                                 [&] { return count_ >= times; })) {
            throw std::runtime_error("a signal did not come");
        }
    }
    unsigned count() const {
        const std::lock_guard lock(mutex_);
        return count_;
    }

private:
    mutable std::mutex mutex_;
    std::condition_variable condition_;
    unsigned count_ = 0;
};

/// Waits on a reactor's thread for what has no event of its own there: the predicate is asked at the end of each pass.
/// A local of the coroutine that awaits it, once.
class Until final : public ferrule::Subsystem {
public:
    Until(ferrule::Reactor& reactor, std::function<bool()> predicate)
        : reactor_(&reactor), predicate_(std::move(predicate)) {
        reactor_->add_subsystem(*this);
    }
    Until(const Until&) = delete;
    Until& operator=(const Until&) = delete;
    ~Until() override { reactor_->remove_subsystem(*this); }

    bool await_ready() const { return predicate_(); }
    void await_suspend(std::coroutine_handle<> waiter) noexcept { waiter_ = waiter; }
    void await_resume() const noexcept {}

    bool must_not_sleep() const noexcept override { return waiter_ && predicate_(); }
    void after_completions() noexcept override {
        if (waiter_ && predicate_()) reactor_->resume_later(std::exchange(waiter_, nullptr));
    }

private:
    ferrule::Reactor* reactor_;
    std::function<bool()> predicate_;
    std::coroutine_handle<> waiter_;
};

/// An event that one coroutine awaits: opened on the reactor's thread.
class Gate {
public:
    void open() {
        open_ = true;
        if (waiter_) std::exchange(waiter_, nullptr).resume();
    }
    bool await_ready() const noexcept { return open_; }
    void await_suspend(std::coroutine_handle<> waiter) noexcept { waiter_ = waiter; }
    void await_resume() const noexcept {}

private:
    std::coroutine_handle<> waiter_;
    bool open_ = false;
};

}  // namespace ferrule_test
