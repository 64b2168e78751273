#pragma once

#include <ferrule/http/output.hpp>
#include <ferrule/http/request.hpp>
#include <ferrule/http/response.hpp>
#include <ferrule/http/serve_options.hpp>
#include <ferrule/http/stream_access.hpp>
#include <ferrule/net/byte_sequence.hpp>
#include <ferrule/net/end_reason.hpp>
#include <ferrule/net/lease.hpp>
#include <ferrule/reactor/timer_heap.hpp>
#include <ferrule/task/cancel.hpp>
#include <ferrule/task/environment.hpp>
#include <ferrule/task/task.hpp>
#include <ferrule/version.hpp>

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <expected>
#include <optional>
#include <span>
#include <string_view>
#include <system_error>

namespace ferrule::inline v0 {
class Reactor;
}  // namespace ferrule::inline v0

namespace ferrule::inline v0::http::detail {

struct Exchange;
class ServeService;
class Session;

/// The deadline of a connection, in its reactor's heap.
struct SessionTimer : Timer {
    explicit SessionTimer(Session& its) noexcept : session(&its) {}
    Session* session;
};

/// One connection that is served, but for its stream and its loop (StreamSession, serve). In the loop's frame: what an
/// idle connection costs; what a request needs is in an Exchange, which it has only while one is there.
class FERRULE_EXPORT Session : public StreamAccess {
public:
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    // For the loop.

    /// Bytes have come.
    void begin(ByteSequence received);
    /// Whether there is a request for the handler. What cannot be one is answered here.
    bool next_request();
    [[nodiscard]] Request& request() noexcept { return *request_; }
    [[nodiscard]] Response& response() noexcept { return *response_; }
    /// What the handler is awaited under.
    [[nodiscard]] Environment& handler_environment(Environment& inherited) noexcept;
    /// The handler has to wait, for the first time.
    void handler_waits();
    /// It has thrown.
    void handler_failed(std::exception_ptr failure) noexcept;
    /// It has ended. False: finish_slowly has to be awaited.
    bool finish_request();
    Task<> finish_slowly();
    /// All that was there is answered, or cannot be yet. Whether there is something to flush before it is read on.
    bool end_batch();
    /// No more bytes will come.
    void read_ended();
    /// The loop ends. Whether something has to be pushed first.
    bool unfinished() {
        output_.commit();
        return output_.in_block() && !failed_ && !aborts_ && !upgraded_;
    }
    /// How the connection ends.
    [[nodiscard]] bool aborts() const noexcept { return aborts_; }
    [[nodiscard]] bool upgraded() const noexcept { return upgraded_; }
    /// The stream has not taken what was written.
    void flush_failed() noexcept { closing_ = failed_ = true; }
    /// The connection ends: no more is read.
    [[nodiscard]] bool closing() const noexcept { return closing_; }

    /// Wait for the end of a flush beside the loop.
    class BesideAwaiter {
    public:
        explicit BesideAwaiter(Session& session) noexcept : session_(&session) {}
        BesideAwaiter(const BesideAwaiter&) = delete;
        BesideAwaiter& operator=(const BesideAwaiter&) = delete;
        ~BesideAwaiter() {
            if (waits_) session_->beside_.waiter = nullptr;
        }
        [[nodiscard]] bool await_ready() const noexcept { return !session_->beside_.runs; }
        void await_suspend(std::coroutine_handle<> waiter) {
            if (session_->beside_.waiter) refuse_second_flush();
            session_->beside_.waiter = waiter;
            waits_ = true;
        }
        void await_resume() noexcept { waits_ = false; }

    private:
        Session* session_;
        bool waits_ = false;
    };
    [[nodiscard]] bool flushes_beside() const noexcept { return beside_.runs; }

protected:
    Session(Environment& inherited, const ServeOptions& options);
    virtual ~Session();

    // What the type of the stream has to say.

    /// What is there and not consumed.
    virtual ByteSequence buffered() = 0;
    virtual void consume(std::size_t consumed, std::size_t examined) = 0;
    virtual ReadResult take(std::size_t bytes) = 0;
    [[nodiscard]] virtual EndReason end_reason() const = 0;
    [[nodiscard]] virtual bool draining() const = 0;
    virtual void begin_message() = 0;
    virtual void end_message() = 0;
    /// Leaves what is not consumed to the stream, which is somebody else's from now on.
    virtual void* hand_over(const void* key) = 0;
    virtual void* stream_of(const void* key) = 0;
    /// Waits for more of a body than was there.
    virtual Task<> read_body() = 0;
    /// Flushes while other work goes on.
    virtual Task<> flush_aside() = 0;
    /// Writes what is in the output's block, and the shared body behind it; sends all if `and_flush`.
    virtual Task<std::expected<void, std::errc>> push_output(bool and_flush) = 0;

    // For StreamSession.

    /// What reads are awaited under, so that a deadline ends them.
    [[nodiscard]] Environment& reading_environment() noexcept { return environment_; }
    /// The loop waits for a request, or the rest of one.
    void wait_for_request();
    /// Flushes, and waits for nothing.
    void flush_beside();
    /// Whether the client has neither said that this request is its last nor sent all of it.
    [[nodiscard]] bool client_may_send() const noexcept;
    /// Lets go of such a flush, before the stream is somebody else's or gone.
    void stop_beside() noexcept;
    /// A wait for the body, with its deadline. It ends with this object, also where nobody waits any more.
    class BodyWait {
    public:
        explicit BodyWait(Session& session) : session_(&session), flushes_(session.wait_for_body()) {}
        BodyWait(const BodyWait&) = delete;
        BodyWait& operator=(const BodyWait&) = delete;
        ~BodyWait() { session_->stop_waiting_for_body(); }
        /// Whether `100 Continue` has to be flushed before.
        [[nodiscard]] bool flushes() const noexcept { return flushes_; }

    private:
        Session* session_;
        bool flushes_;
    };
    /// Bytes of it have come, or none: then it has failed.
    void waited_for_body(ByteSequence received) noexcept;
    [[nodiscard]] Environment& inherited_environment() noexcept { return *inherited_; }
    /// What the stream had no room for of a response's body.
    [[nodiscard]] SharedBytes& shared_body() noexcept;
    [[nodiscard]] std::size_t shared_bytes() noexcept { return exchange_ != nullptr ? shared_body().size() : 0; }

    Output output_;

private:
    friend class http::Request;
    friend class http::Response;
    friend class BodyAwaiter;
    friend class CollectAwaiter;
    friend class ServeService;

    /// A flush that nobody waits for.
    struct Beside : ferrule::detail::Completion {
        std::coroutine_handle<> waiter;
        Task<> task;
        bool runs = false;
    };

    [[noreturn]] static void refuse_second_flush();
    static std::coroutine_handle<> beside_ended(ferrule::detail::Completion& completion, PromiseBase& promise,
                                                bool failed) noexcept;
    bool wait_for_body();
    void stop_waiting_for_body() noexcept;
    /// Whether a client has to send so much of a body in a time.
    [[nodiscard]] bool has_least_rate() const noexcept;
    void take_exchange();
    void give_back_exchange() noexcept;
    void show(ByteSequence there) noexcept;
    void drop_view() noexcept;
    bool next_view();
    bool extend_view();
    bool begin_request(std::string_view bytes);
    bool begin_body(std::string_view bytes);
    bool keep_head(std::size_t head_size);
    void refuse(Refusal refusal);
    void refuse(Status status, std::string_view why);
    void answer_error(Status status, std::string_view why);
    bool handler_waited();
    void abandon() noexcept;
    void next_exchange() noexcept;
    void set_deadline(std::uint64_t due_ns);
    void on_due() noexcept;
    /// Whether the connection is closed behind this response, whose body is there as a `whole`.
    bool closes_behind(bool whole) noexcept;

    // The body.
    bool piece_at_hand();
    void consume_piece();
    void body_failed();
    Task<> finish_body();
    Task<> skip_body();
    bool make_room(std::span<char>& collected, std::size_t size, std::size_t more, std::uint64_t limit);
    void fail_body(Status status) noexcept;
    Task<> wait_for_piece();
    std::optional<std::expected<std::string_view, Status>> collect_at_hand(std::uint64_t limit);
    Task<std::expected<std::string_view, Status>> collect_slowly(std::uint64_t limit);
    [[nodiscard]] bool body_read() const noexcept;

    const ServeOptions* options_;
    ServeService* service_;
    Environment* inherited_;
    Request* request_ = nullptr;
    Response* response_ = nullptr;
    Exchange* exchange_ = nullptr;

    // What has come: from the first byte that is not consumed, as far as it lies in one piece.
    const char* view_ = nullptr;
    std::size_t view_bytes_ = 0;
    std::size_t offset_ = 0;       // where the next request begins
    std::size_t request_end_ = 0;  // where this one ends, when all of it is in the view

    std::uint64_t deadline_ns_ = 0;     // of what is waited for; 0: none
    std::uint64_t handler_due_ns_ = 0;  // of the handler
    std::uint64_t armed_ns_ = 0;        // when the timer will look
    std::uint64_t head_due_ns_ = 0;     // of the head whose beginning is there
    std::uint64_t requests_ = 0;        // of this connection so far
    std::uint32_t answered_ = 0;        // of this batch
    bool view_is_all_ : 1 = false;      // nothing is there behind the view
    bool partial_head_ : 1 = false;     // all that is there is the beginning of a head
    bool closing_ : 1 = false;
    bool draining_ : 1 = false;
    bool failed_ : 1 = false;   // nothing can be written any more
    bool expired_ : 1 = false;  // a deadline has passed
    bool aborts_ : 1 = false;   // a response could not be ended in order
    bool upgraded_ : 1 = false;
    bool handler_waits_ : 1 = false;

    SessionTimer timer_{*this};
    CancelScope scope_;
    Environment environment_;
    Beside beside_;
};

}  // namespace ferrule::inline v0::http::detail
