#pragma once

#include <ferrule/ring/prepare.hpp>
#include <ferrule/ring/probe.hpp>
#include <ferrule/ring/ring.hpp>

#include <gtest/gtest.h>

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

namespace ferrule_test {

/// A ring of this size, or the test ends with the reason.
inline ferrule::Ring make_ring(ferrule::Kernel& kernel, const ferrule::Ring::Options& options) {
    auto ring = ferrule::Ring::create(kernel, options);
    if (!ring) {
        throw std::runtime_error(ring.error().message);
    }
    return std::move(*ring);
}

inline ferrule::Ring make_ring(std::uint32_t entries = 8) {
    ferrule::Ring::Options options;
    options.entries = entries;
    return make_ring(ferrule::linux_kernel(), options);
}

/// What the running kernel can do. Throws when it has no usable io_uring.
inline ferrule::Capabilities capabilities() {
    auto found = ferrule::probe(ferrule::linux_kernel());
    if (!found) {
        throw std::runtime_error(found.error().message);
    }
    return *found;
}

inline void prepare_nop(ferrule::abi::SubmissionEntry& entry, std::uint64_t user_data) {
    ferrule::prepare::nop(entry);
    entry.user_data = user_data;
}

/// A descriptor that is closed with its scope.
class Descriptor {
public:
    explicit Descriptor(int number = -1) noexcept : number_(number) {}
    Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(number_, other.number_);
        return *this;
    }
    ~Descriptor() { reset(); }

    int number() const noexcept { return number_; }
    void reset() noexcept {
        if (number_ >= 0) {
            ::close(std::exchange(number_, -1));
        }
    }

private:
    int number_;
};

/// Two connected sockets.
struct SocketPair {
    Descriptor first;
    Descriptor second;

    explicit SocketPair(int type = SOCK_STREAM) {
        std::array<int, 2> numbers{};
        if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, numbers.data()) != 0) {
            throw std::system_error(errno, std::system_category(), "socketpair");
        }
        first = Descriptor(numbers[0]);
        second = Descriptor(numbers[1]);
    }
};

}  // namespace ferrule_test
