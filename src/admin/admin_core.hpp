#pragma once

#include <ferrule/admin/admin_port.hpp>
#include <ferrule/net/connection.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/task/task.hpp>

#include "admin/process_metrics.hpp"
#include "admin/reactor_survey.hpp"
#include "admin/request_head.hpp"

#include <atomic>
#include <cstdint>
#include <exception>
#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace ferrule::inline v0 {

/// An answer, before it is written.
struct AdminAnswer {
    unsigned status = 200;
    std::string content_type = "text/plain; charset=utf-8";
    std::string body;
};

/// A server that is watched, for as long as its hooks or the port live.
struct WatchedServer {
    std::string name;
    std::atomic<bool> listening = false;
};

/// What an AdminPort is. Shared with the hooks of the servers that it watches, which may outlive it.
class AdminPort::Core {
public:
    Core(AdminOptions options, Kernel& kernel);
    ~Core();
    Core(const Core&) = delete;
    Core& operator=(const Core&) = delete;

    void start();
    void stop() noexcept;
    [[nodiscard]] Address address() const;

    std::shared_ptr<WatchedServer> add_server(std::string name);
    void add_reactor(Reactor& reactor, std::string name, const WatchedServer* server = nullptr);
    void add_metrics(std::shared_ptr<MetricRegistry> metrics);
    void add_page(std::string path, std::string content_type, std::function<std::string(std::string_view)> function);
    void add_reactor_page(std::string path, std::function<std::string(Reactor&)> function);
    void add_check(std::string name, std::function<std::expected<void, std::string>()> function);

private:
    struct Page {
        std::string content_type;
        std::function<std::string(std::string_view)> function;
        SurveyFunction reactor_function;
        Task<AdminAnswer> (Core::*built_in)(Reactor& reactor) = nullptr;
    };
    struct Check {
        std::string name;
        std::function<std::expected<void, std::string>()> function;
    };

    void check_not_started(const char* call) const;
    void add_built_in(std::string path, Task<AdminAnswer> (Core::*function)(Reactor& reactor));
    [[nodiscard]] std::vector<std::shared_ptr<WatchedReactor>> reactors();
    void run(int descriptor) noexcept;
    void wait_until_it_runs();
    void tell(std::uint32_t state) noexcept;

    // On its own reactor.
    Task<> serve(Connection connection);
    Task<bool> answer_one(Connection& connection, RequestHead request);
    Task<AdminAnswer> answer(Reactor& reactor, const RequestHead& request);
    Task<std::vector<MetricSample>> read_metrics(Reactor& reactor);
    Task<AdminAnswer> metrics_page(Reactor& reactor);
    Task<AdminAnswer> metrics_json_page(Reactor& reactor);
    Task<AdminAnswer> health_page(Reactor& reactor);
    Task<AdminAnswer> ready_page(Reactor& reactor);
    Task<AdminAnswer> index_page(Reactor& reactor);
    Task<AdminAnswer> reactor_page(Reactor& reactor, SurveyFunction function);
    [[nodiscard]] std::string why_not_ready();
    [[nodiscard]] bool misdirected(const RequestHead& request) const;

    const AdminOptions options_;
    Kernel& kernel_;
    const ProcessMetrics process_;
    std::map<std::string, Page, std::less<>> pages_;
    std::vector<Check> checks_;
    bool started_ = false;
    bool only_addresses_ = false;  // a loopback address: names are not answered
    Address address_;
    std::unique_ptr<Reactor> reactor_;
    std::unique_ptr<ThreadHandle> thread_;
    // How far the thread has come, for who waits for that: starting, running, failed.
    std::atomic<std::uint32_t> state_ = 0;
    std::exception_ptr failure_;

    std::mutex mutex_;  // guards what follows; nothing waits while it is held
    std::vector<std::shared_ptr<WatchedServer>> servers_;
    std::vector<std::shared_ptr<WatchedReactor>> reactors_;
    std::vector<std::shared_ptr<MetricRegistry>> metrics_;
};

}  // namespace ferrule::inline v0
