#pragma once

#include <ferrule/net/address_limiter.hpp>
#include <ferrule/net/connection.hpp>
#include <ferrule/net/connection_state.hpp>
#include <ferrule/net/lease.hpp>
#include <ferrule/net/listen_socket.hpp>
#include <ferrule/net/port_group.hpp>
#include <ferrule/net/proxy_options.hpp>
#include <ferrule/net/slab_pool.hpp>
#include <ferrule/reactor/counters.hpp>
#include <ferrule/reactor/metric_registry.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/reactor/subsystem.hpp>
#include <ferrule/ring/buffer_ring.hpp>
#include <ferrule/task/cancel.hpp>
#include <ferrule/task/task.hpp>

#include <sys/uio.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <expected>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace ferrule::inline v0 {

/// What is done about input that a peer may still send when a connection is closed. Closing a descriptor with unread
/// input makes the kernel reset the connection, and the reset can destroy an answer that the peer has not read yet.
enum class Linger : std::uint8_t {
    /// Wait for the peer's FIN when input is known to be unread, when the connection has been read from more than once,
    /// and in a drain; close at once when all that had come was read. What nginx does, and the cheapest for a
    /// connection per request.
    adaptive,
    /// Always wait for the peer's FIN.
    always,
};

/// Whose buffers the kernel receives into. Where it has no incremental buffers (before 6.12), any of them is `shared`.
enum class BufferMode : std::uint8_t {
    /// All connections of a reactor take from one ring, and each piece that comes takes a whole buffer. An idle
    /// connection has none.
    shared,
    /// The same ring, but small pieces share a buffer, also those of different connections.
    shared_incremental,
    /// Each connection has a small ring of its own, whose pieces follow each other in memory: for connections that send
    /// small pieces of large messages, and where one must not feel how many buffers the others hold. It costs
    /// connection_buffer_count x connection_buffer_size bytes in each connection's account, idle or not. A connection
    /// beyond the 32768th, and one for whose ring there is no room (in its account, the reactor's, or in locked
    /// memory),
    /// takes from the shared ring, and `connection_ring_refusals` counts it.
    per_connection_incremental,
};

/// What becomes of a write that finds its block full.
enum class WriteOverflow : std::uint8_t {
    /// A larger block, twice the size, into which what is there is copied. One plain send; the cheapest for answers
    /// that rarely outgrow the first block.
    grow,
    /// Another block of at most 64 KiB behind it: nothing is copied twice, no large blocks are needed, and one vectored
    /// send takes all of them.
    segmented,
    /// As segmented, and a write that finds no room (NetworkOptions::write_limit, connection_memory_limit) is refused
    /// without any harm: nothing of it is kept, nothing fails, the stream has no gap. `co_await flush()`, then write it
    /// again. See Connection::writable. Only a write that has no room although nothing waits before it is an error, as
    /// elsewhere.
    back_pressure,
};

/// What becomes of a new connection where there are too many just now.
enum class Excess : std::uint8_t {
    /// It waits in the listener's backlog, until it is its turn or the peer loses patience; where the backlog is full,
    /// the system does not answer its handshake.
    wait,
    /// It is accepted and reset at once: the peer knows, and may try elsewhere.
    refuse,
};

/// How a reactor treats its connections. Every field has a sane default; times of zero mean: no such limit.
struct NetworkOptions {
    std::uint32_t receive_buffer_count =
        1024;  ///< buffers shared by all connections of the reactor; a power of two, at most 32768
    std::uint32_t receive_buffer_size = 2048;     ///< bytes of each
    BufferMode buffer_mode = BufferMode::shared;  ///< whose buffers the kernel receives into
    std::uint32_t connection_buffer_count = 16;   ///< buffers of a connection's own ring; a power of two
    std::uint32_t connection_buffer_size = 4096;  ///< bytes of each
    std::uint32_t receive_lease_limit = 32;  ///< slices that a connection may hold before it is no longer read from
    std::uint32_t receive_limit =
        1u << 20;  ///< received bytes that a connection may hold, carry included; then a read ends with `limit`
    std::uint32_t write_slab_size = 960;                 ///< first block for written bytes
    std::uint32_t write_limit = 16u << 20;               ///< written bytes that may wait; then `write` refuses
    WriteOverflow write_overflow = WriteOverflow::grow;  ///< what becomes of a write that finds its block full
    std::uint32_t file_copy_limit = 32u << 10;  ///< `send_file` of so many bytes reads them behind what was written
    /// Bytes of one connection in one account: received slices, carried, privately received and written data in
    /// blocks, and its handler's frames (Connection::memory_bytes). At the bound `write` refuses, and a read ends with
    /// `limit`, or, while bytes are being sent, waits until that is over.
    std::uint64_t connection_memory_limit = 64ull << 20;
    std::uint64_t memory_limit =
        1ull << 30;  ///< bytes of written, carried and privately received data of all connections
    std::uint64_t memory_kept = 4ull << 20;  ///< bytes kept for reuse
    /// Bytes of the blocks that are armed for streams at a time: a connection that is sent more than its buffers take
    /// is received from in large pieces, until it is not. Beyond that, streams share the buffers. 0: always.
    std::uint64_t stream_memory = 8ull << 20;
    std::uint32_t connection_limit = 1u << 20;  ///< connections at a time; accepting stops there and goes on below
    std::uint32_t waiting_limit = 1024;  ///< accepted or adopted beyond that, waiting their turn; more are closed
    std::chrono::milliseconds idle_timeout{60'000};   ///< a read that waits for a message to begin
    std::chrono::milliseconds read_timeout{60'000};   ///< from the first bytes of a message that is carried to its last
    std::chrono::milliseconds write_timeout{60'000};  ///< the kernel taking no more bytes because the peer does not
    std::chrono::milliseconds linger_timeout{2'000};  ///< waiting for the peer's FIN after ours; zero: not at all
    Linger linger = Linger::adaptive;
    /// From the beginning of a drain, how long connections are idle without being ended for it: a client that has just
    /// been answered asks once more, and hears by the protocol's own words (Connection::draining) that it should go.
    /// Zero: one that is idle ends at once, and a request that crosses its FIN stays unanswered.
    std::chrono::milliseconds drain_grace{0};
    /// What the receive buffers, and the blocks of written, carried and privately received bytes, lie on. Where the
    /// system has none it does as for `off`; `huge_pages()` tells of the buffers.
    HugePages huge_pages = HugePages::off;

    // Against hostile and slow peers: what is off costs nothing. What each peer sees is in docs/operations.md.

    /// From the first time that a new connection is waited for to its first byte; `idle_timeout` bounds it, too.
    std::chrono::milliseconds first_byte_timeout{0};
    /// Bytes per second that a peer must send while a message has begun (something is carried, or
    /// Connection::begin_message says so) and a read waits for more of it, as an average of `rate_window` of such
    /// waiting. 0: no least rate. Idle connections, between messages, are not concerned.
    std::uint32_t receive_rate_min = 0;
    /// Bytes per second that a peer must acknowledge while a send waits for it, as an average of `rate_window` of such
    /// waiting. 0: no least rate. TCP only. A connection with nothing to send is not concerned.
    std::uint32_t send_rate_min = 0;
    std::chrono::milliseconds rate_window{10'000};  ///< of the two above
    /// Connections of one client at a time; more are reset. Of the clients of proxies where there is a PROXY header.
    AddressLimits address_limits{};
    /// Counts them, for several networks together; it outlives them. Null: the network counts for itself, by
    /// `address_limits`. Server has one for all its reactors.
    AddressLimiter* address_limiter = nullptr;
    std::uint32_t accept_rate = 0;        ///< connections per second of each listening socket; 0: no limit
    std::uint32_t accept_burst = 100;     ///< so many of them may come at once
    Excess accept_excess = Excess::wait;  ///< what becomes of the others
    /// A pass of the loop that takes so long is slow: what is ready waits as long. A reactor is overloaded when its
    /// slow passes have taken `overload_interval` more than the others and its sleep, of which one counts for half at
    /// most; until those have made up for it. Meanwhile half of this is slow. 0: it never is.
    std::chrono::milliseconds overload_latency{0};
    std::chrono::milliseconds overload_interval{100};  ///< see above
    Excess overload_excess = Excess::wait;             ///< what becomes of new connections meanwhile
};

/// What a network counts. Any thread may read.
struct NetworkCounters {
    Counter accepted;          ///< connections taken from listeners
    Counter adopted;           ///< connections handed over by another reactor, or by `adopt`
    Counter closed;            ///< connections whose slot was freed
    Counter connections;       ///< slots in use now
    Counter bytes_received;    ///< delivered to connections
    Counter bytes_sent;        ///< taken by the kernel
    Counter sends;             ///< sends that the kernel took at once
    Counter slow_sends;        ///< sends that had to wait for room
    Counter starvations;       ///< receives that found no buffer
    Counter private_receives;  ///< receives into private memory because of that
    Counter connection_rings;  ///< buffer rings of connections' own that there are now, in use or kept for the next
    Counter connection_ring_refusals;  ///< connections that got none and share the reactor's
    Counter pauses;                    ///< times that a connection was no longer read from because it held too much
    Counter accept_errors;             ///< accepts that failed
    Counter accept_backoffs;           ///< times that accepting waited because descriptors or memory were short
    Counter refused;              ///< connections that were closed because `waiting_limit` others waited for their turn
    Counter timeouts;             ///< connections that a timeout ended
    Counter resets;               ///< connections that the peer reset
    Counter stale_completions;    ///< completions whose slot had moved on
    Counter leases;               ///< slices that are queued, carried or leased now
    Counter open;                 ///< of the slots in use, those whose connection somebody holds
    Counter closing;              ///< of the slots in use, those whose connection is on its way out
    Counter waiting;              ///< accepted or adopted beyond the limit, waiting their turn now
    Counter listeners;            ///< sockets that listen now
    Counter memory_used;          ///< bytes of written, carried and privately received data
    Counter memory_kept;          ///< bytes of such memory that are kept for reuse
    Counter first_byte_timeouts;  ///< of `timeouts`: connections whose first byte did not come in time
    Counter slow_senders;         ///< of `timeouts`: peers that sent less than `receive_rate_min`
    Counter slow_receivers;       ///< of `timeouts`: peers that took less than `send_rate_min`
    Counter address_refusals;     ///< connections that were reset because their client had as many as it may
    Counter address_overflows;    ///< connections that were not counted because the table of clients was full
    Counter accept_throttles;     ///< times that accepting waited because of `accept_rate`
    Counter accept_refusals;      ///< connections that were reset because of it
    Counter overloads;            ///< times that the reactor became overloaded
    Counter overloaded;           ///< 1 while it is
    Counter shed;                 ///< connections that were reset because of it
    Counter proxied;              ///< connections whose PROXY header was read
    Counter proxy_errors;         ///< connections without a right one, which were reset
    Counter proxy_timeouts;       ///< of `timeouts`: connections whose header did not come in time
    Counter proxy_strangers;      ///< connections that were reset because their source is not ProxyOptions::sources'

    /// What they are called outside.
    static constexpr auto metrics() {
        using Row = MetricOf<NetworkCounters>;
        using Its = NetworkCounters;
        constexpr auto none = MetricUnit::none;
        constexpr auto bytes = MetricUnit::bytes;
        constexpr std::string_view by_state = "Connections, by what becomes of them.";
        constexpr std::string_view by_reason = "Connections that were ended without being served, by the reason.";
        constexpr std::string_view of_slow = "Of the timeouts, those by which peers are kept from being slow.";
        constexpr std::string_view of_sends = "Sends, by whether the kernel took them at once.";
        return std::array{
            Row{&Its::open, {"ferrule_connections", by_state, none, {"state", "open"}}},
            Row{&Its::closing, {"ferrule_connections", by_state, none, {"state", "closing"}}},
            Row{&Its::waiting, {"ferrule_connections", by_state, none, {"state", "waiting"}}},
            Row{&Its::connections, {"ferrule_connection_slots", "Places in the table of connections in use."}},
            Row{&Its::listeners, {"ferrule_listeners", "Sockets that listen."}},
            Row{&Its::accepted, {"ferrule_connections_accepted_total", "Connections taken from listeners."}},
            Row{&Its::adopted,
                {"ferrule_connections_adopted_total", "Connections that another reactor or the program brought."}},
            Row{&Its::closed, {"ferrule_connections_closed_total", "Connections that have ended altogether."}},
            Row{&Its::refused, {"ferrule_connections_refused_total", by_reason, none, {"reason", "waiting_limit"}}},
            Row{&Its::address_refusals,
                {"ferrule_connections_refused_total", by_reason, none, {"reason", "address_limit"}}},
            Row{&Its::accept_refusals,
                {"ferrule_connections_refused_total", by_reason, none, {"reason", "accept_rate"}}},
            Row{&Its::shed, {"ferrule_connections_refused_total", by_reason, none, {"reason", "overload"}}},
            Row{&Its::proxy_errors, {"ferrule_connections_refused_total", by_reason, none, {"reason", "proxy_header"}}},
            Row{&Its::proxy_strangers,
                {"ferrule_connections_refused_total", by_reason, none, {"reason", "proxy_source"}}},
            Row{&Its::address_overflows,
                {"ferrule_address_overflows_total", "Connections not counted: the table of clients was full."}},
            Row{&Its::accept_throttles,
                {"ferrule_accept_throttles_total", "Times that accepting waited because of its rate."}},
            Row{&Its::overloaded, {"ferrule_overloaded", "1 while the loop has more to do than it can."}},
            Row{&Its::overloads, {"ferrule_overloads_total", "Times that it began to."}},
            Row{&Its::proxied, {"ferrule_connections_proxied_total", "Connections whose PROXY header was read."}},
            Row{&Its::accept_errors, {"ferrule_accept_errors_total", "Accepts that failed."}},
            Row{&Its::accept_backoffs,
                {"ferrule_accept_backoffs_total", "Times that accepting waited for descriptors or memory."}},
            Row{&Its::timeouts, {"ferrule_connection_timeouts_total", "Connections that a timeout ended."}},
            Row{&Its::first_byte_timeouts,
                {"ferrule_connection_slow_peers_total", of_slow, none, {"reason", "first_byte"}}},
            Row{&Its::slow_senders, {"ferrule_connection_slow_peers_total", of_slow, none, {"reason", "receive_rate"}}},
            Row{&Its::slow_receivers, {"ferrule_connection_slow_peers_total", of_slow, none, {"reason", "send_rate"}}},
            Row{&Its::proxy_timeouts,
                {"ferrule_connection_slow_peers_total", of_slow, none, {"reason", "proxy_header"}}},
            Row{&Its::resets, {"ferrule_connection_resets_total", "Connections that their peer reset."}},
            Row{&Its::bytes_received,
                {"ferrule_connection_received_bytes_total", "Bytes that were delivered to connections.", bytes}},
            Row{&Its::bytes_sent,
                {"ferrule_connection_sent_bytes_total", "Bytes of connections that the kernel has taken.", bytes}},
            Row{&Its::sends, {"ferrule_connection_sends_total", of_sends, none, {"taken", "at_once"}}},
            Row{&Its::slow_sends, {"ferrule_connection_sends_total", of_sends, none, {"taken", "later"}}},
            Row{&Its::starvations, {"ferrule_receive_starvations_total", "Receives that found no buffer."}},
            Row{&Its::private_receives,
                {"ferrule_receive_private_total", "Receives into private memory because of that."}},
            Row{&Its::pauses,
                {"ferrule_receive_pauses_total", "Times that a connection that held too much was not read from."}},
            Row{&Its::leases, {"ferrule_leases", "Slices that are queued, carried or leased."}},
            Row{&Its::connection_rings, {"ferrule_connection_rings", "Buffer rings of connections' own."}},
            Row{&Its::connection_ring_refusals,
                {"ferrule_connection_ring_refusals_total", "Connections that got no buffer ring of their own."}},
            Row{&Its::memory_used,
                {"ferrule_connection_used_bytes", "Memory of written, carried and privately received data.", bytes}},
            Row{&Its::memory_kept, {"ferrule_connection_kept_bytes", "Such memory that is kept for reuse.", bytes}},
            Row{&Its::stale_completions,
                {"ferrule_connection_stale_completions_total", "Completions of connections that were gone."}},
        };
    }
};

/// The connections that handlers serve, by what they are about: Network::census.
struct ConnectionCensus {
    std::uint64_t reading = 0;  ///< the handler waits for bytes of the peer
    std::uint64_t working = 0;  ///< it works, or waits for something else
    std::uint64_t sending = 0;  ///< the peer has still to take what was written
    std::uint64_t closing = 0;  ///< the handler has let it go, and its end is waited for
};

/// Serves one connection. What it throws closes the connection and goes to Reactor::on_fault.
using ConnectionHandler = std::function<Task<>(Connection)>;

class Defence;
class FileTransfer;
struct ConnectionGuard;
struct FileSend;
struct FlushWait;
struct ReadWait;
struct WriteChain;
class Listener;

/// The connections of one reactor: their table, their buffers, their memory, and the listeners they come from. A
/// service of its reactor: `Network::of(reactor)`. Reactor's own thread, unless a member says otherwise; those that
/// change it throw std::logic_error elsewhere.
class FERRULE_EXPORT Network final : public Subsystem {
public:
    /// Throws std::system_error, which names the need and the limit, when the receive buffers cannot be had. The
    /// reactor's ring is enabled by then, so it is made on the reactor's thread (Reactor::on_start). Add it as a
    /// service: `reactor.add_service<Network>(reactor)`.
    explicit Network(Reactor& reactor, NetworkOptions options = {});
    ~Network() override;
    Network(const Network&) = delete;
    Network& operator=(const Network&) = delete;

    /// The network of the reactor, made with default options when there is none yet.
    static Network& of(Reactor& reactor);

    /// Accepts from a listening socket, which is its own from now on, and serves each connection with the handler. The
    /// number of the listener is what Connection::listener says. In a `group`, it leaves the port's selection before it
    /// is closed, so that no client is lost that the kernel allows to save. `proxy`: what stands in front of it.
    std::uint16_t listen(int descriptor, ConnectionHandler handler, std::shared_ptr<PortGroup> group = nullptr,
                         ProxyOptions proxy = {});

    /// Opens the socket, then as above, with ListenSocketOptions::proxy. The error names the operation and the address.
    std::expected<std::uint16_t, ListenError> listen(const ListenSocketOptions& socket, ConnectionHandler handler);

    /// Gives a listener's socket up to another process that has it, too, and accepts from it: closes the descriptor
    /// here, and leaves alone what waits in the socket's queue and how the kernel chooses the socket. Who was accepted
    /// by then is served. The handler stays, for `adopt`.
    void release_listener(std::uint16_t listener) noexcept;
    /// Whether that is done: nothing more is accepted from it here.
    [[nodiscard]] bool released(std::uint16_t listener) const noexcept;

    /// Begins to accept anew everywhere: the kernel tells one of the processes that wait at a socket of a connection,
    /// and when that one goes, nobody has been told.
    void accept_anew() noexcept;

    /// Registers a handler without a socket, for connections that `adopt` brings, from behind `proxy`.
    std::uint16_t add_handler(ConnectionHandler handler, ProxyOptions proxy = {});

    /// The address that the listener is bound to.
    [[nodiscard]] std::expected<Address, std::error_code> listen_address(std::uint16_t listener) const;

    /// Serves a connected stream socket, which is its own from now on, with the listener's handler. At the connection
    /// limit it waits its turn.
    void adopt(int descriptor, std::uint16_t listener);

    /// Makes a connection of a connected stream socket for the caller to use, outside any handler. ENFILE at the
    /// connection limit, ENOMEM; the descriptor is then still the caller's.
    std::expected<Connection, std::error_code> open(int descriptor);

    /// Called for each accepted descriptor before it is served here: true when the function has taken it (handed it to
    /// another reactor).
    void on_accept(std::function<bool(int descriptor, std::uint16_t listener)> function) {
        hand_over_ = std::move(function);
    }

    /// The reactor whose network this is.
    [[nodiscard]] Reactor& reactor() const noexcept { return *reactor_; }
    /// What it was made with.
    [[nodiscard]] const NetworkOptions& options() const noexcept { return options_; }
    /// Connections now. Any thread.
    [[nodiscard]] const NetworkCounters& counters() const noexcept { return counters_; }
    /// Counts connections by what they are about. It looks at every slot: a cache line each. Reactor's own thread.
    [[nodiscard]] ConnectionCensus census() const noexcept;
    /// The memory of written, carried and privately received bytes.
    [[nodiscard]] const SlabPool& slabs() const noexcept { return slabs_; }
    /// The buffers that the kernel receives into, for all connections that have none of their own.
    [[nodiscard]] const BufferRing& buffers() const noexcept { return *buffers_; }
    /// The mode that it is in: the one that was asked for, or, where the kernel cannot, BufferMode::shared.
    [[nodiscard]] BufferMode buffer_mode() const noexcept { return buffer_mode_; }
    /// What the receive buffers lie on: NetworkOptions::huge_pages, or what the system had instead.
    [[nodiscard]] HugePages huge_pages() const noexcept { return buffers_->huge_pages(); }
    /// Why the latest buffer ring of a connection's own was refused, with what it needs and the limit; empty: none was.
    [[nodiscard]] const std::string& connection_ring_error() const noexcept { return connection_ring_error_; }
    /// Whether the reactor has had more to do than it can for a while (NetworkOptions::overload_latency): a handler may
    /// answer that rather than begin what it cannot finish. Without that option, never.
    [[nodiscard]] bool overloaded() const noexcept;
    /// Slices that are queued, carried or leased now.
    [[nodiscard]] std::uint32_t leases() const noexcept { return buffers_->slices() + heap_leases_ + own_leases_; }

    // Subsystem.
    void before_submit() noexcept override;
    [[nodiscard]] bool must_not_sleep() const noexcept override {
        return !unconfirmed_.empty() || !drain_eligible_.empty();
    }
    void after_completions() noexcept override;
    void drain() noexcept override;
    [[nodiscard]] bool drained() const noexcept override;
    void shutdown() noexcept override;
    [[nodiscard]] bool quiescent() const noexcept override;

private:
    friend struct detail::DebugLayout;
    friend class Lease;
    friend class ReadResult;
    friend class Connection;
    friend class ReadHalf;
    friend class WriteHalf;
    friend class Listener;
    friend class FileTransfer;
    friend class detail::ReadAwaiter;
    friend class detail::FlushAwaiter;
    friend class detail::ConnectionHandle;
    friend bool detail::write_connection(ConnectionState&, const std::byte*, std::size_t);
    friend bool detail::write_connection(ConnectionState&, const SharedBytes&);
    friend bool detail::write_connection(ConnectionState&, Lease&);
    friend bool detail::write_connection(ConnectionState&, ReadResult&);
    friend std::span<std::byte> detail::span_connection(ConnectionState&, std::size_t);
    friend void detail::advance_connection(ConnectionState&, std::size_t);
    friend std::size_t detail::writable_connection(const ConnectionState&) noexcept;
    friend void detail::message_of_connection(ConnectionState&, bool);
    friend void detail::shutdown_write_connection(ConnectionState&);
    friend void detail::release_connection(ConnectionState&) noexcept;
    friend void detail::release_reading(ConnectionState&) noexcept;
    friend struct FileSend;
    friend struct FlushWait;
    friend struct ReadWait;
    friend detail::ReadAwaiter detail::read_connection(ConnectionState&);
    friend ReadResult detail::take_carried_of_connection(ConnectionState&);
    friend void detail::give_back_lease(LeaseNode&) noexcept;

    FlushWait& take_flush_wait();
    void give_back_flush_wait(FlushWait& wait) noexcept;
    ReadWait& take_read_wait();
    void give_back_read_wait(ReadWait& wait) noexcept;
    [[nodiscard]] CancelScope* scope_of(const Environment* environment) const noexcept;
    [[nodiscard]] bool only_root_cancels(const Environment* environment) const noexcept {
        return environment == &reactor_->root_environment && !shutting_down_;
    }
    static constexpr std::uint32_t states_per_chunk = 64;  // the bits of a word
    static constexpr std::uint32_t no_state = 0xffff'ffff;

    // Slots.
    ConnectionState* take_state() noexcept;
    void free_state(ConnectionState& state) noexcept;
    void settle(ConnectionState& state) noexcept;
    [[nodiscard]] ConnectionState* find(Tag tag) noexcept;
    [[nodiscard]] ConnectionState* locate(Tag tag) noexcept {
        if (tag.slot >= state_count_) [[unlikely]]
            return nullptr;
        ConnectionState& state = states_[tag.slot / states_per_chunk][tag.slot % states_per_chunk];
        return state.generation == tag.generation ? &state : nullptr;
    }
    [[nodiscard]] static std::uint64_t tag_of(std::uint8_t kind, const ConnectionState& state) noexcept {
        return Tag{kind, state.generation, state.index}.encode();
    }
    ConnectionState* adopt_state(int descriptor, std::uint16_t listener) noexcept;
    void begin_handler(ConnectionState& state);
    void serve(int descriptor, std::uint16_t listener) noexcept;
    void serve_admitted(int descriptor, std::uint16_t listener, std::uint64_t client) noexcept;
    void serve_waiting() noexcept;

    // The account of a connection.
    [[nodiscard]] std::uint64_t room_left(const ConnectionState& state) const noexcept;
    [[nodiscard]] bool has_room(const ConnectionState& state, std::uint64_t bytes) const noexcept;
    [[nodiscard]] bool crowded(const ConnectionState& state) const noexcept {
        return state.held != 0 && !has_room(state, 1);
    }

    // Receiving.
    static void on_receive(void* owner, const abi::Completion& completion) noexcept;
    static void on_own_receive(void* owner, const abi::Completion& completion) noexcept;
    void receive_ended(ConnectionState& state, int result) noexcept;
    void arm_receive(ConnectionState& state) noexcept;
    void arm_for_reader(ConnectionState& state) noexcept;
    void pause_receive(ConnectionState& state) noexcept;
    void consider_pause(ConnectionState& state) noexcept;
    void give_back_block(LeaseNode& node) noexcept;
    void wait_in_starved(ConnectionState& state) noexcept;
    [[nodiscard]] static bool sends(const ConnectionState& state) noexcept;
    [[nodiscard]] bool waits_for_lent(const ConnectionState& state) const noexcept {
        return state.lent != 0 && (state.held >= options_.receive_lease_limit ||
                                   state.received_bytes >= options_.receive_limit || crowded(state));
    }
    bool arm_private_receive(ConnectionState& state) noexcept;
    void arm_block(ConnectionState& state, LeaseNode& node) noexcept;
    bool arm_stream_receive(ConnectionState& state) noexcept;
    void end_stream(ConnectionState& state) noexcept;
    // Blocks are scarce: one that waits so long for more of a stream is given up.
    static constexpr std::chrono::milliseconds stream_idle_timeout{1000};
    void consider_stream(ConnectionState& state, std::uint32_t flags) noexcept;
    void settle_stream_receive(ConnectionState& state, LeaseNode& node) noexcept;
    void cancel_receive(ConnectionState& state) noexcept;
    void end_read(ConnectionState& state, EndReason reason, int error) noexcept;
    void wake_reader(ConnectionState& state) noexcept;
    void wake_reader_later(ConnectionState& state) noexcept;
    void park_reader(ConnectionState& state) noexcept;
    LeaseNode* take_node() noexcept;
    LeaseNode* ring_node(const BufferRing::Slice& slice) noexcept;
    void free_node(LeaseNode& node) noexcept {
        if (buffer_nodes_ != nullptr && node.owner == LeaseOwner::ring) return;
        node.next = free_nodes_;
        free_nodes_ = &node;
    }
    void give_back(LeaseNode& node) noexcept;
    void give_back_buffer(LeaseNode& node) noexcept;
    void append(ConnectionState& state, LeaseNode& node) noexcept;
    void drop_received(ConnectionState& state) noexcept;
    LeaseNode* heap_node(ConnectionState& state, std::uint32_t bytes) noexcept;
    void serve_starved() noexcept;

    // Carrying.
    void carry(LeaseNode* first, std::uint32_t consumed) noexcept;
    static bool split(LeaseNode*& link, std::uint32_t at) noexcept;
    static bool gather(LeaseNode*& link, std::uint32_t from, std::uint32_t bytes) noexcept;
    static bool gather_into_block(LeaseNode*& link, std::uint32_t from, std::uint32_t bytes) noexcept;
    static void join_adjoining(LeaseNode& node) noexcept;
    static bool copy_out(LeaseNode*& first) noexcept;
    void note_carrier(const ConnectionState& state) noexcept;
    void reclaim_carried(std::uint32_t wanted) noexcept;
    [[nodiscard]] static bool runs_short(const BufferRing& buffers) noexcept {
        return buffers.held() > buffers.count() - buffers.count() / buffers_left_free;
    }
    static constexpr std::uint32_t buffers_left_free = 4;  // the part of the buffers that carried bytes leave free

    // Buffer rings of connections' own.
    void prepare_buffers();
    [[nodiscard]] BufferRing* own_buffers(const ConnectionState& state) const noexcept {
        if (connection_buffers_.empty()) [[likely]]
            return nullptr;
        const ConnectionBuffers& own = connection_buffers_[state.index];
        return own.used ? own.ring.get() : nullptr;
    }
    void give_own_buffers(ConnectionState& state) noexcept;
    [[nodiscard]] std::unique_ptr<BufferRing> make_own_buffers() noexcept;
    LeaseNode* own_node(ConnectionState& state, const BufferRing::Slice& slice) noexcept;
    void give_back_own(LeaseNode& node) noexcept;
    [[nodiscard]] std::uint64_t receive_tag(const ConnectionState& state) const noexcept {
        return tag_of(own_buffers(state) != nullptr ? own_receive_kind_ : receive_kind_, state);
    }

    // Sending.
    static void on_send(void* owner, const abi::Completion& completion) noexcept;
    WriteSlab* take_slab_class(std::uint8_t size_class) noexcept {
        void* memory = slabs_.take_class(size_class);
        if (memory == nullptr) [[unlikely]]
            return nullptr;
        auto* slab = new (memory) WriteSlab;
        slab->capacity = static_cast<std::uint32_t>(SlabPool::block_bytes(size_class) - sizeof(WriteSlab));
        slab->size_class = size_class;
        return slab;
    }
    // For a connection of which nothing is written: it has its place always, see has_room.
    WriteSlab* stage_first_slab(ConnectionState& state) noexcept {
        WriteSlab* slab = take_slab_class(first_slab_class_);
        if (slab != nullptr) [[likely]] {
            // The block may be larger than what the connection may have waiting.
            slab->capacity = std::min(slab->capacity, options_.write_limit);
            state.staged = slab;
        }
        return slab;
    }
    void give_back_slab(WriteSlab* slab) noexcept { slabs_.give_back_class(slab, slab->size_class); }
    /// A slab that was staged or sent, whatever it is.
    void release_slab(ConnectionState& state, WriteSlab* slab) noexcept {
        if (slab->file) [[unlikely]]
            end_file(state, *slab);
        else if (slab->chained) [[unlikely]]
            release_chain(state, slab);
        else
            give_back_slab(slab);
    }
    std::byte* room(ConnectionState& state, std::size_t bytes) noexcept;
    void request_send(ConnectionState& state) noexcept {
        if (state.in_send_list) return;
        state.in_send_list = true;
        send_list_.push_back(&state);
    }
    bool write_slowly(ConnectionState& state, const std::byte* data, std::size_t size) noexcept;
    void refuse_write(ConnectionState& state) noexcept;
    void build_send(ConnectionState& state) noexcept;
    template <bool chained>
    void send_silently(ConnectionState& state, bool link) noexcept;
    void send_aloud(ConnectionState& state) noexcept;
    void wait_for_send(ConnectionState& state) noexcept;
    void after_send(ConnectionState& state) noexcept;
    void send_rest(ConnectionState& state) noexcept;
    void send_done(ConnectionState& state) noexcept;
    void fail_write(ConnectionState& state, int error) noexcept;
    void finish_waiters(FlushWait* first, int error) noexcept;
    void finish_flusher(ConnectionState& state, bool staged) noexcept;
    void publish_counters() noexcept;
    void receive_slowly(ConnectionState& state, const abi::Completion& completion, BufferRing& buffers) noexcept;

    // Chains of written pieces, behind the single slab of most connections.
    WriteChain* chain_of(ConnectionState& state) noexcept;
    void link(WriteChain& chain, LeaseNode& piece) noexcept;
    LeaseNode* slab_node(WriteSlab& slab) noexcept;
    WriteSlab* next_slab(std::uint32_t previous_class, std::uint64_t bytes, std::uint64_t contiguous,
                         std::uint64_t left) noexcept;
    [[nodiscard]] std::uint64_t limit_left(const ConnectionState& state) const noexcept;
    bool write_chained(ConnectionState& state, const std::byte* data, std::size_t size) noexcept;
    std::byte* room_chained(ConnectionState& state, std::size_t bytes) noexcept;
    static void wrote_in_place(ConnectionState& state, std::uint32_t bytes) noexcept;
    bool continue_open(WriteChain& chain) noexcept;
    bool write_shared(ConnectionState& state, const SharedBytes& bytes);
    bool forward(ConnectionState& state, Lease& lease) noexcept;
    bool forward(ConnectionState& state, ReadResult& received) noexcept;
    WriteChain* chain_for(ConnectionState& state, std::uint64_t bytes) noexcept;
    void check_origin(const LeaseNode& node) const noexcept;
    void send_soon(ConnectionState& state) noexcept;
    bool fill_vector(ConnectionState& state) noexcept;
    static void prepare_vector(abi::SubmissionEntry& entry, const ConnectionState& state, int flags) noexcept;
    void chain_done(ConnectionState& state) noexcept;
    LeaseNode* trim_chain(WriteChain& chain, std::uint64_t bytes) noexcept;
    void release_pieces(LeaseNode* first) noexcept;
    void release_piece(LeaseNode& piece) noexcept;
    void release_chain(ConnectionState& state, WriteSlab* head) noexcept;
    void abandon_pieces(WriteSlab& head) noexcept;

    /// A slab with room for `bytes` more bytes of the connection, which counts in its account and keeps its slot until
    /// it is appended or dropped; null when the account or the memory has no room. Its `size` is its holder's to set.
    WriteSlab* take_segment(ConnectionState& state, std::uint32_t bytes) noexcept;
    /// Puts it behind what was written, without a copy. False, and it is still its holder's, when `write` would refuse.
    bool append_segment(ConnectionState& state, WriteSlab* slab) noexcept;
    /// Gives it back unused.
    void drop_segment(ConnectionState& state, WriteSlab* slab) noexcept;

    // Files: what stands for one among the slabs.
    void send_now(ConnectionState& state, WriteSlab& slab) noexcept;
    void wait_slowly(ConnectionState& state) noexcept;
    void file_ready(ConnectionState& state, std::int32_t result) noexcept;
    void end_file(ConnectionState& state, WriteSlab& slab) noexcept;
    void after_file(ConnectionState& state) noexcept;
    void wake_file(FileSend& send) noexcept;
    void unreference(FileSend& send) noexcept;
    std::span<const iovec> warm_pieces(bool in_ring) noexcept;

    // Closing.
    static void on_close(void* owner, const abi::Completion& completion) noexcept;
    void begin_close(ConnectionState& state) noexcept;
    void progress_close(ConnectionState& state) noexcept;
    void submit_close(ConnectionState& state) noexcept;
    [[nodiscard]] bool may_close_at_once(const ConnectionState& state) const noexcept;
    void abort_state(ConnectionState& state, int error) noexcept;
    void consider_draining(ConnectionState& state) noexcept;
    void begin_ending_idle() noexcept;
    [[nodiscard]] bool kernel_has_told_all() noexcept;
    [[nodiscard]] bool unread(const ConnectionState& state) const noexcept;
    void end_idle() noexcept;
    [[nodiscard]] static bool idle(const ConnectionState& state) noexcept;

    // Defence against hostile and slow peers. Times that are due: the reactor's clock; 0: it is too late.
    Defence& defence();
    [[nodiscard]] ConnectionGuard& guard_of(const ConnectionState& state) const noexcept;
    void reset_descriptor(int descriptor) noexcept;
    [[nodiscard]] bool admit(int descriptor, std::uint16_t listener, std::uint64_t& client) noexcept;
    [[nodiscard]] bool admit_client(const Address& client, std::uint64_t& key) noexcept;
    void leave(std::uint64_t client) noexcept;
    void end_guard(ConnectionState& state) noexcept;
    void arm_no_later(ConnectionState& state, std::uint64_t due) noexcept;
    void count_received(ConnectionState& state, std::uint32_t bytes) noexcept;
    void guard_message(ConnectionState& state, std::uint32_t bytes) noexcept;
    void guard_send(ConnectionState& state) noexcept;
    void guard_sent(ConnectionState& state) noexcept;
    [[nodiscard]] std::uint64_t receive_window_due(const ConnectionState& state) const noexcept;
    [[nodiscard]] std::uint64_t guarded_read_due(ConnectionState& state) noexcept;
    [[nodiscard]] std::uint64_t guarded_send_due(ConnectionState& state) noexcept;
    [[nodiscard]] std::chrono::milliseconds guarded_look(const ConnectionState& state) const noexcept;
    void watch_load() noexcept;
    void tell_load() noexcept;

    // What comes from behind proxies.
    static Task<> receive_proxy_header(Network* network, Connection connection);
    bool take_proxy_header(Connection& connection, ReadResult& received);
    void end_without_proxy_header(Connection& connection);
    void begin_proxied(ConnectionState& state);
    static void requeue_carried(ConnectionState& state) noexcept;
    [[nodiscard]] const struct ProxiedAddresses* proxied(const ConnectionState& state) const noexcept;

    // Time.
    static void on_timer(void* owner, Timer& timer) noexcept;
    void check_timer(ConnectionState& state) noexcept;
    [[nodiscard]] std::uint32_t ticks_now() const noexcept {
        return static_cast<std::uint32_t>(reactor_->now_ns() >> tick_shift);
    }
    [[nodiscard]] std::uint64_t due_of(std::uint32_t since, std::chrono::milliseconds timeout) const noexcept;
    static constexpr unsigned tick_shift = 20;  // a tick is 1.05 ms: a stamp costs no division and four bytes

    Reactor* reactor_;
    NetworkOptions options_;
    std::uint8_t receive_kind_ = 0;
    std::uint8_t own_receive_kind_ = 0;
    std::uint8_t send_kind_ = 0;
    std::uint8_t close_kind_ = 0;
    std::uint8_t accept_kind_ = 0;
    bool draining_ = false;
    bool ends_idle_ = false;  // draining, and the grace is over
    bool shutting_down_ = false;
    BufferMode buffer_mode_ = BufferMode::shared;
    std::unique_ptr<BufferRing> buffers_;
    struct ConnectionBuffers {
        std::unique_ptr<BufferRing> ring;  // stays with the slot
        bool used = false;                 // by the connection that has the slot now
    };
    std::vector<ConnectionBuffers> connection_buffers_;  // for each slot; none at all in the other modes
    std::uint64_t connection_ring_bytes_ = 0;            // of each
    std::uint64_t connection_ring_retry_ns_ = 0;         // when one may be asked for again after a refusal
    std::uint32_t connection_rings_ = 0;
    std::uint32_t own_leases_ = 0;
    std::string connection_ring_error_;
    SlabPool slabs_;
    std::uint8_t first_slab_class_;
    std::uint32_t first_slab_bytes_;       // of a first write that needs no other block
    std::uint32_t pause_considered_from_;  // slices that a connection holds
    std::uint32_t stream_slice_ =
        std::numeric_limits<std::uint32_t>::max();  // bytes of a full buffer; none is where streams are as all else
    std::uint64_t stream_bytes_ = 0;                // of blocks that are armed for streams
    bool any_carrier_ = false;
    // A bit for each slot, whose carried bytes may be in shared buffers.
    std::vector<std::uint64_t> carriers_;
    std::vector<ConnectionState*> send_list_;
    std::vector<ConnectionState*> building_;
    std::vector<ConnectionState*> unconfirmed_;
    std::vector<ConnectionState*> starved_;
    struct IdleConnection {
        ConnectionState* state;
        std::uint32_t generation;
    };
    std::vector<IdleConnection> drain_parked_;  // idle while draining: ended when the kernel has told all that it knows
    std::vector<IdleConnection> drain_eligible_;
    std::uint32_t drain_sequence_ = 0;  // of the first entry behind the receives of those
    Timer drain_timer_;                 // of the grace
    bool drain_looked_ = false;         // under a polling thread: their sockets were empty
    std::vector<std::unique_ptr<ConnectionState[]>> states_;
    std::uint32_t free_states_ = no_state;
    std::uint32_t live_states_ = 0;
    std::uint32_t live_served_ = 0;              // of these, those that a handler serves
    std::uint32_t closing_ = 0;                  // of these, those that are on their way out
    std::uint32_t state_count_ = 0;              // slots made so far
    std::unique_ptr<LeaseNode[]> buffer_nodes_;  // one per buffer, where a buffer is one slice
    std::vector<std::unique_ptr<LeaseNode[]>> node_chunks_;
    LeaseNode* free_nodes_ = nullptr;
    std::uint32_t heap_leases_ = 0;
    std::vector<std::unique_ptr<FlushWait>> flush_wait_memory_;
    FlushWait* free_flush_waits_ = nullptr;
    std::vector<std::unique_ptr<ReadWait>> read_wait_memory_;
    ReadWait* free_read_waits_ = nullptr;
    // Files are read into it to be in the page cache, and to see whether they are; nobody looks at it.
    std::unique_ptr<std::byte[]> warm_memory_;
    std::vector<iovec> warm_pieces_;
    std::vector<std::unique_ptr<Listener>> listeners_;
    std::unique_ptr<Defence> defence_;  // none where nothing of it is asked for
    struct Waiting {
        int descriptor;
        std::uint16_t listener;
        std::uint64_t client;  // as it is counted
    };
    std::vector<Waiting> waiting_;  // accepted beyond the connection limit
    std::uint8_t timer_route_ = 0;
    std::uint8_t listener_timer_route_ = 0;
    std::function<bool(int, std::uint16_t)> hand_over_;
    struct Tally {
        std::uint64_t bytes_received = 0;
        std::uint64_t bytes_sent = 0;
        std::uint64_t sends = 0;
    };
    Tally tally_;  // counted without ceremony, published once per pass
    NetworkCounters counters_;
    MetricRegistration counters_registered_;
};

/// Accepts on the reactor with the default network: the short way for programs that hold their reactors by hand. Call
/// it before `Reactor::run`, or on the reactor's thread. The socket is opened at once, so its error is known at once.
///
/// ```cpp
/// const auto address = listen(reactor, {.address = Address::loopback(0)}, serve);
/// if (!address) throw std::runtime_error(address.error().message);
/// std::puts(address->to_string().c_str());
/// reactor.run();
/// ```
FERRULE_EXPORT std::expected<Address, ListenError> listen(Reactor& reactor, const ListenSocketOptions& socket,
                                                          ConnectionHandler handler, NetworkOptions options = {});

}  // namespace ferrule::inline v0
