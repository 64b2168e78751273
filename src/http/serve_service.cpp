#include <ferrule/http/session.hpp>
#include <ferrule/task/host.hpp>

#include "http/date.hpp"
#include "http/serve_service.hpp"

#include <algorithm>
#include <memory>
#include <span>
#include <utility>

namespace ferrule::inline v0::http::detail {

namespace {
constexpr std::uint64_t nanoseconds_per_second = 1'000'000'000;
}

ServeService::ServeService(Reactor& reactor)
    : reactor_(&reactor),
      registration_(reactor.metrics()->add(counters)),
      timer_route_(reactor.add_timer_route(
          this, [](void*, Timer& timer) noexcept { static_cast<SessionTimer&>(timer).session->on_due(); })) {
    std::copy(ok_line.begin(), ok_line.end(), lines_.begin());
}

ServeService& ServeService::of(Reactor& reactor) {
    if (ServeService* there = reactor.find_service<ServeService>()) return *there;
    return reactor.add_service<ServeService>(reactor);
}

void ServeService::connection_ends() noexcept {
    counters.connections.subtract();
    if (counters.connections.value() == 0 && spare_ != nullptr) discard_exchange(std::exchange(spare_, nullptr));
}

Exchange* ServeService::make_exchange(Session& session, const HeadLimits& limits) {
    const std::size_t bytes = Exchange::bytes_for(limits);
    void* memory = allocate_frame(bytes);
    try {
        return std::construct_at(static_cast<Exchange*>(memory), session, limits);
    } catch (...) {
        deallocate_frame(memory, bytes);
        throw;
    }
}

void ServeService::discard_exchange(Exchange* exchange) noexcept {
    const std::size_t bytes = Exchange::bytes_for(exchange->limits);
    std::destroy_at(exchange);
    deallocate_frame(exchange, bytes);
}

void ServeService::make_date() {
    const std::uint64_t realtime_ns = reactor_->kernel().realtime_ns();
    write_date_line(realtime_ns / nanoseconds_per_second, std::span{lines_}.last<date_line_bytes>());
    date_due_ns_ = reactor_->now_ns() + nanoseconds_per_second - realtime_ns % nanoseconds_per_second;
}

}  // namespace ferrule::inline v0::http::detail
