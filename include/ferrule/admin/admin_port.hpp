#pragma once

#include <ferrule/net/address.hpp>
#include <ferrule/reactor/metric_registry.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/ring/kernel.hpp>
#include <ferrule/server/server.hpp>
#include <ferrule/version.hpp>

#include <chrono>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace ferrule::inline v0 {

/// How an admin port is set up.
struct AdminOptions {
    /// An address as Address::parse reads it: `127.0.0.1`, `::1`, `unix:/run/server-admin.socket`. Nothing: every
    /// address of the machine, which needs `allow_remote`.
    std::string host = "127.0.0.1";
    /// TCP port; 0: the system chooses one.
    std::int32_t port = 9464;
    /// Others than this machine may reach it: there is no password, and whoever can reads everything and can keep its
    /// thread busy. Without it only loopback addresses and Unix sockets are taken.
    bool allow_remote = false;
    /// Unix path: the permissions of the socket file; 0: what the process's umask leaves.
    std::uint32_t unix_mode = 0600;
    /// Connections at a time; more wait until one ends.
    std::uint32_t connection_limit = 32;
    /// From the first bytes of a request to its last. At least 1 ms.
    std::chrono::milliseconds request_timeout{5'000};
    /// A connection on which nothing is asked. At least 1 ms.
    std::chrono::milliseconds idle_timeout{30'000};
    /// An answer, from the first byte to the last that the peer has taken. At least 1 ms.
    std::chrono::milliseconds answer_timeout{30'000};
    /// How long a reactor may take to answer before it counts as one that does not turn. At least 1 ms.
    std::chrono::milliseconds patience{1'000};
};

/// A port for those who run a server: what it counts, whether it lives, what it does. It has a thread, a ring and
/// limits of its own, so that neither its peers nor what it shows keep a reactor from its work: counters are read from
/// there, and a reactor is asked only what its page needs, by its mailbox.
///
/// | path | answer |
/// |---|---|
/// | `/metrics` | everything that is registered with the reactors, in Prometheus' text format |
/// | `/metrics.json` | the same as JSON, with quantiles |
/// | `/healthz` | 200: every reactor's loop turns. 503: names those that do not answer within AdminOptions::patience |
/// | `/readyz` | 200: it listens, does not drain, and every check holds. 503: names what does not |
/// | `/tasks` | the tasks of every reactor that have not ended, with what each waits for, in builds that list them |
/// | `/` | what there is |
///
/// It speaks a small, strict part of HTTP/1.1: GET and HEAD, heads of up to 8 KiB, no bodies. On a loopback address it
/// answers only requests that name an address or `localhost` as their host, so that no web page of a stranger can read
/// it through a browser.
///
/// ```cpp
/// #include <ferrule/admin/admin_port.hpp>
/// #include <ferrule/server.hpp>
///
/// ferrule::Task<> greet(ferrule::Connection connection) {
///     connection.write("hello\n");
///     co_return;
/// }
///
/// int main() {
///     ferrule::Server server{{.port = 8080}};
///     server.on_connection(greet);
///     ferrule::AdminPort admin;  // http://127.0.0.1:9464/metrics
///     admin.watch(server);
///     admin.start();
///     return server.run();
/// }
/// ```
///
/// Members are for one thread, before `start`, unless they say otherwise.
class FERRULE_EXPORT AdminPort {
public:
    /// Nothing is opened yet. Throws ConfigurationError, which names the field, when an option cannot be.
    explicit AdminPort(AdminOptions options = {}, Kernel& kernel = linux_kernel());
    /// Stops it.
    ~AdminPort();
    AdminPort(const AdminPort&) = delete;
    AdminPort& operator=(const AdminPort&) = delete;

    /// Shows the server's reactors. Before Server::run, and before hooks of the program's own that may throw. `name`,
    /// where there are several servers, is a label of its metrics: `server="mail"`.
    void watch(Server& server, std::string name = {});
    /// Shows a reactor that is held by hand; `name` as above. It may end before this does. Any thread, as long as the
    /// reactor is there.
    void watch(Reactor& reactor, std::string name = {});
    /// Shows metrics that belong to no reactor. Any thread.
    void watch(std::shared_ptr<MetricRegistry> metrics);

    /// Adds a page: what the function returns, as `content_type`. It is called for each request, on the admin port's
    /// thread, with the query of the target (behind the question mark, not decoded); what it throws is an answer with
    /// status 500. `path` begins with a slash and replaces a page that has it already.
    void page(std::string path, std::string content_type, std::function<std::string(std::string_view query)> function);

    /// Adds a page of plain text to which each reactor contributes: the function is called on every reactor's own
    /// thread, and may look at all that belongs to it. A reactor that does not answer in time is named instead.
    void reactor_page(std::string path, std::function<std::string(Reactor&)> function);

    /// Adds a condition to `/readyz`: nothing, or why not. Called for each request, on the admin port's thread; what it
    /// throws is a reason, too.
    void check(std::string name, std::function<std::expected<void, std::string>()> function);

    /// Opens the port and starts the thread. Once. Throws StartError, which names the operation and the address, when
    /// that cannot be, and std::logic_error the second time.
    void start();
    /// Closes the port, ends its connections and joins the thread. Nothing when it does not run. Any thread but its
    /// own.
    void stop();

    /// What it is bound to, from `start` on. Any thread.
    [[nodiscard]] Address address() const;

private:
    class Core;
    std::shared_ptr<Core> core_;
};

}  // namespace ferrule::inline v0
