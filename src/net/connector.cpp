#include <ferrule/net/listen_socket.hpp>
#include <ferrule/reactor/tag.hpp>
#include <ferrule/ring/error.hpp>
#include <ferrule/ring/prepare.hpp>

#include "net/connector.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <limits>
#include <new>
#include <utility>

namespace ferrule::inline v0 {

namespace {

/// RFC 8305, section 5: "MUST NOT be less than 10 milliseconds".
constexpr std::chrono::milliseconds attempt_delay_min{10};

std::uint64_t nanoseconds_of(std::chrono::nanoseconds time) noexcept {
    return static_cast<std::uint64_t>(time.count());
}

bool is_internet(const Address& address) noexcept {
    return address.family() == AddressFamily::ipv4 || address.family() == AddressFamily::ipv6;
}

/// Marks the failures that name the local address, too.
constexpr const char* bind_operation = "bind ";

/// What a wait that was cancelled for the reason ends with.
int error_of(CancelReason reason) noexcept {
    return reason == CancelReason::deadline ? ETIMEDOUT : ECANCELED;
}

}  // namespace

// ---- the race ----

ConnectRace::ConnectRace(Connector& connector, std::span<const Address> addresses, const ConnectOptions& options,
                         std::uint64_t due_ns)
    : CancelNode(&ConnectRace::on_cancelled),
      connector_(&connector),
      addresses_(addresses),
      options_(&options),
      due_ns_(due_ns) {
    Timer::route = connector.timer_route_;
    ConnectAttempt** last = &first_;
    for (const Address& address : addresses) {
        ConnectAttempt* attempt = connector.take(address);
        if (attempt == nullptr) {
            refusal_ = ENOBUFS;
            break;
        }
        attempt->race = this;
        *last = attempt;
        last = &attempt->next;
    }
    untried_ = first_;
}

ConnectRace::~ConnectRace() {
    if (waiter_ && !finished_) finish();
    if (queued_) connector_->reactor().forget(waiter_);
    while (first_ != nullptr) connector_->let_go(*std::exchange(first_, first_->next));
}

bool ConnectRace::begin(std::coroutine_handle<> handle, Environment* environment) noexcept {
    Reactor& reactor = connector_->reactor();
    // A task that visits another reactor is cancelled when it comes home: its scope is not this thread's to touch.
    CancelScope* scope = environment != nullptr && environment->host == &reactor && environment->scope != nullptr
                             ? environment->scope
                             : reactor.root_environment.scope;
    if (refusal_ == 0 && !scope->add(*this)) refusal_ = error_of(scope->reason());
    if (refusal_ != 0) {
        finished_ = true;
        return false;
    }
    go_on();
    if (finished_) return false;
    waiter_ = handle;
    return true;
}

void ConnectRace::go_on() noexcept {
    next_ns_ = TimerHeap::never;
    while (untried_ != nullptr) {
        ConnectAttempt& attempt = *std::exchange(untried_, untried_->next);
        if (!connector_->start(attempt, *options_)) continue;
        ++connecting_;
        if (untried_ != nullptr) {
            next_ns_ =
                connector_->reactor().now_ns() + nanoseconds_of(std::max(options_->attempt_delay, attempt_delay_min));
        }
        break;
    }
    if (connecting_ == 0) {
        finish();
    } else {
        arm_timer();
    }
}

void ConnectRace::arm_timer() noexcept {
    TimerHeap& timers = connector_->reactor().timers();
    const std::uint64_t due = std::min(due_ns_, next_ns_);
    if (due == TimerHeap::never) {
        timers.disarm(*this);
        return;
    }
    try {
        timers.arm(*this, due);
    } catch (const std::bad_alloc&) {
        refusal_ = ENOMEM;
        finish();
    }
}

void ConnectRace::finish() noexcept {
    finished_ = true;
    Reactor& reactor = connector_->reactor();
    reactor.timers().disarm(*this);
    CancelScope::remove(*this);
    for (ConnectAttempt* attempt = first_; attempt != nullptr; attempt = attempt->next) {
        if (attempt->stage != ConnectAttempt::Stage::connecting) continue;
        attempt->stage = ConnectAttempt::Stage::abandoned;
        connector_->cancel(*attempt);
    }
    connecting_ = 0;
}

void ConnectRace::on_attempt(ConnectAttempt& attempt, int result) noexcept {
    --connecting_;
    if (result < 0) {
        attempt.stage = ConnectAttempt::Stage::failed;
        attempt.error = -result;
        // Whoever else is under way goes on, and the next need not wait any longer.
        if (untried_ != nullptr) {
            go_on();
        } else if (connecting_ == 0) {
            finish();
        }
    } else {
        attempt.stage = ConnectAttempt::Stage::connected;
        winner_ = &attempt;
        finish();
    }
    if (finished_) connector_->reactor().resume(std::exchange(waiter_, nullptr));
}

void ConnectRace::on_time() noexcept {
    if (connector_->reactor().now_ns() >= due_ns_) {
        finish();
    } else {
        go_on();
    }
    if (finished_) connector_->reactor().resume(std::exchange(waiter_, nullptr));
}

void ConnectRace::on_cancelled(CancelNode& node, CancelReason reason) noexcept {
    auto& race = static_cast<ConnectRace&>(node);
    race.refusal_ = error_of(reason);
    race.finish();
    race.queued_ = true;
    race.connector_->reactor().resume_later(race.waiter_);
}

int ConnectRace::await_resume() noexcept {
    queued_ = false;
    waiter_ = nullptr;
    return winner_ != nullptr ? std::exchange(winner_->descriptor, -1) : -1;
}

ConnectError ConnectRace::error() const {
    const auto connect_to = [](const Address& address) { return "connect to " + address.to_string() + ": "; };
    std::string message;
    if (refusal_ != 0) {
        const std::error_code code = system_error(refusal_);
        for (const Address& address : addresses_) {
            message += (message.empty() ? "" : "; ") + connect_to(address) + code.message();
        }
        return {code, message};
    }
    for (const ConnectAttempt* attempt = first_; attempt != nullptr; attempt = attempt->next) {
        if (!message.empty()) message += "; ";
        if (attempt->stage == ConnectAttempt::Stage::untried) {
            message += connect_to(attempt->address) + "not tried in time";
        } else if (attempt->stage == ConnectAttempt::Stage::abandoned) {
            message +=
                connect_to(attempt->address) + "no answer within " + std::to_string(options_->timeout.count()) + " ms";
        } else {
            message += attempt->operation;
            // Only here is it the other address that something is wrong with.
            if (attempt->operation == bind_operation) message += options_->local->to_string() + " to ";
            message += attempt->address.to_string() + ": " + system_error(attempt->error).message();
        }
    }
    return {system_error(first_->stage == ConnectAttempt::Stage::failed ? first_->error : ETIMEDOUT), message};
}

// ---- the attempts ----

Connector::Connector(Reactor& reactor) : reactor_(&reactor) {
    kind_ = reactor.add_completion_route(this, [](void* owner, const abi::Completion& completion) noexcept {
        static_cast<Connector*>(owner)->on_completion(completion);
    });
    cancel_kind_ = reactor.add_completion_route(this, [](void* owner, const abi::Completion& completion) noexcept {
        static_cast<Connector*>(owner)->on_cancel_completion(completion);
    });
    timer_route_ =
        reactor.add_timer_route(this, [](void*, Timer& timer) noexcept { static_cast<ConnectRace&>(timer).on_time(); });
    reactor.add_subsystem(*this);
}

Connector::~Connector() {
    reactor_->remove_subsystem(*this);
    for (std::uint32_t index = 0; index < attempts_.size() * attempts_per_chunk; ++index) {
        if (const int descriptor = at(index).descriptor; descriptor >= 0) reactor_->kernel().close(descriptor);
    }
}

Connector& Connector::of(Reactor& reactor) {
    if (Connector* connector = reactor.find_service<Connector>()) return *connector;
    return reactor.add_service<Connector>(reactor);
}

ConnectAttempt* Connector::take(const Address& address) {
    if (live_ >= reactor_->options().operation_limit) return nullptr;
    if (free_ == nullptr) {
        const auto count = static_cast<std::uint32_t>(attempts_.size()) * attempts_per_chunk;
        attempts_.push_back(std::make_unique<ConnectAttempt[]>(attempts_per_chunk));
        for (std::uint32_t offset = attempts_per_chunk; offset-- > 0;) {
            ConnectAttempt& fresh = attempts_.back()[offset];
            fresh.index = count + offset;
            fresh.next = std::exchange(free_, &fresh);
        }
    }
    ConnectAttempt& attempt = *free_;
    free_ = std::exchange(attempt.next, nullptr);
    attempt.address = address;
    ++live_;
    return &attempt;
}

void Connector::let_go(ConnectAttempt& attempt) noexcept {
    attempt.race = nullptr;
    if (!attempt.in_kernel) free(attempt);
}

void Connector::free(ConnectAttempt& attempt) noexcept {
    close_socket(attempt);
    attempt.stage = ConnectAttempt::Stage::untried;
    attempt.generation = (attempt.generation + 1) & Tag::generation_mask;
    attempt.next = std::exchange(free_, &attempt);
    --live_;
}

void Connector::close_socket(ConnectAttempt& attempt) noexcept {
    if (const int descriptor = std::exchange(attempt.descriptor, -1); descriptor >= 0) {
        reactor_->kernel().close(descriptor);
    }
}

bool Connector::start(ConnectAttempt& attempt, const ConnectOptions& options) noexcept {
    attempt.stage = ConnectAttempt::Stage::failed;
    attempt.error = open_socket(attempt, options);
    if (attempt.error != 0) {
        close_socket(attempt);
        return false;
    }
    attempt.operation = "connect to ";
    attempt.stage = ConnectAttempt::Stage::connecting;
    submit(attempt, false);
    return true;
}

int Connector::open_socket(ConnectAttempt& attempt, const ConnectOptions& options) noexcept {
    Kernel& kernel = reactor_->kernel();
    const Address& address = attempt.address;
    attempt.operation = "open a socket for ";
    if (address.family() == AddressFamily::none) return EAFNOSUPPORT;
    const int descriptor = kernel.socket(address.data()->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) return -descriptor;
    attempt.descriptor = descriptor;
    const bool asks_peer = options.keepalive_idle.count() > 0;
    const bool binds = options.local.has_value();
    if (is_internet(address)) {
        struct Option {
            const char* operation;
            bool wanted;
            int level;
            int name;
            std::int64_t value;
        };
        const Option wanted[] = {
            {"TCP_NODELAY for ", options.no_delay, IPPROTO_TCP, TCP_NODELAY, 1},
            {"TCP_KEEPIDLE for ", asks_peer, IPPROTO_TCP, TCP_KEEPIDLE, options.keepalive_idle.count()},
            {"TCP_KEEPINTVL for ", asks_peer, IPPROTO_TCP, TCP_KEEPINTVL, options.keepalive_interval.count()},
            {"TCP_KEEPCNT for ", asks_peer, IPPROTO_TCP, TCP_KEEPCNT, options.keepalive_count},
            {"SO_KEEPALIVE for ", asks_peer, SOL_SOCKET, SO_KEEPALIVE, 1},
            {"TCP_USER_TIMEOUT for ", options.user_timeout.count() > 0, IPPROTO_TCP, TCP_USER_TIMEOUT,
             options.user_timeout.count()},
            {"IP_BIND_ADDRESS_NO_PORT for ", binds && options.local->port() == 0, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT,
             1},
        };
        for (const Option& option : wanted) {
            if (!option.wanted) continue;
            attempt.operation = option.operation;
            const int value = static_cast<int>(std::min<std::int64_t>(option.value, std::numeric_limits<int>::max()));
            if (const int result = kernel.set_option(descriptor, option.level, option.name, &value, sizeof value);
                result < 0) {
                return -result;
            }
        }
    }
    if (binds) {
        attempt.operation = bind_operation;
        if (options.local->family() != address.family()) return EAFNOSUPPORT;
        if (const int result = kernel.bind(descriptor, options.local->data(), options.local->size()); result < 0) {
            return -result;
        }
    }
    return 0;
}

void Connector::submit(ConnectAttempt& attempt, bool poll) noexcept {
    abi::SubmissionEntry& entry = reactor_->ring().entry();
    if (poll) {
        prepare::poll_add(entry, attempt.descriptor, POLLOUT);
    } else {
        prepare::connect(entry, attempt.descriptor, attempt.address.data(), attempt.address.size());
    }
    entry.user_data = Tag{kind_, attempt.generation, attempt.index}.encode();
    attempt.polling = poll;
    attempt.in_kernel = true;
    ++in_kernel_;
}

void Connector::cancel(ConnectAttempt& attempt) noexcept {
    abi::SubmissionEntry& entry = reactor_->ring().entry();
    prepare::cancel(entry, Tag{kind_, attempt.generation, attempt.index}.encode(), 0);
    entry.flags |= abi::entry_completion_skip_success;
    entry.user_data = Tag{cancel_kind_, attempt.generation, attempt.index}.encode();
}

// The system may give the socket the very port that it connects to, when nobody listens there; TCP then connects it to
// itself (RFC 9293, section 3.5: simultaneous initiation).
bool Connector::connected_to_itself(const ConnectAttempt& attempt) noexcept {
    if (!is_internet(attempt.address)) return false;
    const auto own = local_address(reactor_->kernel(), attempt.descriptor);
    return own && *own == attempt.address;
}

ConnectAttempt* Connector::find(Tag tag) noexcept {
    if (tag.slot >= attempts_.size() * attempts_per_chunk) return nullptr;
    ConnectAttempt& attempt = at(tag.slot);
    return attempt.generation == tag.generation && attempt.in_kernel ? &attempt : nullptr;
}

// A connect to a Unix listener whose backlog is full is on its way to a thread of the kernel's for some passes, and is
// not found then; it would wait there for ever.
void Connector::on_cancel_completion(const abi::Completion& completion) noexcept {
    ConnectAttempt* attempt = find(Tag::decode(completion.user_data));
    if (attempt != nullptr && completion.result == -ENOENT) cancel(*attempt);
}

void Connector::on_completion(const abi::Completion& completion) noexcept {
    ConnectAttempt* found = find(Tag::decode(completion.user_data));
    if (found == nullptr) return;
    ConnectAttempt& attempt = *found;
    attempt.in_kernel = false;
    --in_kernel_;
    if (attempt.race == nullptr) {
        free(attempt);
        return;
    }
    if (attempt.stage != ConnectAttempt::Stage::connecting) {
        close_socket(attempt);
        return;
    }
    int result = completion.result;
    if (attempt.polling && result >= 0) {
        // Asking again gives the outcome.
        submit(attempt, false);
        return;
    }
    switch (-result) {
        case EINTR:
            submit(attempt, false);
            return;
        case EINPROGRESS:
        case EALREADY:
            // An interrupted TCP connect goes on by itself.
            submit(attempt, true);
            return;
        case EISCONN:
            result = 0;
            break;
        default:
            break;
    }
    if (result >= 0 && connected_to_itself(attempt)) result = -ECONNREFUSED;
    if (result < 0) close_socket(attempt);
    attempt.race->on_attempt(attempt, result);
}

void Connector::shutdown() noexcept {
    for (std::uint32_t index = 0; index < attempts_.size() * attempts_per_chunk; ++index) {
        if (at(index).in_kernel) cancel(at(index));
    }
}

}  // namespace ferrule::inline v0
