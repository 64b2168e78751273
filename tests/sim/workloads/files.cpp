#include <ferrule/fs/file.hpp>
#include <ferrule/net/connection.hpp>
#include <ferrule/net/send_file.hpp>

#include "sim/workloads/peer.hpp"
#include "sim/workloads/registry.hpp"
#include "sim/workloads/server_program.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace ferrule_test {
namespace {

using ferrule::Connection;
using ferrule::File;
using ferrule::Task;
using ferrule::sim::Fault;
using namespace std::chrono_literals;

/// A file that is served: the bytes of its pattern, as long as nobody shortens it.
struct ServedFile {
    std::string path;
    std::uint64_t key = 0;
    std::uint64_t bytes = 0;
    bool shortened = false;
};

/// What a peer asks for, and what precedes the answer.
struct Request {
    std::uint32_t file = 0;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
};

struct FileServer {
    WorkloadRun* run;
    std::vector<ServedFile> files;
    bool over = false;
};

// The files that a fault or the other program has shortened do not count.
bool may_fail(const FileServer& server) {
    const WorkloadRun& run = *server.run;
    for (const ServedFile& file : server.files) {
        if (file.shortened) return true;
    }
    return run.fired(Fault::file_shrinks) + run.fired(Fault::file_read_fails) +
               run.fired(Fault::file_read_interrupted) !=
           0;
}

Task<> serve_files(FileServer* server, Connection connection) {
    WorkloadRun& run = *server->run;
    const TaskCount count{run};
    for (;;) {
        Request request;
        std::size_t there = 0;
        while (there < sizeof request) {
            auto received = co_await run.watch(connection.read());
            if (!received) co_return;
            for (const auto slice : received) {
                const std::size_t part = std::min(slice.size(), sizeof request - there);
                std::memcpy(reinterpret_cast<std::byte*>(&request) + there, slice.data(), part);
                there += part;
            }
        }
        auto opening = File::open(connection.reactor(), server->files[request.file].path);
        auto file = co_await run.watch(std::move(opening));
        if (!file) {
            if (run.fired(Fault::operation_fails) == 0) run.find("a file does not open: " + file.error().message);
            co_return;
        }
        connection.write(std::as_bytes(std::span<const Request, 1>(&request, 1)));
        auto sending = ferrule::send_file(connection, *file, request.offset, request.length);
        const auto sent = co_await run.watch(std::move(sending));
        if (!sent) co_return;
    }
}

// What other programs of the machine do to its files.
void disturb(FileServer& server, ferrule::sim::Random random) {
    WorkloadRun& run = *server.run;
    const bool shortens = random.one_in(4);
    while (!server.over) {
        run.pause(std::chrono::microseconds(random.between(10, 100'000)));
        ServedFile& file = server.files[random.below(server.files.size())];
        if (shortens && random.one_in(10)) {
            const auto now = run.server_machine().file(file.path);
            file.shortened = true;
            run.server_machine().resize_file(file.path, random.below(now->size() + 1));
        } else {
            run.server_machine().drop_pages(file.path);
        }
    }
}

void ask(FileServer& files, ServerProgram& server, std::size_t machine, std::vector<Request> requests,
         ferrule::sim::Random random) {
    WorkloadRun& run = *files.run;
    const auto failed = [&](const std::string& what) {
        if (!may_fail(files)) run.incomplete(what);
    };
    auto peer = Peer::connect(run, machine, server.address());
    if (!peer) return run.incomplete("could not connect");
    const bool slow = random.one_in(3);
    for (const Request& request : requests) {
        Request answer;
        if (!peer->send(std::as_bytes(std::span<const Request, 1>(&request, 1))) ||
            !peer->receive_exactly(std::as_writable_bytes(std::span<Request, 1>(&answer, 1))))
            return failed("a request was not answered");
        run.expect(std::memcmp(&answer, &request, sizeof request) == 0, "the answer is another request's");
        const Pattern pattern{files.files[request.file].key};
        std::uint64_t received = 0;
        while (received < request.length) {
            if (slow) run.pause(std::chrono::microseconds(random.below(5000)));
            const std::uint64_t part = std::min<std::uint64_t>(request.length - received, slow ? 4000 : 100'000);
            const std::uint64_t got = peer->receive(pattern, request.offset + received, part, 16'384);
            received += got;
            if (got == part) continue;
            return failed(std::to_string(received) + " of " + std::to_string(request.length) + " bytes came");
        }
        ++run.messages_checked;
        run.bytes_checked += received;
    }
}

void run_files(WorkloadRun& run) {
    FileServer files{&run, {}};
    ferrule::ServerOptions options = run.server_options();
    options.network.file_copy_limit = run.choose({0u, 1000u, 32u << 10, 200'000u});
    const std::uint64_t file_count = run.random().between(1, 4);
    for (std::uint64_t index = 0; index < file_count; ++index) {
        ServedFile file;
        file.path = "/served/" + std::to_string(index);
        file.key = run.random().next();
        file.bytes = run.random().below(run.choose<std::uint64_t>({10, 5000, 100'000, 1'000'000}));
        files.files.push_back(file);
    }
    ServerProgram server{run, options};
    server.on_connection([&files](Connection connection) { return serve_files(&files, std::move(connection)); });
    const std::uint32_t peers = run.connections(1, 8);
    for (std::uint32_t index = 0; index < peers; ++index) {
        std::vector<Request> requests(run.messages(1, 5));
        for (Request& request : requests) {
            request.file = static_cast<std::uint32_t>(run.random().below(file_count));
            const std::uint64_t bytes = files.files[request.file].bytes;
            request.offset = run.random().below(bytes + 1);
            request.length = run.random().below(bytes - request.offset + 1);
        }
        const std::size_t machine = index % ServerProgram::client_machines;
        server.client("peer " + std::to_string(index), machine,
                      [&files, &server, machine, requests, random = run.fork()] {
                          ask(files, server, machine, requests, random);
                      });
    }
    server.on_end([&files] { files.over = true; });
    for (const ServedFile& file : files.files)
        run.server_machine().write_file(file.path, Pattern{file.key}.text(0, file.bytes));
    if (run.random().one_in(2)) {
        run.program("disturbs", [&files, random = run.fork()] { disturb(files, random); });
    }
    server.start();
    run.finish();
}

}  // namespace

const Workload files_workload{"files", "files sent to slow peers, from cold pages, and while they are shortened",
                              run_files};

}  // namespace ferrule_test
