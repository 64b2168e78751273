#pragma once

#include <ferrule/http/serve_counters.hpp>
#include <ferrule/reactor/metric_registry.hpp>
#include <ferrule/reactor/reactor.hpp>

#include "http/date.hpp"
#include "http/exchange.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

namespace ferrule::inline v0::http::detail {

// Of a time that is an option; 0: there is none.
inline std::uint64_t nanoseconds(std::chrono::milliseconds time) noexcept {
    return time.count() > 0 ? static_cast<std::uint64_t>(std::chrono::nanoseconds(time).count()) : 0;
}

// What the connections of a reactor have in common: counters, the route of their timers, the date, a spare exchange.
class ServeService {
public:
    explicit ServeService(Reactor& reactor);
    static ServeService& of(Reactor& reactor);

    // `HTTP/1.1 200 OK` and the date, each with its end of line; of the second that the reactor's time is in.
    std::string_view ok_lines() {
        if (reactor_->now_ns() >= date_due_ns_) [[unlikely]]
            make_date();
        return {lines_.data(), lines_.size()};
    }
    // The date alone.
    std::string_view date_line() { return ok_lines().substr(ok_line.size()); }

    void connection_begins() noexcept { counters.connections.add(); }
    void connection_ends() noexcept;

    // For the requests of a connection, until it is kept or discarded. The one that was used last is at hand, ready as
    // it is, while there are connections: most are needed no longer than it takes to answer what was there. Others come
    // from the pool of frames. Throws std::bad_alloc; std::invalid_argument, when a limit cannot be.
    Exchange* take_exchange(Session& session, const HeadLimits& limits) {
        if (spare_ == nullptr || spare_->limits != limits) [[unlikely]]
            return make_exchange(session, limits);
        spare_->pass_to(session);
        return std::exchange(spare_, nullptr);
    }
    // Between two requests.
    void keep_exchange(Exchange* exchange) noexcept {
        if (spare_ != nullptr) [[unlikely]]
            discard_exchange(spare_);
        spare_ = exchange;
    }
    static void discard_exchange(Exchange* exchange) noexcept;

    Reactor& reactor() const noexcept { return *reactor_; }
    std::uint8_t timer_route() const noexcept { return timer_route_; }

    ServeCounters counters;

private:
    static constexpr std::string_view ok_line = "HTTP/1.1 200 OK\r\n";
    void make_date();
    static Exchange* make_exchange(Session& session, const HeadLimits& limits);

    Reactor* reactor_;
    MetricRegistration registration_;
    Exchange* spare_ = nullptr;
    std::uint64_t date_due_ns_ = 0;
    std::array<char, ok_line.size() + date_line_bytes> lines_;
    std::uint8_t timer_route_;
};

}  // namespace ferrule::inline v0::http::detail
