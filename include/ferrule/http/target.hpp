#pragma once

#include <ferrule/version.hpp>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <iterator>
#include <optional>
#include <span>
#include <string_view>

namespace ferrule::inline v0::http {

/// The four forms of a request's target (RFC 9112, section 3.2).
enum class TargetForm : std::uint8_t {
    origin,     ///< `/path?query`
    absolute,   ///< `http://host/path?query`, as it is sent to proxies
    authority,  ///< `host:port`, of CONNECT
    asterisk,   ///< `*`, of OPTIONS
};

/// A target in its parts, as they were sent: nothing is decoded. Views into the target's text.
struct Target {
    std::string_view scheme;     ///< of the absolute form: `http`
    std::string_view authority;  ///< of the absolute and the authority form: host, and port where there is one
    std::string_view
        path;  ///< of the origin and the absolute form: `/` where the latter has none. `*` of the asterisk form
    std::string_view query;  ///< behind the question mark
    bool has_query = false;  ///< there is a question mark
};

/// Takes a target apart. For targets that a parser let through; of others it makes what it can.
FERRULE_EXPORT Target split_target(std::string_view target, TargetForm form) noexcept;

/// A host and its port, as they were sent.
struct Authority {
    std::string_view host;              ///< a name, an IPv4 address, or an IPv6 address in its brackets
    std::optional<std::uint16_t> port;  ///< nothing: there is none, or nothing behind the colon
};

/// Reads `host`, `host:port`, `[2001:db8::1]:port` (RFC 3986, section 3.2.2, without user information); nothing: it is
/// none of these, or has no host. A port is at most 65535.
FERRULE_EXPORT std::optional<Authority> parse_authority(std::string_view text) noexcept;

/// Why a text cannot be decoded.
enum class DecodeError : std::uint8_t {
    malformed,  ///< a `%` without two hexadecimal digits behind it
    nul,        ///< `%00`: no name has one, and programs in C end there
    no_room,    ///< the buffer is smaller than the text that is made
};

/// Turns escapes (`%41`) into the bytes that they stand for, once, into `buffer`, and returns what it has written
/// there, or the text itself where it has no escape. `buffer` is never more used than the text is long. The result may
/// have any byte but NUL: control characters and what is no UTF-8, too. A path should be taken apart at its slashes
/// before, because `%2F` is a slash afterwards.
FERRULE_EXPORT std::expected<std::string_view, DecodeError> decode_path(std::string_view text,
                                                                        std::span<char> buffer) noexcept;

/// The same for the names and values of a query as forms send them: a `+` is a space, and `%00` is let through.
FERRULE_EXPORT std::expected<std::string_view, DecodeError> decode_query(std::string_view text,
                                                                         std::span<char> buffer) noexcept;

/// Whether a path, decoded or not, has a segment `.` or `..`, in letters or as escapes: what leads out of a folder.
FERRULE_EXPORT bool has_dot_segment(std::string_view path) noexcept;

/// A part of a query, as it was sent.
struct QueryParameter {
    std::string_view name;   ///< before the equals sign
    std::string_view value;  ///< behind it
    bool has_value = false;  ///< there is an equals sign
};

/// The parameters of a query, `a=1&b`, one after the other: a range of QueryParameter. Empty ones (`&&`) are left out.
/// It is a view of the query, and decodes nothing.
///
/// ```cpp
/// #include <ferrule/http/target.hpp>
///
/// std::size_t flags(std::string_view query) {
///     std::size_t count = 0;
///     for (const auto& parameter : ferrule::http::Query(query)) count += !parameter.has_value;
///     return count;
/// }
/// ```
class FERRULE_EXPORT Query {
public:
    /// Goes over the parameters, once from the front to the back.
    class FERRULE_EXPORT Iterator {
    public:
        using value_type = QueryParameter;
        using difference_type = std::ptrdiff_t;
        /// At the end.
        Iterator() = default;
        /// At the first parameter of the text.
        explicit Iterator(std::string_view rest) noexcept : rest_(rest) { advance(); }
        const QueryParameter& operator*() const noexcept { return parameter_; }
        const QueryParameter* operator->() const noexcept { return &parameter_; }
        Iterator& operator++() noexcept {
            advance();
            return *this;
        }
        void operator++(int) noexcept { advance(); }
        friend bool operator==(const Iterator& iterator, std::default_sentinel_t) noexcept { return iterator.ended_; }

    private:
        void advance() noexcept;

        std::string_view rest_;
        QueryParameter parameter_;
        bool ended_ = true;
    };

    /// Of what is behind a target's question mark.
    explicit Query(std::string_view text) noexcept : text_(text) {}

    [[nodiscard]] Iterator begin() const noexcept { return Iterator(text_); }
    [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

    /// The value, as it was sent, of the first parameter whose decoded name is `name`; nothing: there is none. A
    /// parameter without an equals sign has an empty value.
    [[nodiscard]] std::optional<std::string_view> find(std::string_view name) const noexcept;

private:
    std::string_view text_;
};

}  // namespace ferrule::inline v0::http
