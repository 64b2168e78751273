#include <ferrule/http/router.hpp>

#include <array>
#include <stdexcept>

namespace ferrule::inline v0::http {

static_assert(RouteTree::parameters_max <= Request::parameters_max);

namespace {

Task<> ended_task() {
    co_return;
}

void answer(Response& response, Status status, std::string_view text) {
    response.status(status);
    response.content_type("text/plain; charset=utf-8");
    response.send(text);
}

void allow(Response& response, std::uint32_t methods) {
    std::array<char, allow_bytes_max> buffer;
    response.header("Allow", write_allow(methods, buffer));
}

}  // namespace

void Router::add_route(std::optional<Method> method, std::string_view pattern,
                       std::shared_ptr<const detail::RouteHandler> handler) {
    if (method == Method::other)
        throw std::invalid_argument("route " + std::string(pattern) + ": a method without a name");
    std::vector<std::string> names;
    for (RouteSegment& segment : parse_route_pattern(pattern)) {
        if (segment.kind != RouteSegment::Kind::literal) names.push_back(std::move(segment.text));
    }
    tree_.add(method, pattern, static_cast<std::uint32_t>(routes_.size()));
    routes_.push_back({method, std::string(pattern), std::move(names), std::move(handler)});
}

Router& Router::mount(std::string_view prefix, const Router& other) {
    if (prefix.ends_with('/')) throw std::invalid_argument("mount " + std::string(prefix) + ": it ends with a slash");
    // Of a router into itself, the routes that are there now.
    const std::size_t count = other.routes_.size();
    for (std::size_t index = 0; index < count; ++index) {
        const std::string pattern = std::string(prefix) + other.routes_[index].pattern;
        add_route(other.routes_[index].method, pattern, other.routes_[index].handler);
    }
    return *this;
}

Task<> Router::operator()(Request& request, Response& response) const {
    Task<> begun = begin(request, response);
    return begun ? std::move(begun) : ended_task();
}

Task<> Router::begin(Request& request, Response& response) const {
    const std::string_view path = request.raw_path();
    std::span<char> buffer;
    // A path without an escape is its own decoded form.
    if (request.path().data() != path.data()) buffer = request.memory(path.size() * 2);
    RouteTree::Match match;
    tree_.find(request.method(), path, buffer, match);
    if (match.route != RouteTree::none) [[likely]] {
        const Route& route = routes_[match.route];
        for (std::uint32_t index = 0; index < match.count; ++index)
            request.add_parameter(route.names[index], match.value(index));
        return route.handler->begin(request, response);
    }
    const bool asks = request.method() == Method::options;
    if (match.methods != 0 || (asks && path == "*")) {
        const std::uint32_t methods = match.methods != 0 ? match.methods : tree_.methods();
        allow(response, methods | 1u << static_cast<unsigned>(Method::options));
        if (asks) {
            response.status(Status::no_content);
            response.send();
        } else {
            answer(response, Status::method_not_allowed, "the path has no such method\n");
        }
        return {};
    }
    if (otherwise_ != nullptr) return otherwise_->begin(request, response);
    if (request.method() == Method::connect || request.method() == Method::other) {
        answer(response, Status::not_implemented, "the method is not implemented\n");
    } else {
        answer(response, Status::not_found, "no such path\n");
    }
    return {};
}

}  // namespace ferrule::inline v0::http
