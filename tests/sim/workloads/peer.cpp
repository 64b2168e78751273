#include "sim/workloads/peer.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <string>
#include <system_error>
#include <utility>

namespace ferrule_test {
namespace {

using namespace std::chrono_literals;
constexpr unsigned attempts_max = 8;
constexpr auto pause_between_attempts = 20ms;
constexpr std::size_t to_end_piece = 64 * 1024;

}  // namespace

Peer::Peer(WorkloadRun& run, std::size_t machine, ferrule::sim::Socket socket)
    : run_(&run), machine_(machine), socket_(std::move(socket)), random_(run.fork()) {}

std::optional<Peer> Peer::connect(WorkloadRun& run, std::size_t machine, const ferrule::Address& address,
                                  std::chrono::nanoseconds patience, std::optional<std::uint32_t> receive_buffer) {
    const auto target = ferrule::sim::SocketAddress::from(address.data(), address.size());
    ferrule::sim::Random random = run.fork();
    ferrule::sim::SocketOptions options;
    constexpr std::array<std::uint32_t, 6> buffers = {0, 0, 0, 0, 4096, 20'000};
    options.receive_buffer_bytes = buffers[random.below(buffers.size())];
    options.send_buffer_bytes = buffers[random.below(buffers.size())];
    if (receive_buffer) options.receive_buffer_bytes = *receive_buffer;
    if (patience != std::chrono::nanoseconds::max())
        options.time_limit_ns = static_cast<std::uint64_t>(patience.count());
    for (unsigned attempt = 0; attempt < attempts_max; ++attempt) {
        auto socket = ferrule::sim::Socket::connect(run.client_machine(machine), *target, options);
        if (socket) {
            ++run.connections_made;
            return Peer{run, machine, std::move(*socket)};
        }
        if (socket.error() == std::errc::connection_refused) ++run.connects_refused;
        run.pause(pause_between_attempts);
    }
    return std::nullopt;
}

bool Peer::send(std::span<const std::byte> bytes) {
    if (broken_ || !socket_.is_open()) return false;
    if (!socket_.send(bytes)) broken_ = true;
    return !broken_;
}

bool Peer::send(const Pattern& pattern, std::uint64_t position, std::uint64_t count, std::size_t piece_max) {
    for (std::uint64_t done = 0; done < count;) {
        const auto piece = static_cast<std::size_t>(
            std::min<std::uint64_t>(count - done, random_.between(1, std::max<std::size_t>(piece_max, 1))));
        const std::string text = pattern.text(position + done, piece);
        if (!send(std::string_view(text))) return false;
        done += piece;
    }
    return true;
}

std::size_t Peer::receive(std::span<std::byte> into) {
    if (broken_ || ended_ || !socket_.is_open()) return 0;
    const auto received = socket_.receive(into.size());
    if (!received) {
        broken_ = true;
        return 0;
    }
    if (received->empty()) ended_ = true;
    std::memcpy(into.data(), received->data(), received->size());
    run_->bytes_checked += received->size();
    return received->size();
}

std::uint64_t Peer::receive(const Pattern& pattern, std::uint64_t position, std::uint64_t count,
                            std::size_t piece_max) {
    std::string piece(std::max<std::size_t>(piece_max, 1), '\0');
    for (std::uint64_t done = 0; done < count;) {
        const auto limit = static_cast<std::size_t>(std::min<std::uint64_t>(count - done, piece.size()));
        const auto into = std::as_writable_bytes(std::span(piece)).first(limit);
        const std::size_t received = receive(into);
        if (received == 0) return done;
        if (const auto differs = pattern.mismatch(into.first(received), position + done)) {
            run_->find("byte " + std::to_string(done + *differs) + " of a stream is not what was sent");
            broken_ = true;
            return done + *differs;
        }
        done += received;
    }
    return count;
}

bool Peer::receive_exactly(std::span<std::byte> into) {
    for (std::size_t done = 0; done < into.size();) {
        const std::size_t received = receive(into.subspan(done));
        if (received == 0) return false;
        done += received;
    }
    return true;
}

std::uint64_t Peer::receive_to_end() {
    std::string piece(to_end_piece, '\0');
    std::uint64_t total = 0;
    while (const std::size_t received = receive(std::as_writable_bytes(std::span(piece)))) total += received;
    return total;
}

void Peer::shutdown_sending() {
    if (socket_.is_open() && !broken_) static_cast<void>(socket_.shutdown_sending());
}

void Peer::reset() {
    socket_.reset();
}

void Peer::close() {
    socket_.close();
}

void Peer::both(const std::function<void()>& sending, const std::function<void()>& receiving) {
    const auto sender = run_->client_machine(machine_).kernel().start_thread("sender", sending);
    receiving();
    sender->join();
}

}  // namespace ferrule_test
