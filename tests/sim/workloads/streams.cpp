#include <ferrule/net/buffered_reader.hpp>
#include <ferrule/net/byte_stream.hpp>
#include <ferrule/net/connection.hpp>

#include "sim/workloads/echo.hpp"
#include "sim/workloads/registry.hpp"
#include "sim/workloads/server_program.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ferrule_test {
namespace {

using ferrule::BufferedReader;
using ferrule::ByteStream;
using ferrule::Connection;
using ferrule::Task;
using ferrule::sim::Random;

/// Echoes by the adapters that read messages, wherever they begin and end.
struct Streams {
    WorkloadRun* run;
    Random random;
    std::size_t piece_max = 1;
};

// Consumes and looks at any part of what is there; what it leaves comes again, until the end and behind it.
Task<> echo_by_reader(Streams* streams, Connection connection) {
    WorkloadRun& run = *streams->run;
    const TaskCount count{run};
    Random random{streams->random.next()};
    BufferedReader reader{connection};
    std::size_t looked_at = 0;
    while (auto received = co_await run.watch(reader.read())) {
        const std::size_t size = received.size();
        run.expect(size > looked_at, "a read has ended with nothing but what was looked at");
        const std::size_t consumed = random.one_in(3) ? size : random.below(size + 1);
        const std::size_t examined = consumed + random.below(size - consumed + 1);
        for (const auto slice : received.slice(0, consumed)) connection.write(slice);
        reader.advance(consumed, examined);
        looked_at = examined - consumed;
        if (random.one_in(2)) co_await run.watch(connection.flush());
    }
    for (const auto slice : reader.buffered()) connection.write(slice);
    co_await run.watch(connection.flush());
}

// Messages in one piece, by a delimiter that is there or not.
Task<> echo_by_messages(Streams* streams, Connection connection) {
    WorkloadRun& run = *streams->run;
    const TaskCount count{run};
    Random random{streams->random.next()};
    BufferedReader reader{connection};
    while (auto received = co_await run.watch(reader.read())) {
        const std::string delimiter(1 + random.below(2), static_cast<char>(random.below(256)));
        const std::size_t found = received.find(delimiter);
        // Now and then it is too long to be waited for.
        const bool waits = found == ferrule::ByteSequence::npos && received.size() < streams->piece_max;
        if (waits) continue;
        const std::size_t length = found != ferrule::ByteSequence::npos ? found + delimiter.size() : received.size();
        const auto whole = received.contiguous(length);
        if (whole.empty()) {
            // There was no room to gather it.
            for (const auto slice : received.slice(0, length)) connection.write(slice);
        } else {
            connection.write(whole);
        }
        reader.advance(length);
        co_await run.watch(connection.flush());
    }
    for (const auto slice : reader.buffered()) connection.write(slice);
    co_await run.watch(connection.flush());
}

Task<> echo_by_stream(Streams* streams, Connection connection) {
    WorkloadRun& run = *streams->run;
    const TaskCount count{run};
    Random random{streams->random.next()};
    ByteStream stream{std::move(connection)};
    std::vector<std::byte> bytes(streams->piece_max);
    bool rest = false;
    for (;;) {
        const std::span<std::byte> into = std::span(bytes).first(1 + random.below(bytes.size()));
        const std::uint64_t way = rest ? 0 : random.below(3);
        if (way == 2) {
            const char delimiter = static_cast<char>(random.below(256));
            const std::string_view delimited{&delimiter, 1};
            const auto line = co_await run.watch(stream.read_until(delimited, into.size()));
            // What does not end, or not in time, is read otherwise.
            rest = !line || line->empty();
            if (rest) continue;
            run.expect(line->back() == delimiter && line->size() <= into.size(), "a line that is none");
            const auto written = co_await run.watch(stream.write(*line));
            if (!written) break;
        } else {
            std::size_t got = 0;
            if (way == 0) {
                got = co_await run.watch(stream.read_some(into));
                if (got == 0) break;
                rest = false;
            } else {
                got = co_await run.watch(stream.read_exactly(into));
                rest = got < into.size();
            }
            const auto written = co_await run.watch(stream.write(into.first(got)));
            if (!written) break;
        }
        if (!random.one_in(3)) continue;
        const auto flushed = co_await run.watch(stream.flush());
        if (!flushed) break;
    }
    co_await run.watch(stream.flush());
}

void run_streams(WorkloadRun& run) {
    ferrule::ServerOptions options = run.server_options();
    Streams streams{&run, run.fork()};
    streams.piece_max = run.choose<std::size_t>({1, 7, 300, 5000});
    const std::uint64_t adapter = run.random().below(3);
    if (adapter == 2) {
        options.network.write_overflow = run.choose(
            {ferrule::WriteOverflow::grow, ferrule::WriteOverflow::segmented, ferrule::WriteOverflow::back_pressure});
        if (options.network.write_overflow == ferrule::WriteOverflow::back_pressure)
            options.network.write_limit = run.choose({8192u, 20'000u, 16u << 20});
    }
    ServerProgram server{run, options};
    server.on_connection([&streams, adapter](Connection connection) {
        if (adapter == 0) return echo_by_reader(&streams, std::move(connection));
        if (adapter == 1) return echo_by_messages(&streams, std::move(connection));
        return echo_by_stream(&streams, std::move(connection));
    });
    add_echo_peers(run, server, run.connections(1, 15), streams.piece_max < 100 ? 2000 : 30'000);
    server.start();
    run.finish();
}

}  // namespace

const Workload streams_workload{"streams", "messages that begin and end anywhere, by BufferedReader and ByteStream",
                                run_streams};

}  // namespace ferrule_test
