#include <ferrule/http/chunked_decoder.hpp>
#include <ferrule/http/response_parser.hpp>
#include <ferrule/http/server.hpp>
#include <ferrule/reactor/deadline.hpp>

#include "sim/workloads/peer.hpp"
#include "sim/workloads/registry.hpp"
#include "sim/workloads/server_program.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ferrule_test {
namespace {

namespace http = ferrule::http;
using ferrule::Connection;
using ferrule::Task;
using ferrule::sim::Random;
using namespace std::chrono_literals;

// Longer than any fault holds a segment of a good peer back.
constexpr std::chrono::milliseconds patience = 5min;

// ---- the server ----

std::uint64_t number_in(http::Request& request, std::string_view name) {
    const std::string_view text = request.query_parameter(name).value_or("0");
    std::uint64_t number = 0;
    std::from_chars(text.data(), text.data() + text.size(), number);
    return number;
}

/// What a request is answered with, but for echoes: bytes of a stream that its target names.
std::string body_of(http::Request& request) {
    return Pattern{number_in(request, "key")}.text(0, number_in(request, "size"));
}

Task<> answer_in_pieces(WorkloadRun* run, http::Request& request, http::Response& response) {
    const std::string body = body_of(request);
    const std::uint64_t piece = std::max<std::uint64_t>(number_in(request, "piece"), 1);
    const bool flushes = number_in(request, "flush") != 0;
    if (request.query_parameter("told")) response.content_length(body.size());
    for (std::size_t at = 0; at < body.size(); at += piece) {
        while (!response.write(std::string_view(body).substr(at, piece))) {
            const auto flushed = co_await run->watch(response.flush());
            if (!flushed) co_return;
        }
        if (!flushes) continue;
        const auto flushed = co_await run->watch(response.flush());
        if (!flushed) co_return;
    }
    if (body.empty()) response.send();
}

Task<> answer_later(WorkloadRun* run, http::Request& request, http::Response& response) {
    const std::string body = body_of(request);
    if (number_in(request, "begin") != 0) response.write(std::string_view(body).substr(0, body.size() / 2));
    const auto slept = co_await run->watch(ferrule::sleep_for(std::chrono::microseconds(number_in(request, "us"))));
    // It may have been cut short: the answer is the same.
    static_cast<void>(slept);
    if (response.begun()) {
        const std::string_view rest = std::string_view(body).substr(body.size() / 2);
        const auto written = co_await run->watch(response.write_all(rest));
        static_cast<void>(written);
    } else {
        response.send(body);
    }
}

Task<> echo_whole(WorkloadRun* run, http::Request& request, http::Response& response) {
    const auto body = co_await run->watch(request.collect(1 << 20));
    if (body) response.send(*body);
}

/// Sends each piece back while the next ones come.
Task<> echo_pieces(WorkloadRun* run, http::Request& request, http::Response& response) {
    while (auto piece = co_await run->watch(request.read())) {
        const auto written = co_await run->watch(response.write_all(piece));
        if (!written) co_return;
    }
    if (!response.begun()) response.send();
}

/// Without a wait; what is made ends where there is no room for more.
void answer_while_there_is_room(http::Request& request, http::Response& response) {
    const std::string body = body_of(request);
    const std::uint64_t piece = std::max<std::uint64_t>(number_in(request, "piece"), 1);
    for (std::size_t at = 0; at < body.size(); at += piece) {
        if (!response.write(std::string_view(body).substr(at, piece))) return;
    }
    if (body.empty()) response.send();
}

Task<> answer(WorkloadRun* run, http::Request& request, http::Response& response) {
    const TaskCount count{*run};
    const std::string_view path = request.path();
    if (path == "/whole") {
        response.send(body_of(request));
    } else if (path == "/pieces") {
        co_await answer_in_pieces(run, request, response);
    } else if (path == "/later") {
        co_await answer_later(run, request, response);
    } else if (path == "/echo") {
        co_await echo_whole(run, request, response);
    } else if (path == "/relay") {
        co_await echo_pieces(run, request, response);
    } else if (path == "/ignore") {
        response.send(body_of(request));
    } else if (path == "/careless") {
        answer_while_there_is_room(request, response);
    } else {
        response.status(http::Status::not_found);
        response.send("nothing here");
    }
}

/// The handler of all connections.
struct Site {
    WorkloadRun* run;
    Task<> operator()(http::Request& request, http::Response& response) const { return answer(run, request, response); }
};

// ---- honest clients ----

/// One request, and the body that must come back.
struct Asked {
    std::string request{};
    http::Method method = http::Method::get;
    std::uint64_t key = 0;
    std::size_t size = 0;
    bool last = false;  // the server closes behind it
};

std::string in_chunks(std::string_view body, Random& random) {
    std::string chunks;
    const std::uint64_t most = random.one_in(2) ? 10 : 5000;
    while (!body.empty()) {
        const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(body.size(), random.between(1, most)));
        std::array<char, 16> digits{};
        chunks.append(digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), size, 16).ptr);
        chunks += "\r\n";
        chunks += body.substr(0, size);
        chunks += "\r\n";
        body.remove_prefix(size);
    }
    chunks += random.one_in(3) ? "0\r\nX-Trailer: of no use\r\n\r\n" : "0\r\n\r\n";
    return chunks;
}

Asked ask(Random& random, bool last) {
    Asked asked;
    asked.key = random.next();
    asked.size = static_cast<std::size_t>(random.below(random.one_in(5) ? 100'000 : 700));
    asked.last = last;
    const std::string wanted = "?key=" + std::to_string(asked.key) + "&size=" + std::to_string(asked.size);
    std::string target;
    std::string fields = "Host: simulated\r\n";
    std::string body;
    const auto with_body = [&] {
        const std::string plain = Pattern{asked.key}.text(0, asked.size);
        asked.method = http::Method::post;
        if (random.one_in(2)) {
            fields += "Transfer-Encoding: chunked\r\n";
            body = in_chunks(plain, random);
        } else {
            fields += "Content-Length: " + std::to_string(plain.size()) + "\r\n";
            body = plain;
        }
        if (random.one_in(4)) fields += "Expect: 100-continue\r\n";
    };
    // A server that closes need not read what its handler has left of a body.
    switch (random.below(last ? 6 : 7)) {
        case 0:
            target = "/whole" + wanted;
            break;
        case 1:
            target = "/pieces" + wanted + "&piece=" + std::to_string(random.between(1 + asked.size / 100, 5000)) +
                     "&flush=" + std::to_string(random.below(2)) + (random.one_in(3) ? "&told" : "");
            break;
        case 2:
            target = "/later" + wanted + "&us=" + std::to_string(random.below(20'000)) +
                     "&begin=" + std::to_string(random.below(2));
            break;
        case 3:
            target = "/echo";
            with_body();
            break;
        case 4:
            target = "/relay";
            with_body();
            break;
        case 6: {
            // A request in the body of another, which nobody is to answer.
            const std::string inner = "GET /whole?size=1 HTTP/1.1\r\nHost: simulated\r\n\r\n";
            asked.size %= 700;
            target = "/ignore?key=" + std::to_string(asked.key) + "&size=" + std::to_string(asked.size);
            asked.method = http::Method::post;
            if (random.one_in(2)) {
                fields += "Transfer-Encoding: chunked\r\n";
                body = in_chunks(inner, random);
            } else {
                fields += "Content-Length: " + std::to_string(inner.size()) + "\r\n";
                body = inner;
            }
            break;
        }
        default:
            target = "/whole" + wanted;
            asked.method = http::Method::head;
    }
    if (random.one_in(4))
        fields += "X-Long: " + std::string(static_cast<std::size_t>(random.below(2000)), 'x') + "\r\n";
    if (last) fields += "Connection: close\r\n";
    asked.request = std::string(name_of(asked.method)) + " " + target + " HTTP/1.1\r\n" + fields + "\r\n" + body;
    return asked;
}

/// Receives responses, and compares them.
class ResponseReader {
public:
    ResponseReader(WorkloadRun& run, Peer& peer, std::string name) : run_(&run), peer_(&peer), name_(std::move(name)) {}

    /// The response to this. False when it did not come, or not whole, or is not what it has to be.
    bool receive(const Asked& asked) {
        informational_ = 0;
        for (;;) {
            if (!receive_head()) return false;
            if (!is_informational(parser_.status())) break;
            ++informational_;
        }
        if (parser_.status() == http::Status::service_unavailable) {
            // The network had no room for more of it, or a fault has ended its reading.
            run_->refused(1);
            return false;
        }
        if (parser_.status() != http::Status::ok)
            return refuse("a response has status " + std::to_string(code_of(parser_.status())) + ": " + bytes_);
        keeps_ = parser_.keep_alive(asked.method);
        switch (parser_.framing(asked.method)) {
            case http::BodyFraming::none:
                between_ = true;
                return asked.method == http::Method::head || refuse("a response has no body");
            case http::BodyFraming::length:
                return receive_length(asked);
            case http::BodyFraming::chunked:
                return receive_chunks(asked);
            case http::BodyFraming::until_close:
                break;
        }
        return refuse("a response's body does not say where it ends");
    }
    /// Whether the last one has said that more may follow.
    [[nodiscard]] bool keeps() const noexcept { return keeps_; }
    /// Whether there is nothing of the next one.
    [[nodiscard]] bool between() const noexcept { return between_ && bytes_.empty(); }
    /// How many informational ones came before it.
    [[nodiscard]] std::uint32_t informational() const noexcept { return informational_; }
    /// Whether something was wrong, and has been told.
    [[nodiscard]] bool wrong() const noexcept { return wrong_; }

private:
    bool refuse(std::string_view what) {
        if (!wrong_) run_->find(name_ + ": " + std::string(what));
        wrong_ = true;
        return false;
    }
    bool more() {
        std::array<std::byte, 4096> piece;
        const std::size_t received = peer_->receive(piece);
        bytes_.append(reinterpret_cast<const char*>(piece.data()), received);
        return received != 0;
    }
    bool receive_head() {
        bytes_.erase(0, std::exchange(head_bytes_, 0));
        parser_.reset();
        between_ = true;
        for (;;) {
            switch (parser_.parse(bytes_, fields_)) {
                case http::ParseState::complete:
                    head_bytes_ = parser_.head_size();
                    bytes_.erase(0, std::exchange(head_bytes_, 0));
                    between_ = is_informational(parser_.status());
                    return true;
                case http::ParseState::refused:
                    return refuse("a response is malformed: " + std::string(text_of(parser_.refusal())));
                case http::ParseState::incomplete:
                    if (!more()) return false;
            }
        }
    }
    bool compare(const Asked& asked, std::uint64_t at, std::string_view piece) {
        if (at + piece.size() > asked.size) return refuse("a body is longer than it has to be");
        if (Pattern{asked.key}.mismatch(std::as_bytes(std::span{piece}), at))
            return refuse("a body is not what it has to be");
        return true;
    }
    bool receive_length(const Asked& asked) {
        if (parser_.content_length() != asked.size) return refuse("a body has another length");
        for (std::uint64_t at = 0; at < asked.size;) {
            if (bytes_.empty() && !more()) return false;
            const std::string piece = bytes_.substr(0, asked.size - at);
            if (!compare(asked, at, piece)) return false;
            at += piece.size();
            bytes_.erase(0, piece.size());
        }
        between_ = true;
        return true;
    }
    bool receive_chunks(const Asked& asked) {
        http::ChunkedDecoder decoder;
        std::uint64_t at = 0;
        for (;;) {
            const auto step = decoder.step(bytes_);
            if (step.state == http::ChunkState::refused) return refuse("a chunked body is malformed");
            if (step.state == http::ChunkState::data) {
                if (!compare(asked, at, step.data)) return false;
                at += step.data.size();
            }
            bytes_.erase(0, step.consumed);
            if (step.state == http::ChunkState::complete) break;
            if (step.state == http::ChunkState::more && !more()) return false;
        }
        between_ = true;
        return at == asked.size || refuse("a chunked body ends at " + std::to_string(at) + " of " +
                                          std::to_string(asked.size) + ": " + asked.request.substr(0, 200));
    }

    WorkloadRun* run_;
    Peer* peer_;
    std::string name_;
    http::ResponseParser parser_;
    std::array<http::FieldPosition, 100> fields_;
    std::string bytes_;
    std::size_t head_bytes_ = 0;
    std::uint32_t informational_ = 0;
    bool between_ = true;
    bool keeps_ = true;
    bool wrong_ = false;
};

struct ClientPlan {
    std::string name;
    std::size_t machine = 0;
    std::uint64_t seed = 0;
    std::uint32_t requests = 0;
};

/// Sends requests, several at a time or one after the other, in pieces of any size.
void ask_all(WorkloadRun& run, ServerProgram& server, const ClientPlan& plan) {
    auto peer = Peer::connect(run, plan.machine, server.address());
    if (!peer) {
        if (!server.stopped()) run.incomplete(plan.name + ": could not connect");
        return;
    }
    Random random{plan.seed};
    Random sending{random.next()};
    std::vector<Asked> all;
    const bool closes = random.one_in(2);
    for (std::uint32_t number = 0; number < plan.requests; ++number)
        all.push_back(ask(random, closes && number + 1 == plan.requests));
    const std::size_t piece_max = std::array<std::size_t, 4>{1, 100, 3000, 100'000}[random.below(4)];
    const bool waits = random.one_in(3);
    std::uint32_t answers = 0;
    ResponseReader reader{run, *peer, plan.name};
    const auto send = [&](std::string_view bytes) {
        const std::size_t most = std::max(piece_max, bytes.size() / 64);
        while (!bytes.empty()) {
            const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), sending.between(1, most)));
            if (!peer->send(bytes.substr(0, size))) return false;
            bytes.remove_prefix(size);
            if (sending.one_in(20)) run.pause(std::chrono::nanoseconds(sending.below(1'000'000)));
        }
        return true;
    };
    const auto receive = [&] {
        while (answers < all.size() && reader.receive(all[answers])) {
            ++answers;
            ++run.messages_checked;
            if (!reader.keeps()) break;
        }
    };
    if (waits) {
        for (const Asked& asked : all) {
            peer->both([&] { send(asked.request); },
                       [&] {
                           if (reader.receive(asked)) ++answers;
                       });
            if (answers != static_cast<std::uint32_t>(&asked - all.data()) + 1 || !reader.keeps()) break;
        }
        peer->shutdown_sending();
    } else {
        peer->both(
            [&] {
                std::string batch;
                for (const Asked& asked : all) {
                    batch += asked.request;
                    if (sending.one_in(3) && !send(std::exchange(batch, {}))) return;
                }
                if (send(batch)) peer->shutdown_sending();
            },
            receive);
    }
    const bool told = answers != 0 && reader.between() && !reader.keeps();
    if (answers == all.size() || told) {
        run.expect(reader.between(), plan.name + ": bytes come behind the last response");
        run.expect(peer->receive_to_end() == 0, plan.name + ": bytes come behind the last response");
        if (answers == all.size() && closes) run.expect(told, plan.name + ": the last response does not say close");
    }
    if (answers == all.size()) return;
    // A drain tells whom it can, and cuts nobody off in the middle.
    const bool gentle = run.breaks() == 0 && run.fired(ferrule::sim::Fault::peer_stalls) == 0;
    if (server.stopped()) {
        if (gentle && !reader.wrong()) run.expect(reader.between(), plan.name + ": a drain has cut off a response");
        return;
    }
    run.incomplete(plan.name + ": " + std::to_string(answers) + " of " + std::to_string(all.size()) +
                   " requests were answered");
}

// ---- hostile ones, and ones that wait for something ----

enum class Hostility : std::uint8_t {
    drips_a_head,
    drips_a_body,
    body_that_stops,
    chunks_of_one_byte,
    noise,
    floods_and_never_reads,
    resets_in_the_middle,
    asks_behind_a_close,
    two_lengths,
    chunk_that_lies,
    asks_for_more_than_there_is_room,
    needs_the_first_of_two,
    waits_to_be_told,
    count_of_hostilities,
};

/// Receives to the end. What has come must not be the answer of a handler.
void expect_no_answer(WorkloadRun& run, Peer& peer, std::string_view what) {
    std::string head(12, '\0');
    if (!peer.receive_exactly(std::as_writable_bytes(std::span{head}))) return;
    run.expect(head != "HTTP/1.1 200", std::string(what) + " was answered");
    peer.receive_to_end();
}

void drip(WorkloadRun& run, Peer& peer, std::string_view bytes) {
    for (const char byte : bytes) {
        if (!peer.send(std::string_view(&byte, 1))) break;
        run.pause(patience / 16);
    }
}

/// The second answer takes long: the first must not wait for it.
void need_the_first_of_two(WorkloadRun& run, Peer& peer, const ClientPlan& plan) {
    const Asked first{"GET /whole?key=1&size=100 HTTP/1.1\r\nHost: h\r\n\r\n", http::Method::get, 1, 100};
    const std::string second = "GET /later?us=" + std::to_string(std::chrono::microseconds(3 * patience).count()) +
                               " HTTP/1.1\r\nHost: h\r\n\r\n";
    const std::uint64_t begun_ns = run.simulation().now_ns();
    if (!peer.send(first.request + second)) return;
    ResponseReader reader{run, peer, plan.name};
    if (!reader.receive(first)) return;
    const std::chrono::nanoseconds waited(run.simulation().now_ns() - begun_ns);
    run.expect(waited < 2 * patience, "an answer has waited for the handler of the next request");
    peer.shutdown_sending();
    peer.receive_to_end();
}

/// Holds its body back until it is told to go on.
void wait_to_be_told(WorkloadRun& run, Peer& peer, const ClientPlan& plan) {
    constexpr std::string_view go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    Random random{plan.seed};
    Asked asked{"POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n", http::Method::post, random.next(),
                static_cast<std::size_t>(random.between(1, 20'000))};
    std::string body = Pattern{asked.key}.text(0, asked.size);
    if (random.one_in(2)) {
        asked.request += "Transfer-Encoding: chunked\r\n\r\n";
        body = in_chunks(body, random);
    } else {
        asked.request += "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n";
    }
    if (!peer.send(asked.request)) return;
    std::string told(go_on.size(), '\0');
    if (!peer.receive_exactly(std::as_writable_bytes(std::span{told}))) return;
    if (told == go_on) {
        if (!peer.send(body)) return;
        ResponseReader reader{run, peer, plan.name};
        reader.receive(asked);
        run.expect(reader.informational() == 0, "a client was told to go on more than once");
    } else {
        run.expect(!told.starts_with("HTTP/1.1 408"), "a client was never told to go on");
    }
    peer.shutdown_sending();
    peer.receive_to_end();
}

/// As much framing as a body can have, with its last chunk or without: only the first is to be answered.
void flood_with_chunks(WorkloadRun& run, ServerProgram& server, Peer& peer, const ClientPlan& plan) {
    Random random{plan.seed};
    Asked asked{"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", http::Method::post,
                random.next(), 3000};
    for (const char byte : Pattern{asked.key}.text(0, asked.size))
        asked.request.append("1\r\n").append(1, byte).append("\r\n");
    const bool ends = random.one_in(2);
    if (ends) asked.request += "0\r\n\r\n";
    if (peer.send(asked.request)) peer.shutdown_sending();
    if (!ends) {
        expect_no_answer(run, peer, "a chunked body without a last chunk");
        return;
    }
    ResponseReader reader{run, peer, plan.name};
    if (reader.receive(asked)) {
        ++run.messages_checked;
        run.expect(peer.receive_to_end() == 0, plan.name + ": bytes come behind the only response");
    } else if (!server.stopped()) {
        run.incomplete(plan.name + ": a body of small chunks was not answered");
    }
}

void harm(WorkloadRun& run, ServerProgram& server, const ClientPlan& plan, Hostility hostility) {
    auto peer = Peer::connect(run, plan.machine, server.address(), 24h);
    if (!peer) return;
    Random random{plan.seed};
    const std::string post = "POST /echo HTTP/1.1\r\nHost: h\r\n";
    switch (hostility) {
        case Hostility::drips_a_head:
            drip(run, *peer, "GET /whole HTTP/1.1\r\nHost: simulated\r\nX: y\r\n\r\n");
            expect_no_answer(run, *peer, "a head that came too slowly");
            break;
        case Hostility::drips_a_body:
            if (peer->send(post + "Content-Length: 40\r\n\r\n")) drip(run, *peer, Pattern{plan.seed}.text(0, 40));
            expect_no_answer(run, *peer, "a body that came too slowly");
            break;
        case Hostility::body_that_stops:
            if (peer->send(post + (random.one_in(2) ? "Content-Length: 1000\r\n\r\nabc"
                                                    : "Transfer-Encoding: chunked\r\n\r\n5\r\nabc")))
                expect_no_answer(run, *peer, "half a body");
            break;
        case Hostility::chunks_of_one_byte:
            flood_with_chunks(run, server, *peer, plan);
            break;
        case Hostility::noise:
            if (peer->send(Pattern{random.next()}, 0, random.between(1, 20'000), 1000)) peer->shutdown_sending();
            peer->receive_to_end();
            break;
        case Hostility::floods_and_never_reads: {
            for (std::uint32_t request = 0; request < 20 * plan.requests; ++request) {
                if (!peer->send("GET /whole?key=1&size=20000 HTTP/1.1\r\nHost: h\r\n\r\n")) break;
            }
            run.pause(2 * patience);
            peer->receive_to_end();
            break;
        }
        case Hostility::resets_in_the_middle: {
            std::string requests;
            for (std::uint32_t request = 0; request < plan.requests; ++request) requests += ask(random, false).request;
            peer->send(std::string_view(requests).substr(0, random.below(requests.size())));
            run.pause(std::chrono::nanoseconds(random.below(1'000'000)));
            peer->reset();
            break;
        }
        case Hostility::asks_behind_a_close:
            for (unsigned request = 0; request < 50; ++request) {
                if (!peer->send("GET /whole?key=1&size=100 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")) break;
            }
            // One answer, or less when the connection breaks.
            run.expect(peer->receive_to_end() < 300, "requests behind Connection: close were answered");
            break;
        case Hostility::two_lengths:
            if (peer->send(post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n"))
                expect_no_answer(run, *peer, "a body of two lengths");
            break;
        case Hostility::chunk_that_lies:
            if (peer->send(post + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n"))
                expect_no_answer(run, *peer, "a chunk that is longer than it says");
            break;
        case Hostility::asks_for_more_than_there_is_room: {
            Asked asked{"", http::Method::get, random.next(), static_cast<std::size_t>(random.below(300'000))};
            asked.request = "GET /careless?key=" + std::to_string(asked.key) + "&size=" + std::to_string(asked.size) +
                            "&piece=" + std::to_string(random.between(500, 5000)) + " HTTP/1.1\r\nHost: h\r\n\r\n";
            // All of it, or no end.
            ResponseReader reader{run, *peer, plan.name};
            if (peer->send(asked.request)) reader.receive(asked);
            break;
        }
        case Hostility::needs_the_first_of_two:
            need_the_first_of_two(run, *peer, plan);
            break;
        case Hostility::waits_to_be_told:
            wait_to_be_told(run, *peer, plan);
            break;
        case Hostility::count_of_hostilities:
            break;
    }
}

void run_http(WorkloadRun& run) {
    ferrule::ServerOptions options = run.server_options();
    // The HTTP server has deadlines of its own for what it waits for.
    options.network.idle_timeout = options.network.read_timeout = 0ms;
    options.network.write_timeout = patience;
    options.network.linger_timeout = 10s;
    options.network.write_overflow =
        run.choose({ferrule::WriteOverflow::grow, ferrule::WriteOverflow::grow, ferrule::WriteOverflow::segmented,
                    ferrule::WriteOverflow::back_pressure});
    if (options.network.write_overflow == ferrule::WriteOverflow::back_pressure)
        options.network.write_limit = run.choose({10'000u, 1u << 20});
    options.drain_timeout = 4 * patience;
    http::ServeOptions serving;
    serving.head_timeout = serving.idle_timeout = serving.body_rate_window = patience;
    serving.body_rate_min = 1;
    serving.pipeline_limit = run.choose({1u, 3u, 64u});
    serving.staged_limit = run.choose({1u, 3000u, 64u << 10});
    serving.keep_trailers = run.random().one_in(2);
    const Site site{&run};
    ServerProgram server{run, options};
    server.on_connection(
        [&site, &serving](Connection connection) { return http::serve(std::move(connection), site, serving); });
    const std::uint32_t honest = run.connections(1, 20);
    for (std::uint32_t index = 0; index < honest; ++index) {
        const ClientPlan plan{"honest client " + std::to_string(index), index % ServerProgram::client_machines,
                              run.random().next(), run.messages(1, 25)};
        server.client(plan.name, plan.machine, [&run, &server, plan] { ask_all(run, server, plan); });
    }
    const std::uint32_t hostile = run.connections(0, 12);
    for (std::uint32_t index = 0; index < hostile; ++index) {
        const ClientPlan plan{"hostile client " + std::to_string(index), index % ServerProgram::client_machines,
                              run.random().next(), run.messages(1, 20)};
        const auto hostility =
            static_cast<Hostility>(run.random().below(static_cast<std::uint64_t>(Hostility::count_of_hostilities)));
        server.client(plan.name, plan.machine,
                      [&run, &server, plan, hostility] { harm(run, server, plan, hostility); });
    }
    if (run.random().one_in(3)) {
        const auto when = std::chrono::nanoseconds(run.random().below(100'000'000));
        server.client("who stops it", 0, [&run, &server, when] {
            run.pause(when);
            server.stop();
        });
    }
    server.start();
    run.finish();
}

}  // namespace

const Workload http_workload{
    "http", "an HTTP server: all forms of bodies, pipelining and drain, beside hostile clients", run_http};

}  // namespace ferrule_test
