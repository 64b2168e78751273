#pragma once

#include <ferrule/version.hpp>

#include <cstdint>

namespace ferrule::inline v0 {

/// Why a read ended without bytes.
enum class EndReason : std::uint8_t {
    none,           ///< no read has ended yet
    end_of_stream,  ///< the peer has shut down its sending side; what is written still reaches it
    reset,          ///< the peer has reset the connection, or the path to it is gone
    deadline,       ///< a deadline came first: of this read (with_deadline), a timeout of the connection (first byte,
                    ///< idle, read or write), or the peer was slower than the least rate of sending or receiving
    draining,       ///< the server ends, and this connection was idle
    cancelled,      ///< the scope of the reading task was cancelled
    limit,   ///< the connection holds as many received bytes as it may (NetworkOptions::receive_limit), or the reactor
             ///< does
    failed,  ///< another error: Connection::error tells
};

/// The name of the reason, as in the enumeration.
FERRULE_EXPORT const char* to_string(EndReason reason) noexcept;

}  // namespace ferrule::inline v0
