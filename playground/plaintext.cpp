// Answers every HTTP request with `ok`. It counts request heads and looks at nothing else: requests with a body are not
// for it.
#include <ferrule/server.hpp>

#include "options.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string_view>

namespace {

constexpr std::string_view answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

// Answers in a row: what one read has asked for is answered by few writes.
constexpr std::size_t answers_per_write = 16;
constexpr auto answers = [] {
    std::array<char, answer.size() * answers_per_write> bytes{};
    for (std::size_t index = 0; index < bytes.size(); ++index) bytes[index] = answer[index % answer.size()];
    return bytes;
}();

// Counts request heads in bytes that come in pieces of any size. It stays in the coroutine's frame, so it is small.
class HeadCounter {
public:
    // How many heads these bytes complete, up to and including the first that asks for the connection to be closed.
    std::size_t count(std::string_view bytes) {
        std::size_t heads = 0;
        while (!bytes.empty() && !close_) {
            if (state_ == State::head_start && bytes.front() != '\r') {
                if (const std::size_t end = find_end(bytes); end != 0) {
                    close_ = asks_for_close(bytes.substr(0, end));
                    bytes.remove_prefix(end);
                    ++heads;
                    continue;
                }
            }
            heads += feed_head(bytes);
        }
        return heads;
    }

    // Whether the last head had a `Connection: close`.
    bool close() const { return close_; }

private:
    static constexpr std::string_view end_of_head = "\r\n\r\n";
    static constexpr std::string_view name = "connection:";
    static constexpr std::string_view value = "close";

    enum class State : std::uint8_t {
        head_start,         // nothing of it yet; empty lines before it do not count (RFC 9112, section 2.2)
        head_start_return,  // CR there
        line,               // in a line that tells nothing
        line_return,        // CR at its end
        line_start,         // CR LF was the last
        blank_line_return,  // CR LF CR was the last
        name,               // in what may become `Connection:`
        value,              // in its value
    };

    static char lower(char letter) {
        return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter + ('a' - 'A')) : letter;
    }

    // Where the first CR LF CR LF ends; 0: there is none. Looking at every fourth byte is enough, until one is part of
    // a line's end.
    static std::size_t find_end(std::string_view bytes) {
        std::size_t at = end_of_head.size() - 1;
        while (at < bytes.size()) {
            const char last = bytes[at];
            if (last > '\r') {
                at += end_of_head.size();
            } else if (last == '\n') {
                if (bytes.substr(at - 3, end_of_head.size()) == end_of_head) return at + 1;
                at += 2;
            } else {
                at += last == '\r' ? 1 : end_of_head.size();
            }
        }
        return 0;
    }

    // Looks for a line `Connection: ... close ...`, in any case. Most heads are too short for one.
    static bool asks_for_close(std::string_view head) {
        constexpr std::string_view shortest = "G / HTTP/1.1\r\nConnection:close\r\n\r\n";
        if (head.size() < shortest.size()) return false;
        for (std::size_t start = head.find("\r\n") + 2; start + 2 < head.size();) {
            const std::size_t end = head.find("\r\n", start);
            if (lower(head[start]) == name.front()) {
                HeadCounter counter;
                counter.state_ = State::line_start;
                for (const char letter : head.substr(start, end - start)) counter.feed(letter);
                if (counter.close_seen_) return true;
            }
            start = end + 2;
        }
        return false;
    }

    // Takes bytes of a head that is not in one piece, until it is complete: 1 then, and 0 when the bytes end before it.
    std::size_t feed_head(std::string_view& bytes) {
        while (!bytes.empty()) {
            const bool complete = feed(bytes.front());
            bytes.remove_prefix(1);
            if (complete) {
                close_ = close_seen_;
                return 1;
            }
            if (state_ == State::head_start) return 0;
        }
        return 0;
    }

    // One byte further. True when it completes a head.
    bool feed(char byte) {
        const State before = state_;
        if (byte == '\r') {
            state_ = before == State::head_start   ? State::head_start_return
                     : before == State::line_start ? State::blank_line_return
                                                   : State::line_return;
            return false;
        }
        if (byte == '\n') {
            if (before == State::blank_line_return) {
                state_ = State::head_start;
                return true;
            }
            if (before == State::head_start_return) {
                state_ = State::head_start;
                return false;
            }
            state_ = before == State::line_return ? State::line_start : State::line;
            matched_ = 0;
            return false;
        }
        if (before == State::line_start) state_ = State::name;
        if (before == State::name || before == State::line_start) {
            if (lower(byte) != name[matched_]) {
                state_ = State::line;
            } else if (++matched_ == name.size()) {
                state_ = State::value;
                matched_ = 0;
            }
        } else if (before == State::value) {
            if (lower(byte) != value[matched_]) matched_ = 0;
            if (lower(byte) == value[matched_] && ++matched_ == value.size()) {
                close_seen_ = true;
                state_ = State::line;
            }
        } else {
            state_ = State::line;
        }
        return false;
    }

    State state_ = State::head_start;
    std::uint8_t matched_ = 0;     // of name or value
    bool close_seen_ : 1 = false;  // in the head that is not complete
    bool close_ : 1 = false;
};

// Answers all requests that the read has completed.
void respond(ferrule::Connection& connection, const ferrule::ReadResult& received, HeadCounter& heads) {
    std::size_t requests = 0;
    for (const ferrule::Slice slice : received) requests += heads.count(slice.text());
    while (requests != 0) {
        const std::size_t now = std::min(requests, answers_per_write);
        connection.write(std::string_view(answers.data(), now * answer.size()));
        requests -= now;
    }
}

ferrule::Task<> plaintext(ferrule::Connection connection) {
    HeadCounter heads;
    while (auto received = co_await connection.read()) {
        respond(connection, received, heads);
        if (heads.close()) break;  // the close sends what was written
        co_await connection.flush();
    }
}

// The options of docs/tuning.md, to be tried and measured.
struct Tuning {
    std::uint32_t submission_poll_ms = 0;
    std::uint32_t napi_busy_poll_us = 0;
    std::uint32_t min_wait_us = 0;
    bool growing_queues = false;
    bool local_memory = false;
    bool huge_pages = false;

    void add_to(playground::CommandLine& line) {
        line.add("--submission-poll", "MILLISECONDS",
                 "a thread of the kernel's submits, and sleeps after so long; default 0: off", submission_poll_ms);
        line.add("--napi-busy-poll", "MICROSECONDS", "poll the network cards this long before sleeping; default 0: off",
                 napi_busy_poll_us);
        line.add("--min-wait", "MICROSECONDS", "gather completions this long; default 0: off", min_wait_us);
        line.add("--growing-queues", "begin with queues of 32 and 128, which grow when they are full", growing_queues);
        line.add("--local-memory", "bind each reactor to a CPU, and its memory to the node of that", local_memory);
        line.add("--huge-pages", "put buffers on huge pages", huge_pages);
    }

    void apply(ferrule::ServerOptions& options) const {
        options.reactor.submission_poll = std::chrono::milliseconds(submission_poll_ms);
        options.reactor.napi_busy_poll = std::chrono::microseconds(napi_busy_poll_us);
        options.reactor.min_wait = std::chrono::microseconds(min_wait_us);
        if (growing_queues) {
            options.reactor.submission_entries = 32;
            options.reactor.completion_entries = 128;
            options.reactor.submission_entries_max = 1024;
            options.reactor.completion_entries_max = 4096;
        }
        options.pin_reactors = options.reactor.local_memory = local_memory;
        if (huge_pages) options.network.huge_pages = ferrule::HugePages::transparent;
    }
};

}  // namespace

int main(int count, char** arguments) {
    ferrule::ServerOptions options;
    std::uint32_t spin_us = 0;
    playground::CommandLine line("plaintext", "Answers every HTTP request with ok.");
    line.add("--host", "ADDRESS", "where to listen: an IPv4 or IPv6 address, unix:PATH; default: every address",
             options.host);
    line.add("--port", "NUMBER", "the TCP port, 0 for any free one; default 8080", options.port);
    line.add("--reactors", "NUMBER", "threads, each with its own ring; default: one per CPU", options.reactors);
    line.add("--spin", "MICROSECONDS", "look for work this long before sleeping; default 0", spin_us);
    line.add("--defer-accept", "accept connections only when their first bytes are there", options.defer_accept);
    Tuning tuning;
    tuning.add_to(line);
    line.parse(count, arguments);
    options.reactor.spin = std::chrono::microseconds(spin_us);
    tuning.apply(options);

    try {
        ferrule::Server server(options);
        server.on_connection(plaintext);
        server.on_listening([&server] {
            for (const ferrule::Address& address : server.addresses()) {
                std::printf("plaintext listens on %s\n", address.to_string().c_str());
            }
            if (server.port() != 0) std::printf("try: curl -i http://localhost:%d/\n", server.port());
            std::fflush(stdout);
        });
        return server.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "plaintext: %s\n", error.what());
        return 1;
    }
}
