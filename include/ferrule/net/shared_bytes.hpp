#pragma once

#include <ferrule/net/lease.hpp>
#include <ferrule/version.hpp>

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ferrule::inline v0 {

class Network;
class Reactor;

namespace detail {
struct SharedCount;
struct SharedOrigin;
}  // namespace detail

/// Immutable bytes that many may send at once without a copy: an answer that is made once. A handle to them, 24 bytes.
///
/// Handles are counted without atomics, for each reactor apart: one made on a reactor's thread, and its copies, belong
/// to that thread, and aborts the process when it is copied or destroyed on another one. `for_reactor` makes one for
/// another reactor, which may be moved there. One that is made where no reactor runs belongs to no thread: whoever
/// holds it and its copies sees to it that one thread at a time does so. After its reactor has ended, the same holds
/// for every handle.
///
/// The bytes are given back when the last handle has ended and the last send has taken them: on the thread of the
/// reactor where they were made, by its mailbox; where that has ended, or was none, on the thread of the last handle.
///
/// ```cpp
/// Task<> answer(Connection connection, const SharedBytes* page) {
///     while (auto received = co_await connection.read()) {
///         connection.write("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(page->size()) + "\r\n\r\n");
///         connection.write_shared(*page);
///         co_await connection.flush();
///     }
/// }
/// ```
class FERRULE_EXPORT SharedBytes {
public:
    /// None.
    SharedBytes() noexcept = default;
    /// A copy of the bytes. This and the other makers throw std::bad_alloc.
    [[nodiscard]] static SharedBytes copy(std::span<const std::byte> bytes);
    /// As above, of characters.
    [[nodiscard]] static SharedBytes copy(std::string_view text);
    /// The bytes themselves.
    [[nodiscard]] static SharedBytes own(std::string&& text);
    /// As above.
    [[nodiscard]] static SharedBytes own(std::vector<std::byte>&& bytes);
    /// Bytes that somebody else keeps, unchanged, until `released` is called: once, where the bytes are given back (see
    /// above). It must not throw.
    [[nodiscard]] static SharedBytes borrow(std::span<const std::byte> bytes, std::move_only_function<void()> released);

    SharedBytes(const SharedBytes& other) noexcept;
    SharedBytes(SharedBytes&& other) noexcept
        : count_(std::exchange(other.count_, nullptr)), bytes_(std::exchange(other.bytes_, {})) {}
    SharedBytes& operator=(const SharedBytes& other) noexcept {
        if (this != &other) *this = SharedBytes{other};
        return *this;
    }
    SharedBytes& operator=(SharedBytes&& other) noexcept {
        if (this != &other) {
            reset();
            count_ = std::exchange(other.count_, nullptr);
            bytes_ = std::exchange(other.bytes_, {});
        }
        return *this;
    }
    ~SharedBytes() { reset(); }

    /// Whether it holds anything, be it no bytes.
    explicit operator bool() const noexcept { return count_ != nullptr; }
    /// The bytes; valid while a handle lasts.
    [[nodiscard]] Slice slice() const noexcept { return bytes_; }
    [[nodiscard]] std::size_t size() const noexcept { return bytes_.size(); }

    /// A handle to `length` of the bytes from `offset` on, or to as many as there are: it keeps all of them.
    [[nodiscard]] SharedBytes part(std::size_t offset, std::size_t length) const noexcept;

    /// A handle for the other reactor, counted there: to be moved, not copied, to its thread (Reactor::post). This
    /// handle's own thread; elsewhere it aborts the process. Throws std::bad_alloc.
    [[nodiscard]] SharedBytes for_reactor(Reactor& other) const;

    /// Ends the handle now.
    void reset() noexcept;

private:
    friend class Network;
    SharedBytes(detail::SharedCount* count, Slice bytes) noexcept : count_(count), bytes_(bytes) {}
    static SharedBytes make(detail::SharedOrigin* origin);

    detail::SharedCount* count_ = nullptr;
    Slice bytes_;
};
static_assert(sizeof(SharedBytes) == 3 * sizeof(void*));

}  // namespace ferrule::inline v0
