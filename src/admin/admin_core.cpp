#include <ferrule/net/listen_socket.hpp>
#include <ferrule/net/network.hpp>
#include <ferrule/server/options.hpp>
#include <ferrule/task/describe_live_tasks.hpp>

#include "admin/admin_core.hpp"

#include <netinet/in.h>
#include <signal.h>

#include <algorithm>
#include <exception>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace ferrule::inline v0 {

namespace {

// Few connections, small requests: small queues and few buffers.
constexpr std::uint32_t ring_entries = 64;
constexpr std::uint32_t mailbox_entries = 4096;
constexpr std::uint64_t memory_limit = 64u << 20;
constexpr std::uint32_t receive_buffers = 64;
constexpr std::uint32_t receive_buffer_bytes = 2048;
constexpr std::uint32_t received_bytes_max = 128u << 10;
constexpr std::uint32_t written_bytes_max = 256u << 10;
constexpr std::uint64_t connection_memory = 1u << 20;
constexpr std::uint32_t connections_max = 4096;
constexpr std::uint32_t waiting_connections = 64;
constexpr std::int32_t port_max = 65535;
constexpr std::uint32_t unix_mode_max = 0777;
constexpr std::chrono::milliseconds timeout_max = std::chrono::hours(24);
constexpr std::chrono::milliseconds linger{2'000};
/// The number of its own reactor, which no reactor of a program has: what it says carries it.
constexpr std::uint32_t own_reactor = 9464;

template <class Number>
void check_range(const char* field, Number value, Number least, Number most) {
    if (value >= least && value <= most) return;
    throw ConfigurationError(
        std::string("AdminOptions.") + field,
        std::to_string(value) + " is not in " + std::to_string(least) + " to " + std::to_string(most));
}

bool is_loopback(const Address& address) noexcept {
    const Address plain = address.unmapped();
    if (plain.family() == AddressFamily::ipv4) {
        const auto* ipv4 = reinterpret_cast<const sockaddr_in*>(plain.data());
        return (ntohl(ipv4->sin_addr.s_addr) >> 24) == IN_LOOPBACKNET;
    }
    return plain == Address::loopback_ipv6(plain.port());
}

Address address_of(const AdminOptions& options, Kernel& kernel) {
    check_range("port", options.port, 0, port_max);
    const auto address = Address::parse(options.host, static_cast<std::uint16_t>(options.port), kernel);
    if (!address)
        throw ConfigurationError("AdminOptions.host",
                                 '"' + options.host + "\" is not an address: " + address.error().message());
    const bool local = address->family() == AddressFamily::unix_domain || is_loopback(*address);
    if (!local && !options.allow_remote) {
        throw ConfigurationError("AdminOptions.host",
                                 '"' + options.host + "\" can be reached by others: allow_remote says that it may");
    }
    return *address;
}

void check_options(const AdminOptions& options) {
    check_range("unix_mode", options.unix_mode, 0u, unix_mode_max);
    check_range("connection_limit", options.connection_limit, 1u, connections_max);
    const auto check_time = [](const char* field, std::chrono::milliseconds time) {
        check_range<std::int64_t>(field, time.count(), 1, timeout_max.count());
    };
    check_time("request_timeout", options.request_timeout);
    check_time("idle_timeout", options.idle_timeout);
    check_time("answer_timeout", options.answer_timeout);
    check_time("patience", options.patience);
}

NetworkOptions network_options(const AdminOptions& options) {
    NetworkOptions network;
    network.receive_buffer_count = receive_buffers;
    network.receive_buffer_size = receive_buffer_bytes;
    network.receive_limit = received_bytes_max;
    network.write_overflow = WriteOverflow::segmented;
    network.write_limit = written_bytes_max;
    network.connection_memory_limit = connection_memory;
    network.memory_limit = memory_limit;
    network.connection_limit = options.connection_limit;
    network.waiting_limit = waiting_connections;
    network.idle_timeout = options.idle_timeout;
    network.read_timeout = options.request_timeout;
    network.write_timeout = options.answer_timeout;
    network.linger_timeout = linger;
    return network;
}

// What the thread of an admin port has come to.
constexpr std::uint32_t starting = 0;
constexpr std::uint32_t running = 1;
constexpr std::uint32_t failed = 2;

/// Threads that are started meanwhile leave the signals of the process to its other threads. What a thread causes
/// itself stays, and so does what profilers use.
class SignalsLeftToOthers {
public:
    explicit SignalsLeftToOthers(Kernel& kernel) noexcept : kernel_(kernel) {
        sigset_t signals;
        sigfillset(&signals);
        for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS, SIGPROF})
            sigdelset(&signals, own);
        blocked_ = kernel.block_signals(&signals, &before_) >= 0;
    }
    SignalsLeftToOthers(const SignalsLeftToOthers&) = delete;
    SignalsLeftToOthers& operator=(const SignalsLeftToOthers&) = delete;
    ~SignalsLeftToOthers() {
        if (blocked_) kernel_.restore_signals(&before_);
    }

private:
    Kernel& kernel_;
    sigset_t before_{};
    bool blocked_;
};

/// A page that every build has: what a reactor is busy with.
std::string tasks_of(Reactor& reactor) {
    std::string text = std::to_string(reactor.frames.live_frames()) + " frames, " +
                       std::to_string(reactor.counters().operations.value()) + " operations\n";
    text += describe_live_tasks(reactor);
    return text;
}

}  // namespace

AdminPort::Core::Core(AdminOptions options, Kernel& kernel)
    : options_(std::move(options)), kernel_(kernel), process_(kernel) {
    check_options(options_);
    address_ = address_of(options_, kernel);
    only_addresses_ = address_.family() != AddressFamily::unix_domain && is_loopback(address_);
    add_built_in("/", &Core::index_page);
    add_built_in("/metrics", &Core::metrics_page);
    add_built_in("/metrics.json", &Core::metrics_json_page);
    add_built_in("/healthz", &Core::health_page);
    add_built_in("/readyz", &Core::ready_page);
    add_reactor_page("/tasks", tasks_of);
}

AdminPort::Core::~Core() {
    stop();
}

// ---- what is shown ----

void AdminPort::Core::check_not_started(const char* call) const {
    if (started_) throw std::logic_error(std::string("AdminPort::") + call + ": it has started");
}

void AdminPort::Core::add_built_in(std::string path, Task<AdminAnswer> (Core::*function)(Reactor& reactor)) {
    pages_[std::move(path)].built_in = function;
}

void AdminPort::Core::add_page(std::string path, std::string content_type,
                               std::function<std::string(std::string_view)> function) {
    check_not_started("page");
    if (!path.starts_with('/') || path.find_first_of("? \r\n") != std::string::npos)
        throw std::invalid_argument("AdminPort::page: '" + path + "' is not a path");
    if (content_type.empty() || content_type.find_first_of("\r\n") != std::string::npos)
        throw std::invalid_argument("AdminPort::page: '" + content_type + "' is not a content type");
    if (!function) throw std::invalid_argument("AdminPort::page: the function is empty");
    Page page;
    page.content_type = std::move(content_type);
    page.function = std::move(function);
    pages_.insert_or_assign(std::move(path), std::move(page));
}

void AdminPort::Core::add_reactor_page(std::string path, std::function<std::string(Reactor&)> function) {
    check_not_started("reactor_page");
    if (!path.starts_with('/') || path.find_first_of("? \r\n") != std::string::npos)
        throw std::invalid_argument("AdminPort::reactor_page: '" + path + "' is not a path");
    if (!function) throw std::invalid_argument("AdminPort::reactor_page: the function is empty");
    Page page;
    page.reactor_function = std::move(function);
    pages_.insert_or_assign(std::move(path), std::move(page));
}

void AdminPort::Core::add_check(std::string name, std::function<std::expected<void, std::string>()> function) {
    check_not_started("check");
    if (!function) throw std::invalid_argument("AdminPort::check: the function is empty");
    checks_.push_back({std::move(name), std::move(function)});
}

std::shared_ptr<WatchedServer> AdminPort::Core::add_server(std::string name) {
    auto server = std::make_shared<WatchedServer>();
    server->name = std::move(name);
    const std::lock_guard lock(mutex_);
    servers_.push_back(server);
    return server;
}

void AdminPort::Core::add_reactor(Reactor& reactor, std::string name, const WatchedServer* server) {
    auto watched = std::make_shared<WatchedReactor>();
    watched->id = reactor.id();
    watched->server = std::move(name);
    watched->owner = server;
    watched->inbox = reactor.inbox();
    watched->metrics = reactor.metrics();
    const std::lock_guard lock(mutex_);
    // They start in any order, and are shown in one.
    const auto before = [](const auto& one, const auto& other) {
        return one->server != other->server ? one->server < other->server : one->id < other->id;
    };
    reactors_.insert(std::upper_bound(reactors_.begin(), reactors_.end(), watched, before), watched);
}

void AdminPort::Core::add_metrics(std::shared_ptr<MetricRegistry> metrics) {
    if (metrics == nullptr) throw std::invalid_argument("AdminPort::watch: there are no metrics");
    const std::lock_guard lock(mutex_);
    metrics_.push_back(std::move(metrics));
}

// Those whose reactor is not there any more are forgotten: nobody else has their metrics, which the reactor had.
std::vector<std::shared_ptr<WatchedReactor>> AdminPort::Core::reactors() {
    const std::lock_guard lock(mutex_);
    std::erase_if(reactors_, [](const auto& reactor) { return reactor->metrics.use_count() == 1; });
    return reactors_;
}

// ---- starting and ending ----

void AdminPort::Core::start() {
    check_not_started("start");
    ListenSocketOptions socket;
    socket.address = address_;
    socket.reuse_port = false;
    socket.unix_mode = options_.unix_mode;
    const auto descriptor = open_listen_socket(kernel_, socket);
    if (!descriptor) throw StartError("admin port: " + descriptor.error().message, descriptor.error().code);
    started_ = true;
    bool taken = false;  // the thread closes it
    try {
        const auto bound = local_address(kernel_, *descriptor);
        if (!bound) throw StartError("admin port: getsockname: " + bound.error().message(), bound.error());
        ReactorOptions reactor;
        reactor.submission_entries = ring_entries;
        reactor.mailbox_limit = mailbox_entries;
        reactor.memory_limit = memory_limit;
        reactor.offload_threads = 1;
        reactor_ = std::make_unique<Reactor>(own_reactor, reactor, kernel_);
        address_ = *bound;
        const SignalsLeftToOthers left(kernel_);
        thread_ = kernel_.start_thread("admin", [this, number = *descriptor] { run(number); });
        taken = true;
        wait_until_it_runs();
    } catch (...) {
        if (thread_ != nullptr) thread_->join();
        thread_.reset();
        reactor_.reset();
        if (!taken) kernel_.close(*descriptor);
        try {
            throw;
        } catch (const StartError&) {
            throw;
        } catch (const std::system_error& failure) {
            throw StartError(std::string("admin port: ") + failure.what(), failure.code());
        } catch (const std::exception& failure) {
            throw StartError(std::string("admin port: ") + failure.what(), {});
        }
    }
}

void AdminPort::Core::run(int descriptor) noexcept {
    bool listens = false;
    reactor_->on_start([&](Reactor& started) {
        auto& network = started.add_service<Network>(started, network_options(options_));
        network.listen(descriptor, [this](Connection connection) { return serve(std::move(connection)); });
        listens = true;
        tell(running);
    });
    try {
        reactor_->run();
    } catch (...) {
        failure_ = std::current_exception();
        if (listens) reactor_->fault(failure_);
    }
    if (listens) return;
    kernel_.close(descriptor);
    tell(failed);
}

void AdminPort::Core::tell(std::uint32_t state) noexcept {
    state_.store(state, std::memory_order_release);
    kernel_.futex_wake(state_, 1);
}

void AdminPort::Core::wait_until_it_runs() {
    while (state_.load(std::memory_order_acquire) == starting) kernel_.futex_wait(state_, starting);
    if (state_.load(std::memory_order_acquire) == failed && failure_) std::rethrow_exception(failure_);
}

void AdminPort::Core::stop() noexcept {
    if (thread_ == nullptr) return;
    // Who has asked is not told: the reactor ends its connections.
    reactor_->stop();
    thread_->join();
    thread_.reset();
    reactor_.reset();
    if (address_.unix_path()) remove_stale_unix_file(kernel_, address_);
}

Address AdminPort::Core::address() const {
    return address_;
}

}  // namespace ferrule::inline v0
