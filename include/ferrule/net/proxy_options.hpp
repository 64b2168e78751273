#pragma once

#include <ferrule/net/address_prefix.hpp>
#include <ferrule/version.hpp>

#include <chrono>
#include <cstdint>
#include <vector>

namespace ferrule::inline v0 {

/// Whether connections begin with a header of the PROXY protocol.
enum class ProxyProtocol : std::uint8_t {
    off,       ///< what they begin with is the client's
    required,  ///< each begins with a header, of either version; one without it is reset. Nothing is guessed
};

/// How the connections of a listener come from a proxy that says who its clients are (the PROXY protocol, see
/// proxy_header.hpp). The handler begins when the header has been read; Connection::peer_address tells the client then.
struct ProxyOptions {
    ProxyProtocol protocol = ProxyProtocol::off;
    /// Who is believed. Others are reset before anything is read from them. Empty: everybody, which is right only where
    /// nobody but the proxy can reach the port.
    std::vector<AddressPrefix> sources{};
    /// From accepting a connection to the end of its header; then it is reset. Proxies send the header at once, so
    /// this is the time for a lost segment or two. 0: no such limit.
    std::chrono::milliseconds timeout{5'000};
};

}  // namespace ferrule::inline v0
