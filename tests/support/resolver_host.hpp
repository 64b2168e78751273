#pragma once

#include <ferrule/net/resolver.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/task/cancel.hpp>
#include <ferrule/task/scope.hpp>

#include "support/network_engine.hpp"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <expected>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace ferrule_test {

using Resolved = std::expected<ferrule::ResolvedName, ferrule::ResolveError>;

/// A folder for a resolv.conf and a hosts file, gone with this object.
class HostFolder {
public:
    HostFolder() {
        std::string pattern = std::filesystem::temp_directory_path() / "ferrule-XXXXXX";
        if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp");
        folder_ = pattern;
    }
    HostFolder(const HostFolder&) = delete;
    HostFolder& operator=(const HostFolder&) = delete;
    ~HostFolder() { std::filesystem::remove_all(folder_); }

    std::string path(const std::string& name) const { return folder_ / name; }
    void write(const std::string& name, std::string_view text) const {
        // Whoever reads meanwhile sees the one text or the other.
        std::ofstream(path(name + ".new")) << text;
        std::filesystem::rename(path(name + ".new"), path(name));
    }
    void remove(const std::string& name) const { std::filesystem::remove(path(name)); }

    /// Options that know nothing of this machine's own files.
    ferrule::ResolverOptions options() const {
        ferrule::ResolverOptions options;
        options.resolv_conf = path("resolv.conf");
        options.hosts = path("hosts");
        // On a busy machine the answers for both families may come one long after the other.
        options.resolution_delay = std::chrono::seconds(20);
        return options;
    }

private:
    std::filesystem::path folder_;
};

/// A question that waits: its answer, and the scope in which it can be cancelled.
struct PendingResolve {
    std::promise<Resolved> promise;
    std::future<Resolved> result = promise.get_future();
    ferrule::CancelScope* scope = nullptr;  // the reactor's thread
};

/// A reactor with a resolver, on a thread of its own.
class ResolverHost {
public:
    explicit ResolverHost(ferrule::ResolverOptions options, ferrule::Kernel& kernel = ferrule::linux_kernel(),
                          ferrule::ReactorOptions reactor_options = {})
        : reactor_(std::make_unique<ferrule::Reactor>(0, reactor_options, kernel)) {
        reactor_->on_fault([this](ferrule::Reactor&, std::exception_ptr) { ++faults_; });
        resolver_ = &reactor_->add_service<ferrule::Resolver>(*reactor_, std::move(options));
        thread_ = std::thread([this] { reactor_->run(); });
    }
    ResolverHost(const ResolverHost&) = delete;
    ResolverHost& operator=(const ResolverHost&) = delete;
    ~ResolverHost() {
        end();
        EXPECT_EQ(reactor_->frames.live_frames(), 0u);
        EXPECT_EQ(faults_.load(), 0u);
    }
    /// Ends the reactor, whatever is in flight.
    void end() {
        reactor_->stop();
        if (thread_.joinable()) thread_.join();
    }

    ferrule::Reactor& reactor() noexcept { return *reactor_; }
    ferrule::Resolver& resolver() noexcept { return *resolver_; }
    const ferrule::ResolverCounters& counters() const noexcept { return resolver_->counters(); }

    /// Runs the function on the reactor's thread and waits for it.
    void on_reactor(std::function<void()> function) {
        std::promise<void> done;
        reactor_->post([&] {
            function();
            done.set_value();
        });
        done.get_future().wait();
    }
    /// Lets the loop look at its clock and timers.
    void turn() {
        on_reactor([] {});
        on_reactor([] {});
    }

    /// Begins to resolve the name.
    std::shared_ptr<PendingResolve> begin(std::string name) {
        auto pending = std::make_shared<PendingResolve>();
        on_reactor([&] { reactor_->spawn(run(this, std::move(name), pending)); });
        return pending;
    }
    Resolved resolve(std::string name) { return begin(std::move(name))->result.get(); }

    /// The addresses of the name, or the error's message.
    std::vector<std::string> texts(std::string name) { return texts_of(resolve(std::move(name))); }
    static std::vector<std::string> texts_of(const Resolved& resolved) {
        if (!resolved) return {resolved.error().message};
        std::vector<std::string> all;
        for (const auto& address : resolved->addresses) all.push_back(address.to_string());
        return all;
    }

    void cancel(const std::shared_ptr<PendingResolve>& pending,
                ferrule::CancelReason reason = ferrule::CancelReason::cancelled) {
        on_reactor([&] {
            if (pending->scope != nullptr) pending->scope->cancel(reason);
        });
    }

    /// Waits until the predicate holds, asked on the reactor's thread at the end of its passes.
    void wait_until(std::function<bool()> predicate) {
        std::promise<void> done;
        reactor_->post([&] { reactor_->spawn(until(reactor_.get(), std::move(predicate), &done)); });
        if (done.get_future().wait_for(std::chrono::seconds(30)) != std::future_status::ready)
            throw std::runtime_error("what was waited for did not come");
    }

private:
    static ferrule::Task<> run(ResolverHost* host, std::string name, std::shared_ptr<PendingResolve> pending) {
        const ferrule::Environment& environment = co_await ferrule::this_environment();
        ferrule::CancelScope scope(ferrule::scope_here(environment));
        pending->scope = &scope;
        auto resolving = ferrule::with_scope(scope, host->resolver_->resolve(std::move(name)));
        Resolved resolved = co_await resolving;
        pending->scope = nullptr;
        pending->promise.set_value(std::move(resolved));
    }
    static ferrule::Task<> until(ferrule::Reactor* reactor, std::function<bool()> predicate, std::promise<void>* done) {
        Until waiting(*reactor, std::move(predicate));
        co_await waiting;
        done->set_value();
    }

    std::atomic<unsigned> faults_{0};
    std::unique_ptr<ferrule::Reactor> reactor_;
    ferrule::Resolver* resolver_ = nullptr;
    std::thread thread_;
};

}  // namespace ferrule_test
