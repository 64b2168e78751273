#pragma once

#include <ferrule/http/method.hpp>
#include <ferrule/http/request.hpp>
#include <ferrule/http/response.hpp>
#include <ferrule/http/route_tree.hpp>
#include <ferrule/http/serve.hpp>
#include <ferrule/task/task.hpp>
#include <ferrule/version.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace ferrule::inline v0::http {

namespace detail {

/// A handler of any type.
class RouteHandler {
public:
    RouteHandler() = default;
    RouteHandler(const RouteHandler&) = delete;
    RouteHandler& operator=(const RouteHandler&) = delete;
    virtual ~RouteHandler() = default;
    /// None where it has ended already.
    virtual Task<> begin(Request& request, Response& response) const = 0;
};

template <class Called>
class RouteHandlerOf final : public RouteHandler {
public:
    template <class From>
    explicit RouteHandlerOf(std::in_place_t, From&& called) : called_(std::forward<From>(called)) {}
    Task<> begin(Request& request, Response& response) const override {
        if constexpr (std::is_void_v<decltype(called_(request, response))>) {
            called_(request, response);
            return {};
        } else {
            return called_(request, response);
        }
    }

private:
    Called called_;
};

}  // namespace detail

/// Leads requests to handlers by method and path: a handler itself, for `serve`.
///
/// ```cpp
/// Task<> show_item(http::Request& request, http::Response& response) {
///     const auto id = request.parameter<std::int64_t>("id");
///     response.send("item " + std::to_string(*id));
///     co_return;
/// }
/// void add_item(http::Request&, http::Response& response) {
///     response.status(http::Status::created);
/// }
///
/// http::Router router;
/// router.get("/items/{id:int}", show_item);
/// router.post("/items", add_item);
/// router.get("/files/{path...}", [](http::Request& request, http::Response& response) {
///     response.send(request.parameter("path"));
/// });
/// server.on_connection([&router](Connection connection) { return http::serve(std::move(connection), router); });
/// ```
///
/// A pattern is a path whose segments may be parameters: `{name}` one segment that is not empty, `{name:int}` an
/// integer of 64 bits, and at the end `{name...}` all the rest, be it nothing. Request::parameter has what they stood
/// for. How paths are compared, and which pattern is tried first, is told at RouteTree. A route that no request could
/// tell from another one is refused when it is added (std::logic_error), as is what is no pattern
/// (std::invalid_argument).
///
/// By itself it answers
/// - HEAD with the handler of GET, whose body does not go out;
/// - OPTIONS with 204 and `Allow`, and `OPTIONS *` with the methods of all routes, unless a route has it;
/// - 405 with `Allow` for a path that has routes, but of other methods;
/// - 404 for any other path, and 501 for CONNECT and for methods that have no name here, unless `otherwise` is said.
///
/// Set up before it serves; from then on it is read only, by all reactors that it is shared with, and takes neither
/// locks nor memory for a request. It keeps one object of each handler, which all of them call at the same time: so it
/// is called as a constant. It has to outlive the connections that it serves.
class Router {
public:
    /// Adds a route. Returns this.
    template <Handler Called>
    Router& get(std::string_view pattern, Called&& handler) {
        return add(Method::get, pattern, std::forward<Called>(handler));
    }
    template <Handler Called>
    Router& head(std::string_view pattern, Called&& handler) {
        return add(Method::head, pattern, std::forward<Called>(handler));
    }
    template <Handler Called>
    Router& post(std::string_view pattern, Called&& handler) {
        return add(Method::post, pattern, std::forward<Called>(handler));
    }
    template <Handler Called>
    Router& put(std::string_view pattern, Called&& handler) {
        return add(Method::put, pattern, std::forward<Called>(handler));
    }
    template <Handler Called>
    Router& delete_(std::string_view pattern, Called&& handler) {
        return add(Method::delete_, pattern, std::forward<Called>(handler));
    }
    template <Handler Called>
    Router& patch(std::string_view pattern, Called&& handler) {
        return add(Method::patch, pattern, std::forward<Called>(handler));
    }
    template <Handler Called>
    Router& options(std::string_view pattern, Called&& handler) {
        return add(Method::options, pattern, std::forward<Called>(handler));
    }
    /// Adds a route of any method that has none of its own for this pattern: also of those that have no name here
    /// (Request::method_text), of HEAD and of OPTIONS.
    template <Handler Called>
    Router& any(std::string_view pattern, Called&& handler) {
        return add(std::nullopt, pattern, std::forward<Called>(handler));
    }
    /// Adds a route of a method that is known at run time only; `other` is misuse and throws std::invalid_argument.
    template <Handler Called>
    Router& route(Method method, std::string_view pattern, Called&& handler) {
        return add(method, pattern, std::forward<Called>(handler));
    }

    /// Adds all routes of another router, with a prefix, itself a pattern, in front of theirs: `/api`, and nothing is
    /// added to `/items` but that. Handlers are shared; `otherwise` stays behind, and so does what is added there
    /// later. When it throws, some of them are added.
    FERRULE_EXPORT Router& mount(std::string_view prefix, const Router& other);

    /// What answers requests that no route has a path for, instead of 404 and 501.
    template <Handler Called>
    Router& otherwise(Called&& handler) {
        otherwise_ = make(std::forward<Called>(handler));
        return *this;
    }

    /// Answers a request.
    FERRULE_EXPORT Task<> operator()(Request& request, Response& response) const;
    /// The same for `serve`, which does not await what has not to wait: no task where the handler is a plain function.
    FERRULE_EXPORT Task<> begin(Request& request, Response& response) const;

private:
    struct Route {
        std::optional<Method> method;
        std::string pattern;
        std::vector<std::string> names;  // of parameters
        std::shared_ptr<const detail::RouteHandler> handler;
    };

    template <class Called>
    static std::shared_ptr<const detail::RouteHandler> make(Called&& handler) {
        using Kept = std::decay_t<Called>;
        static_assert(Handler<const Kept>, "reactors share a handler, so it has to be callable as a constant");
        return std::make_shared<const detail::RouteHandlerOf<Kept>>(std::in_place, std::forward<Called>(handler));
    }
    template <class Called>
    Router& add(std::optional<Method> method, std::string_view pattern, Called&& handler) {
        add_route(method, pattern, make(std::forward<Called>(handler)));
        return *this;
    }
    FERRULE_EXPORT void add_route(std::optional<Method> method, std::string_view pattern,
                                  std::shared_ptr<const detail::RouteHandler> handler);

    RouteTree tree_;
    std::vector<Route> routes_;
    std::shared_ptr<const detail::RouteHandler> otherwise_;
};

}  // namespace ferrule::inline v0::http
