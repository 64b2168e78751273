#pragma once

#include <ferrule/reactor/reactor.hpp>
#include <ferrule/version.hpp>

#include <functional>
#include <utility>
#include <vector>

namespace ferrule::inline v0 {

/// One reload of a server that serves on: what a function given to Server::on_reload is handed. It has two steps, so
/// that a reload happens wholly or not at all: what may fail (reading and checking files) is done in the function
/// itself, and what it has made is put in its place on each reactor.
///
/// ```cpp
/// server.on_reload([](Reload& reload) {
///     auto settings = std::make_shared<const std::string>("read from a file");    // what it throws ends the reload
///     reload.on_each_reactor([settings](Reactor& reactor) {
///         std::printf("reactor %u has %s\n", reactor.id(), settings->c_str());
///     });
/// });
/// ```
class Reload {
public:
    /// Has `function` called once on the thread of each reactor that runs, when all functions of Server::on_reload have
    /// returned, and not at all when one of them throws. What it throws goes to Server::on_fault; the others are called
    /// nevertheless. It is called on several threads at once. The thread of the reload, before its function returns.
    void on_each_reactor(std::function<void(Reactor&)> function) { functions_.push_back(std::move(function)); }

    /// What on_each_reactor has been given, in this order.
    [[nodiscard]] const std::vector<std::function<void(Reactor&)>>& functions() const noexcept { return functions_; }

private:
    std::vector<std::function<void(Reactor&)>> functions_;
};

}  // namespace ferrule::inline v0
