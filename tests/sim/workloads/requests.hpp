#pragma once

#include <ferrule/net/connection.hpp>

#include "sim/workloads/pattern.hpp"
#include "sim/workloads/workload.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace ferrule_test {

/// What a request begins with, and an answer too: how many bytes follow. Those of a request are of the stream `key`,
/// those of an answer of the stream `key + 1`, both from `position` on.
struct RequestHeader {
    std::uint64_t key = 0;
    std::uint64_t position = 0;
    std::uint32_t size = 0;
    std::uint32_t answer_size = 0;
    /// What the server does when it has answered.
    enum class After : std::uint32_t { go_on, close, abort } after = After::go_on;
    std::uint32_t sequence = 0;

    [[nodiscard]] std::span<const std::byte> bytes() const noexcept {
        return std::as_bytes(std::span<const RequestHeader, 1>(this, 1));
    }
};

/// The server's side of a connection that carries requests.
struct RequestsSeen {
    std::uint64_t key = 0;
    std::uint32_t next = 0;
    RequestHeader::After after = RequestHeader::After::go_on;
};

/// Answers every whole request at the beginning of `bytes`: how many bytes those were. A request that is not what its
/// sender sent is a finding.
std::size_t answer_requests(WorkloadRun& run, RequestsSeen& seen, ferrule::Connection& connection,
                            std::span<const std::byte> bytes);

/// Reads requests and answers them until the stream ends, or a request says so.
ferrule::Task<> serve_requests(WorkloadRun* run, ferrule::Connection connection);

class Peer;

/// Sends a request with its bytes.
bool send_request(Peer& peer, const RequestHeader& header);
/// Receives the answer to a request, and compares it. False when it did not come whole.
bool receive_answer(WorkloadRun& run, Peer& peer, const RequestHeader& header);

}  // namespace ferrule_test
