#include <ferrule/http/route_tree.hpp>
#include <ferrule/http/target.hpp>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <stdexcept>
#include <system_error>

namespace ferrule::inline v0::http {

namespace {

[[noreturn]] void refuse(std::string_view pattern, std::string_view why) {
    throw std::invalid_argument("route " + std::string(pattern) + ": " + std::string(why));
}

constexpr std::uint32_t bit_of(Method method) noexcept {
    return 1u << static_cast<unsigned>(method);
}

bool is_integer(std::string_view text) noexcept {
    constexpr std::size_t digits_that_fit = 18;
    if (text.size() <= digits_that_fit && !text.empty()) {
        std::size_t digits = 0;
        while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9') ++digits;
        if (digits == text.size()) return true;
    }
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    return error == std::errc() && end == text.data() + text.size();
}

bool is_name(std::string_view text) noexcept {
    return !text.empty() && std::ranges::all_of(text, [](char letter) {
        return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
               (letter >= '0' && letter <= '9') || letter == '_' || letter == '-';
    });
}

RouteSegment parse_segment(std::string_view pattern, std::string_view text, bool last) {
    using Kind = RouteSegment::Kind;
    if (!text.starts_with('{') || !text.ends_with('}')) {
        if (text.find_first_of("{}") != std::string_view::npos) refuse(pattern, "a parameter is a whole segment");
        const bool printable = std::ranges::none_of(text, [](char letter) {
            const auto byte = static_cast<unsigned char>(letter);
            return byte < 0x20 || byte == 0x7f;
        });
        if (!printable) refuse(pattern, "it has a control character");
        return {Kind::literal, std::string(text)};
    }
    std::string_view name = text.substr(1, text.size() - 2);
    Kind kind = Kind::text;
    if (name.ends_with("...")) {
        if (!last) refuse(pattern, "nothing can follow a parameter that takes the rest");
        kind = Kind::rest;
        name.remove_suffix(3);
    } else if (const std::size_t colon = name.find(':'); colon != std::string_view::npos) {
        if (name.substr(colon + 1) != "int") refuse(pattern, "the only type of parameters is int");
        kind = Kind::integer;
        name = name.substr(0, colon);
    }
    if (!is_name(name)) refuse(pattern, "a parameter's name has letters, digits, - and _");
    return {kind, std::string(name)};
}

}  // namespace

std::vector<RouteSegment> parse_route_pattern(std::string_view pattern) {
    if (!pattern.starts_with('/')) refuse(pattern, "it has to begin with a slash");
    std::vector<RouteSegment> segments;
    std::size_t parameters = 0;
    for (std::size_t at = 1; at <= pattern.size();) {
        const std::size_t end = std::min(pattern.find('/', at), pattern.size());
        RouteSegment segment = parse_segment(pattern, pattern.substr(at, end - at), end == pattern.size());
        if (segment.kind != RouteSegment::Kind::literal) {
            ++parameters;
            for (const RouteSegment& other : segments) {
                if (other.kind != RouteSegment::Kind::literal && other.text == segment.text)
                    refuse(pattern, "it has the parameter " + segment.text + " twice");
            }
        }
        segments.push_back(std::move(segment));
        at = end + 1;
    }
    if (segments.size() > RouteTree::segments_max) refuse(pattern, "it has more than 32 segments");
    if (parameters > RouteTree::parameters_max) refuse(pattern, "it has more than 16 parameters");
    return segments;
}

std::uint32_t RouteTree::make_leaf(std::uint32_t& place) {
    if (place == none) {
        Leaf leaf;
        leaf.routes.fill(none);
        leaves_.push_back(leaf);
        place = static_cast<std::uint32_t>(leaves_.size() - 1);
    }
    return place;
}

namespace {

/// Shorter ones first, so that most are told apart by their size.
bool before(std::string_view first, std::string_view second) noexcept {
    if (first.size() != second.size()) return first.size() < second.size();
    return std::memcmp(first.data(), second.data(), first.size()) < 0;
}

}  // namespace

std::uint32_t RouteTree::literal_child(std::uint32_t node, std::string text) {
    auto& literals = nodes_[node].literals;
    const auto place = std::ranges::lower_bound(literals, std::string_view(text), before,
                                                [](const auto& literal) { return std::string_view(literal.first); });
    if (place != literals.end() && place->first == text) return place->second;
    const auto child = static_cast<std::uint32_t>(nodes_.size());
    literals.emplace(place, std::move(text), child);
    nodes_.emplace_back();
    return child;
}

void RouteTree::add(std::optional<Method> method, std::string_view pattern, std::uint32_t route) {
    std::vector<RouteSegment> segments = parse_route_pattern(pattern);
    depth_ = std::max(depth_, segments.size());
    std::uint32_t node = 0;
    std::uint32_t leaf = none;
    for (RouteSegment& segment : segments) {
        switch (segment.kind) {
            case RouteSegment::Kind::literal:
                node = literal_child(node, std::move(segment.text));
                break;
            case RouteSegment::Kind::rest:
                leaf = make_leaf(nodes_[node].rest);
                break;
            default: {
                const std::size_t kind = segment.kind == RouteSegment::Kind::integer ? 0 : 1;
                if (nodes_[node].parameters[kind] == none) {
                    nodes_[node].parameters[kind] = static_cast<std::uint32_t>(nodes_.size());
                    nodes_.emplace_back();
                }
                node = nodes_[node].parameters[kind];
            }
        }
    }
    if (leaf == none) leaf = make_leaf(nodes_[node].leaf);
    std::uint32_t& place = leaves_[leaf].routes[static_cast<std::size_t>(method.value_or(Method::other))];
    const std::string name = std::string(method ? name_of(*method) : "any method of") + " " + std::string(pattern);
    if (place != none) {
        const auto other = std::ranges::find(patterns_, place, [](const auto& entry) { return entry.first; });
        throw std::logic_error("route " + name + " conflicts with " + other->second);
    }
    patterns_.emplace_back(route, name);
    place = route;
    std::uint32_t methods = bit_of(Method::options);
    if (method) {
        methods |= bit_of(*method);
        if (*method == Method::get) methods |= bit_of(Method::head);
    } else {
        methods |= bit_of(Method::other) - 1;
    }
    leaves_[leaf].methods |= methods;
    methods_ |= methods;
}

/// One path, taken apart, on its way through the tree. Each node is tried at most once: its place in the tree tells how
/// many segments are behind it.
class RouteTree::Search {
public:
    Search(const RouteTree& tree, Method method, std::string_view path, std::span<char> buffer, Match& match) noexcept
        : tree_(tree), method_(method), path_(path), buffer_(buffer), match_(match) {}

    /// False: the path is none that any route could have.
    bool split() noexcept {
        if (!path_.starts_with('/')) return false;
        escapes_ = !buffer_.empty();
        // One more than any pattern has: only what takes the rest can match then.
        const std::size_t most = tree_.depth_ + 1;
        const char* const begin = path_.data();
        const char* const end = begin + path_.size();
        const char* from = begin + 1;
        // Segments are short: one loop over all of them costs less than a search for the end of each.
        for (const char* at = from;; ++at) {
            if (at != end && *at != '/') continue;
            Piece& piece = pieces_[count_];
            piece = {from, static_cast<std::uint32_t>(at - from), static_cast<std::uint32_t>(from - begin)};
            if (escapes_ && !decode(piece)) return false;
            ++count_;
            if (at == end || count_ == most) break;
            from = at + 1;
        }
        return true;
    }

    bool visit(std::uint32_t index, std::size_t depth) noexcept {
        const Node& node = tree_.nodes_[index];
        if (depth == count_) return node.leaf != none && accept(node.leaf);
        const std::string_view text = pieces_[depth].text();
        if (!node.literals.empty()) {
            const std::uint32_t child = find_literal(node, text);
            // Most nodes have nothing else to try: then this is a loop.
            if (node.has_only_literals()) return child != none && visit(child, depth + 1);
            if (child != none && visit(child, depth + 1)) return true;
        }
        if (node.parameters[0] != none && is_integer(text) && visit_parameter(node.parameters[0], text, depth))
            return true;
        if (node.parameters[1] != none && !text.empty() && !leads_out(text) &&
            visit_parameter(node.parameters[1], text, depth))
            return true;
        return node.rest != none && take_rest(node.rest, pieces_[depth].begin);
    }

private:
    struct Piece {
        const char* data;
        std::uint32_t size;
        std::uint32_t begin;  // in the path

        [[nodiscard]] std::string_view text() const noexcept { return {data, size}; }
    };

    bool decode(Piece& piece) noexcept {
        const auto decoded = decode_path(piece.text(), buffer_.subspan(used_));
        if (!decoded) return false;
        if (decoded->data() == buffer_.data() + used_) used_ += decoded->size();
        piece.data = decoded->data();
        piece.size = static_cast<std::uint32_t>(decoded->size());
        return true;
    }

    static std::uint32_t find_literal(const Node& node, std::string_view text) noexcept {
        constexpr std::size_t few = 16;
        if (node.literals.size() <= few) {
            for (const auto& [literal, child] : node.literals) {
                if (literal.size() < text.size()) continue;
                if (literal.size() > text.size()) break;
                if (std::memcmp(literal.data(), text.data(), text.size()) == 0) return child;
            }
            return none;
        }
        const auto place = std::ranges::lower_bound(
            node.literals, text, before, [](const auto& literal) { return std::string_view(literal.first); });
        return place != node.literals.end() && place->first == text ? place->second : none;
    }

    bool visit_parameter(std::uint32_t child, std::string_view text, std::size_t depth) noexcept {
        match_.values[match_.count++] = {text.data(), text.size()};
        if (visit(child, depth + 1)) return true;
        --match_.count;
        return false;
    }

    bool take_rest(std::uint32_t leaf, std::size_t begin) noexcept {
        std::string_view rest = path_.substr(begin);
        if (escapes_) {
            const auto decoded = decode_path(rest, buffer_.subspan(used_));
            if (!decoded) return false;
            rest = *decoded;
        }
        if (has_dot_segment(rest)) return false;
        match_.values[match_.count++] = {rest.data(), rest.size()};
        if (accept(leaf)) return true;
        --match_.count;
        return false;
    }

    /// Of a segment: it can have slashes only if it had escapes.
    [[nodiscard]] bool leads_out(std::string_view text) const noexcept {
        return escapes_ ? has_dot_segment(text) : text == "." || text == "..";
    }

    bool accept(std::uint32_t index) noexcept {
        const Leaf& leaf = tree_.leaves_[index];
        std::uint32_t route = leaf.routes[static_cast<std::size_t>(method_)];
        if (route == none && method_ == Method::head) route = leaf.routes[static_cast<std::size_t>(Method::get)];
        if (route == none) route = leaf.routes[static_cast<std::size_t>(Method::other)];
        match_.route = route;
        match_.methods |= leaf.methods;
        return route != none;
    }

    const RouteTree& tree_;
    Method method_;
    bool escapes_ = false;
    std::string_view path_;
    std::span<char> buffer_;
    std::size_t used_ = 0;  // of the buffer
    Match& match_;
    std::size_t count_ = 0;
    Piece pieces_[segments_max + 1];
};

void RouteTree::find(Method method, std::string_view path, std::span<char> buffer, Match& match) const noexcept {
    match.route = none;
    match.methods = 0;
    match.count = 0;
    Search search(*this, method, path, buffer, match);
    if (search.split()) static_cast<void>(search.visit(0, 0));
}

std::string_view write_allow(std::uint32_t methods, std::span<char> buffer) noexcept {
    std::size_t size = 0;
    for (unsigned index = 0; index < static_cast<unsigned>(Method::other); ++index) {
        if ((methods >> index & 1) == 0) continue;
        const std::string_view name = name_of(static_cast<Method>(index));
        if (size != 0) {
            std::memcpy(buffer.data() + size, ", ", 2);
            size += 2;
        }
        std::memcpy(buffer.data() + size, name.data(), name.size());
        size += name.size();
    }
    return {buffer.data(), size};
}

}  // namespace ferrule::inline v0::http
