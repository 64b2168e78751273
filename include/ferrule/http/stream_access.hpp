#pragma once

#include <ferrule/net/shared_bytes.hpp>
#include <ferrule/version.hpp>

#include <cstddef>
#include <span>
#include <system_error>

namespace ferrule::inline v0::http::detail {

/// Its address tells a type of stream.
template <class Stream>
inline constexpr char stream_key = 0;

/// What the code that does not depend on the type of a stream writes to it by; each as ByteSink says.
class StreamAccess {
public:
    virtual std::size_t writable() const = 0;
    virtual std::size_t unsent() const = 0;
    virtual std::span<std::byte> span(std::size_t minimum) = 0;
    virtual void advance(std::size_t bytes) = 0;
    virtual bool write(std::span<const std::byte> bytes) = 0;
    /// Without a copy where the stream can.
    virtual bool write_shared(const SharedBytes& bytes) = 0;

protected:
    ~StreamAccess() = default;
};

}  // namespace ferrule::inline v0::http::detail
