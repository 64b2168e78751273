#pragma once

#include <ferrule/net/resolver.hpp>
#include <ferrule/reactor/timer_heap.hpp>
#include <ferrule/task/cancel.hpp>
#include <ferrule/task/environment.hpp>

#include "net/dns_cache.hpp"
#include "net/dns_exchange.hpp"
#include "net/dns_message.hpp"
#include "net/host_files.hpp"

#include <array>
#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace ferrule::inline v0 {

/// A server that questions go to, and what was learned about it.
struct DnsServer {
    Address address;
    std::uint64_t silent_until_ns = 0;  ///< it did not answer: until then others are asked first
    unsigned extension_losses = 0;      ///< times in a row that it answered only without an option record
};

/// What a resolver is made of. A question (one name, one type) is a Lookup, which a task of its own puts to the
/// servers; whoever wants its answer waits for it by a Wait, and may leave at any time.
struct Resolver::State {
    using Result = std::expected<ResolvedName, ResolveError>;
    using Answer = std::shared_ptr<const DnsAnswer>;

    /// How to ask now: the options over the file. Lookups keep those that they began with.
    struct Settings {
        std::vector<DnsServer> servers;
        std::vector<DnsName> search;
        unsigned dots = 1;
        std::chrono::milliseconds timeout{5000};
        unsigned attempts = 2;
        bool rotate = false;
        bool use_tcp = false;
        bool wants_ipv4 = true;
        bool wants_ipv6 = true;
        bool may_reload = true;
        std::vector<std::string> notes;
    };

    struct Lookup;

    /// One coroutine that waits for the lookups of one name. A local of it, pinned.
    class Wait : public Timer, public CancelNode {
    public:
        static constexpr std::size_t lookups_max = 2;

        explicit Wait(State& state) noexcept;
        Wait(const Wait&) = delete;
        Wait& operator=(const Wait&) = delete;
        ~Wait();

        /// Another answer to wait for.
        void add(std::shared_ptr<Lookup> lookup);

        [[nodiscard]] bool await_ready() const noexcept;
        template <class Promise>
        void await_suspend(std::coroutine_handle<Promise> handle) {
            suspend(handle, environment_of(handle));
        }
        /// The answers are there, or those that came in time; or it was cancelled.
        void await_resume() noexcept { stage_ = Stage::idle; }

        /// `none`: it was not cancelled.
        [[nodiscard]] CancelReason cancelled() const noexcept { return cancelled_; }
        /// Null: it did not come in time.
        [[nodiscard]] Answer answer(std::size_t index) const noexcept;
        [[nodiscard]] std::size_t size() const noexcept { return count_; }

        void on_answer() noexcept;
        /// The other family has not answered in time.
        void on_timer() noexcept { wake(); }

    private:
        enum class Stage : std::uint8_t { idle, waiting, queued };
        void suspend(std::coroutine_handle<> handle, Environment* environment);
        void wake() noexcept;
        [[nodiscard]] bool complete() const noexcept;
        [[nodiscard]] bool has_addresses() const noexcept;
        static void on_cancel(CancelNode& node, CancelReason reason) noexcept;

        State& state_;
        std::coroutine_handle<> waiter_;
        std::array<std::shared_ptr<Lookup>, lookups_max> lookups_;
        std::size_t count_ = 0;
        CancelReason cancelled_ = CancelReason::none;
        Stage stage_ = Stage::idle;
    };

    struct Lookup {
        std::string key;
        DnsQuestion question;
        Answer answer;  ///< null: in flight
        std::vector<Wait*> waits;
        std::unique_ptr<DnsExchange> exchange;  ///< while it is in flight
    };

    /// What is to be done about a name: its answer, or the names that are to be asked for, one after the other.
    struct Plan {
        std::optional<Result> result;
        std::vector<DnsName> names;
        bool by_system = false;
    };

    State(Reactor& owner, ResolverOptions what);

    // Names: resolver.cpp.
    [[nodiscard]] Plan plan(const std::string& name);
    [[nodiscard]] Task<Result> resolve(std::string name);
    [[nodiscard]] Task<Result> resolve_names(const std::string& name, Plan& planned);
    [[nodiscard]] Result settle(const std::string& name, const Wait& wait);
    [[nodiscard]] Result found(std::vector<Address> addresses, std::chrono::seconds ttl);
    [[nodiscard]] bool has_route(const Address& address);
    [[nodiscard]] bool wants(const Address& address) const noexcept;

    // Files: resolver_files.cpp.
    void look_at_files();
    bool read_file(const std::string& path, std::string& text);
    void make_settings();

    // Questions: resolver_asking.cpp.
    [[nodiscard]] std::shared_ptr<Lookup> ask(const DnsName& name, DnsType type);
    [[nodiscard]] std::shared_ptr<Lookup> ask_system(const std::string& name);
    [[nodiscard]] std::shared_ptr<Lookup> known(const std::string& key);
    void begin(const std::shared_ptr<Lookup>& lookup, Task<Answer> asking);
    [[nodiscard]] static Task<> run(State* state, std::shared_ptr<Lookup> lookup, Task<Answer> asking);
    void finish(Lookup& lookup, Answer answer) noexcept;
    [[nodiscard]] Task<Answer> ask_servers(std::shared_ptr<Lookup> lookup, std::shared_ptr<Settings> asked);
    [[nodiscard]] Task<Answer> ask_library(std::string name);
    [[nodiscard]] std::vector<std::size_t> order_of_servers(const Settings& asked);
    [[nodiscard]] bool take_random(std::span<std::byte> out) noexcept;
    [[nodiscard]] bool prepare_query(Lookup& lookup, bool extended, bool by_tcp) noexcept;
    [[nodiscard]] Answer make_answer(const Lookup& lookup, const DnsServer& server, const DnsReply& reply);
    [[nodiscard]] static Answer make_failure(ResolveErrc code, std::string detail, std::uint64_t expires_ns = 0);

    static constexpr std::size_t random_bytes = 512;

    Reactor& reactor;
    ResolverOptions options;
    ResolverCounters counters;
    MetricRegistration counters_registered;
    DnsCache cache;
    std::shared_ptr<Settings> settings;
    HostTable hosts;
    std::string resolv_conf_text;
    std::string hosts_text;
    std::uint64_t next_look_ns = 0;
    std::unordered_map<std::string, std::shared_ptr<Lookup>> pending;
    std::size_t next_server = 0;
    std::array<std::byte, random_bytes> random{};
    std::size_t random_left = 0;
    Answer out_of_memory;  ///< made beforehand
    std::uint8_t timer_route = 0;
};

}  // namespace ferrule::inline v0
