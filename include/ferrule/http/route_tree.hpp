#pragma once

#include <ferrule/http/method.hpp>
#include <ferrule/version.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ferrule::inline v0::http {

/// A part of a route's pattern, between two slashes.
struct RouteSegment {
    /// What it stands for; in the order in which they are tried.
    enum class Kind : std::uint8_t {
        literal,  ///< itself
        integer,  ///< `{name:int}`: an integer of 64 bits
        text,     ///< `{name}`: any segment that is not empty
        rest,     ///< `{name...}`, at the end: all that follows, perhaps nothing
    };
    Kind kind;
    std::string text;  ///< of a literal; of others the name
};

/// Takes a pattern apart: `/items/{id:int}`. Throws std::invalid_argument, with the pattern and what is wrong with it.
[[nodiscard]] FERRULE_EXPORT std::vector<RouteSegment> parse_route_pattern(std::string_view pattern);

/// Finds the route of a method and a path; what a Router stands on, without requests and handlers. Set up first, and
/// then only read, by any thread.
///
/// Paths are compared segment by segment, each decoded by itself, so that an escaped slash (`%2F`) parts nothing, and
/// byte by byte: letters in their case, empty segments and a slash at the end as they are (`/items` and `/items/` are
/// two paths). At each place a literal is tried before `{name:int}`, that before `{name}`, and `{name...}` last; where
/// one leads to nothing, the next is tried. A parameter never is, nor has, a segment `.` or `..` (has_dot_segment):
/// those are literals or nothing, so that no parameter leads out of a folder.
class RouteTree {
public:
    /// The most segments and parameters of a pattern.
    static constexpr std::size_t segments_max = 32;
    static constexpr std::size_t parameters_max = 16;
    /// No route.
    static constexpr std::uint32_t none = UINT32_MAX;

    RouteTree() : nodes_(1) {}

    /// Adds a route of a method, or (no method) of all that have none of their own there. Throws std::logic_error,
    /// which names both patterns, when there is one that the same requests lead to; std::invalid_argument for what is
    /// no pattern.
    FERRULE_EXPORT void add(std::optional<Method> method, std::string_view pattern, std::uint32_t route);

    /// What was found.
    struct Match {
        std::uint32_t route = none;
        std::uint32_t methods = 0;  ///< when there is no route: a bit for each Method that has one for this path
        std::uint32_t count = 0;    ///< of parameters
        struct {
            const char* data;
            std::size_t size;
        } values[parameters_max];  ///< those of the parameters, decoded, in their order

        /// The value of a parameter.
        [[nodiscard]] std::string_view value(std::size_t index) const noexcept {
            return {values[index].data, values[index].size};
        }
    };
    /// Looks for a route. The path is as it was sent, without its query; where it has escapes, `buffer` has to have
    /// twice its size, and without any it is empty. Values are views of both. HEAD is led to GET's route where it has
    /// none, and allowed where GET is; OPTIONS is always among the methods of a path that has any.
    FERRULE_EXPORT void find(Method method, std::string_view path, std::span<char> buffer, Match& match) const noexcept;

    /// The methods of all routes, as in Match.
    [[nodiscard]] std::uint32_t methods() const noexcept { return methods_; }

private:
    static constexpr std::size_t method_count = static_cast<std::size_t>(Method::other) + 1;
    /// What ends at a node: by method, and under `other` that of all methods.
    struct Leaf {
        std::array<std::uint32_t, method_count> routes;
        std::uint32_t methods = 0;
    };
    struct Node {
        [[nodiscard]] bool has_only_literals() const noexcept { return (parameters[0] & parameters[1] & rest) == none; }

        std::vector<std::pair<std::string, std::uint32_t>> literals;  // by size and bytes
        std::array<std::uint32_t, 2> parameters{none, none};          // an integer's and a text's
        std::uint32_t rest = none;                                    // a leaf
        std::uint32_t leaf = none;
    };
    class Search;

    std::uint32_t make_leaf(std::uint32_t& place);
    std::uint32_t literal_child(std::uint32_t node, std::string text);

    std::vector<Node> nodes_;  // the first is the root
    std::vector<Leaf> leaves_;
    std::vector<std::pair<std::uint32_t, std::string>> patterns_;  // by route, for conflicts
    std::size_t depth_ = 0;                                        // of the longest pattern
    std::uint32_t methods_ = 0;
};

/// The methods of a set of bits as an Allow field has them, `GET, HEAD`; in `buffer`, of `allow_bytes_max` bytes.
[[nodiscard]] FERRULE_EXPORT std::string_view write_allow(std::uint32_t methods, std::span<char> buffer) noexcept;
/// Room for all of them.
inline constexpr std::size_t allow_bytes_max = 96;

}  // namespace ferrule::inline v0::http
