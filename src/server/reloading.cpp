#include "server/reloading.hpp"

#include <exception>
#include <utility>

namespace ferrule::inline v0 {
namespace {

constexpr std::uint64_t ns_per_us = 1'000;
constexpr LogCause reload_failed{.name = "reload-failed", .level = LogLevel::error, .interval = {}};

std::string what_of_current() {
    try {
        throw;
    } catch (const std::exception& error) {
        return error.what();
    } catch (...) {
        return "an exception of unknown type";
    }
}

}  // namespace

void Reloading::request() {
    if (stopped_ || hooks_.empty()) return;
    if (std::exchange(under_way_, true)) {
        again_ = true;
        return;
    }
    begin();
}

void Reloading::begin() {
    // systemd tells by the time that this is the reload which it has asked for (sd_notify(3), MONOTONIC_USEC).
    notifier_.tell("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(control_.kernel().monotonic_ns() / ns_per_us) +
                   "\nSTATUS=Reloading");
    auto reload = std::make_shared<Reload>();
    try {
        for (const auto& hook : hooks_) hook(*reload);
    } catch (...) {
        const std::string what = what_of_current();
        control_.log.write(reload_failed, "reload: %s; what was before stays", what.c_str());
        end("Reload failed: " + what);
        return;
    }
    const auto apply = [this, reload](std::size_t index) {
        for (const auto& function : reload->functions()) {
            try {
                function(*members_[index]->reactor);
            } catch (...) {
                members_[index]->reactor->fault(std::current_exception());
            }
        }
    };
    roll_.ask(apply, [this] { end("Reloaded"); });
}

void Reloading::end(const std::string& outcome) {
    // Of a server that ends, the end is the news.
    if (!stopped_) notifier_.tell("READY=1\n" + Notifier::status(outcome));
    under_way_ = false;
    if (std::exchange(again_, false)) request();
}

}  // namespace ferrule::inline v0
