#include <ferrule/net/connect.hpp>
#include <ferrule/net/connection.hpp>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/sim/socket.hpp>

#include "sim/workloads/reactor_program.hpp"
#include "sim/workloads/registry.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace ferrule_test {
namespace {

using ferrule::Address;
using ferrule::Task;
using ferrule::sim::Fault;
using namespace std::chrono_literals;

constexpr std::uint16_t port = 7000;
constexpr std::uint16_t deaf_port = 7001;
constexpr std::size_t good_machine = 0;
constexpr std::size_t lost_machine = 1;
constexpr std::size_t word_bytes = 4;
constexpr auto patience = 100ms;
/// A reactor that is busy, and a timer that is late, come on top of a timeout.
constexpr auto slack = 5s;

/// Who is called, and what came of it.
struct Calls {
    WorkloadRun* run;
    std::uint64_t planned = 0;
    std::uint64_t ended = 0;
    bool listens = false;
    bool over = false;
};

/// One call: to addresses of which some answer.
struct Call {
    std::vector<Address> addresses;
    ferrule::ConnectOptions options;
    std::chrono::nanoseconds deadline{0};
    bool answers = false;
};

Address convert(const ferrule::sim::SocketAddress& address) {
    return *Address::from(address.data(), address.size());
}

// ---- who answers ----

void serve_calls(Calls& calls) {
    ferrule::sim::Machine& machine = calls.run->client_machine(good_machine);
    std::vector<ferrule::sim::ListenSocket> listeners;
    for (const auto& address : {machine.ipv4(port), machine.ipv6(port)}) {
        auto listener = ferrule::sim::ListenSocket::open(machine, address);
        if (!listener) return calls.run->find("cannot listen: " + listener.error().message());
        listeners.push_back(std::move(*listener));
    }
    calls.listens = true;
    std::vector<std::unique_ptr<ferrule::ThreadHandle>> threads;
    for (auto& listener : listeners) {
        threads.push_back(machine.kernel().start_thread("answers", [&calls, &listener] {
            while (!calls.over) {
                auto accepted = listener.accept(static_cast<std::uint64_t>(std::chrono::nanoseconds(patience).count()));
                if (!accepted) continue;
                // Whoever connects says a word, and hears it; a loser of a race says nothing.
                if (const auto word = accepted->receive_exactly(word_bytes)) static_cast<void>(accepted->send(*word));
                static_cast<void>(accepted->receive_to_end());
            }
        }));
    }
    for (const auto& thread : threads) thread->join();
}

// ---- who calls ----

Task<bool> say_a_word(Calls* calls, ferrule::Connection connection) {
    WorkloadRun& run = *calls->run;
    connection.write("word");
    const auto flushed = co_await run.watch(connection.flush());
    if (!flushed) co_return false;
    std::string heard;
    while (heard.size() < word_bytes) {
        auto received = co_await run.watch(connection.read());
        if (!received) co_return false;
        for (const auto slice : received) heard.append(reinterpret_cast<const char*>(slice.data()), slice.size());
    }
    run.expect(heard == "word", "another word came back");
    ++run.messages_checked;
    co_return true;
}

Task<> call_once(Calls* calls, ferrule::Reactor* reactor, Call call) {
    WorkloadRun& run = *calls->run;
    const TaskCount count{run};
    while (!calls->listens) static_cast<void>(co_await run.watch(ferrule::sleep_for(1ms)));
    const std::uint64_t began = run.simulation().now_ns();
    auto task = call.addresses.size() == 1
                    ? ferrule::connect(*reactor, call.addresses.front(), call.options)
                    : ferrule::connect(*reactor, std::span<const Address>(call.addresses), call.options);
    auto bounded = ferrule::with_deadline(std::move(task), call.deadline);
    auto connected = co_await run.watch(std::move(bounded));
    const auto took = std::chrono::nanoseconds(run.simulation().now_ns() - began);
    const auto limit = std::min<std::chrono::nanoseconds>(call.options.timeout, call.deadline);
    run.expect(took <= limit + slack, "a connect lasts longer than it may");
    if (connected) {
        ++run.connections_opened;
        run.expect(call.answers, "connected to somebody who does not listen");
        auto word = say_a_word(calls, std::move(*connected));
        const bool heard = co_await run.watch(std::move(word));
        if (!heard) run.incomplete("a connection broke before its word came back");
    } else {
        run.expect(static_cast<bool>(connected.error().code), "a connect fails without an error");
        run.expect(!connected.error().message.empty(), "a connect fails and does not say why");
        // With patience, one that answers is found behind any number of others.
        if (call.answers && limit > 10min) run.incomplete("nobody answered: " + connected.error().message);
    }
    ++calls->ended;
}

Call plan_call(WorkloadRun& run) {
    Call call;
    const std::uint64_t count = run.random().between(1, 4);
    for (std::uint64_t index = 0; index < count; ++index) {
        ferrule::sim::Machine& good = run.client_machine(good_machine);
        ferrule::sim::Machine& lost = run.client_machine(lost_machine);
        const bool ipv6 = run.random().one_in(2);
        switch (run.random().below(4)) {
            case 0:
                call.addresses.push_back(convert(ipv6 ? good.ipv6(deaf_port) : good.ipv4(deaf_port)));
                break;
            case 1:
                call.addresses.push_back(convert(ipv6 ? lost.ipv6(port) : lost.ipv4(port)));
                break;
            case 2:
                // An address that no machine has.
                call.addresses.push_back(convert(ferrule::sim::SocketAddress::ipv4(0x0a000063, port)));
                break;
            default:
                call.addresses.push_back(convert(ipv6 ? good.ipv6(port) : good.ipv4(port)));
                call.answers = true;
        }
    }
    call.options.timeout = run.choose<std::chrono::milliseconds>({1ms, 500ms, 10s, 30min, 30min});
    call.options.attempt_delay = run.choose<std::chrono::milliseconds>({10ms, 250ms, 5s});
    call.deadline = run.choose<std::chrono::nanoseconds>({1us, 300ms, 1h, 1h, 1h});
    if (run.random().one_in(4)) call.options.keepalive_idle = 60s;
    return call;
}

void run_connect(WorkloadRun& run) {
    Calls calls{&run};
    const std::size_t reactors = run.random().between(1, 2);
    ReactorProgram program{run, reactors, run.reactor_options(), run.network_options()};
    std::vector<std::vector<Call>> plans(reactors);
    calls.planned = run.connections(1, 20);
    for (std::uint64_t index = 0; index < calls.planned; ++index) plans[index % reactors].push_back(plan_call(run));
    run.client_machine(lost_machine).partition();
    run.client("answers", good_machine, [&calls] { serve_calls(calls); });
    std::size_t next = 0;
    program.on_start([&](ferrule::Reactor& reactor) {
        for (Call& call : plans[next++]) reactor.spawn(call_once(&calls, &reactor, std::move(call)));
    });
    program.until([&calls] { return calls.ended == calls.planned; });
    program.on_end([&calls](ferrule::Reactor&) { calls.over = true; });
    program.start();
    run.finish();
}

}  // namespace

const Workload connect_workload{"connect", "addresses that answer, refuse or are silent, raced and given up",
                                run_connect};

}  // namespace ferrule_test
