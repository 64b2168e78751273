#include <ferrule/assert.hpp>
#include <ferrule/reactor/cross_channel.hpp>
#include <ferrule/reactor/deadline.hpp>

#include <bit>
#include <string>

namespace ferrule::inline v0::detail {

/// The ends of channels that belong to one reactor: at the end of a pass it tells their other ends what has happened
/// in it.
class CrossTraffic final : public Subsystem {
public:
    explicit CrossTraffic(Reactor& reactor) : reactor_(&reactor) { reactor.add_subsystem(*this); }
    CrossTraffic(const CrossTraffic&) = delete;
    CrossTraffic& operator=(const CrossTraffic&) = delete;
    ~CrossTraffic() override {
        for (CrossRing* const ring : senders_) ring->detach_sender();
        for (CrossReceiving* const receiving : receivers_) {
            receiving->close();
            receiving->detach();
        }
        reactor_->remove_subsystem(*this);
    }

    static CrossTraffic& of(Reactor& reactor) {
        if (auto* const found = reactor.find_service<CrossTraffic>()) return *found;
        return reactor.add_service<CrossTraffic>(reactor);
    }

    void before_submit() noexcept override {
        for (std::size_t index = 0; index < unpublished_.size(); ++index) unpublished_[index]->publish();
        unpublished_.clear();
        for (std::size_t index = 0; index < ungiven_.size(); ++index) ungiven_[index]->give_back();
        ungiven_.clear();
    }
    [[nodiscard]] bool must_not_sleep() const noexcept override { return !quiescent(); }
    [[nodiscard]] bool quiescent() const noexcept override { return unpublished_.empty() && ungiven_.empty(); }
    void shutdown() noexcept override {
        for (CrossReceiving* const receiving : receivers_) receiving->close();
    }

    void add_sender(CrossRing& ring) { senders_.push_back(&ring); }
    void remove_sender(CrossRing& ring) noexcept {
        std::erase(senders_, &ring);
        std::erase(unpublished_, &ring);
    }
    void add_receiver(CrossReceiving& receiving) { receivers_.push_back(&receiving); }
    void remove_receiver(CrossReceiving& receiving) noexcept { std::erase(receivers_, &receiving); }
    void note_unpublished(CrossRing& ring) { unpublished_.push_back(&ring); }
    void note_ungiven(CrossRing& ring) { ungiven_.push_back(&ring); }
    void forget_ungiven(CrossRing& ring) noexcept { std::erase(ungiven_, &ring); }

private:
    Reactor* reactor_;
    std::vector<CrossRing*> senders_;
    std::vector<CrossReceiving*> receivers_;
    std::vector<CrossRing*> unpublished_;
    std::vector<CrossRing*> ungiven_;
};

namespace {

/// Sends one of a ring's messages. False when the receiver of the mailbox has ended.
bool tell(const std::shared_ptr<Inbox>& inbox, Message& message) noexcept {
    // The ring may be gone, and with it what holds the mailbox, as soon as the message is in.
    const std::shared_ptr<Inbox> mailbox = inbox;
    if (!mailbox->put_beyond_limit(message)) return false;
    if (!mailbox->claim_wake()) return true;
    if (Reactor* here = Reactor::current()) {
        here->wake(mailbox);
    } else {
        mailbox->wake();
    }
    return true;
}

}  // namespace

// ---- a ring, from its sender ----

CrossRing::CrossRing(CrossReceiving& receiving, Reactor& receiver, std::size_t capacity)
    : capacity_(capacity),
      mask_(std::bit_ceil(capacity) - 1),
      receiver_inbox_(receiver.inbox()),
      receiving_(&receiving) {
    notice_.ring = this;
    notice_.run = &CrossRing::on_notice;
    room_.ring = this;
    room_.run = &CrossRing::on_room;
}

CrossRing::~CrossRing() = default;

void CrossRing::release() noexcept {
    if (holders_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
}

void CrossRing::bind() {
    Reactor* const here = sender_;
    if (here != nullptr && Host::current() == here) [[likely]]
        return;
    if (here != nullptr) throw std::logic_error("CrossSender: it belongs to another reactor");
    Reactor& current = current_reactor("CrossSender");
    CrossTraffic& traffic = CrossTraffic::of(current);
    traffic.add_sender(*this);
    sender_ = &current;
    sender_traffic_ = &traffic;
    sender_inbox_ = current.inbox();
}

void CrossRing::note_unpublished() noexcept {
    unpublished_ = true;
    sender_traffic_->note_unpublished(*this);
}

void CrossRing::publish() noexcept {
    unpublished_ = false;
    published_.store(tail_, std::memory_order_seq_cst);
    notify();
}

void CrossRing::notify() noexcept {
    // Who reads looks again after it has said that it wants to be told.
    if (notified_.load(std::memory_order_seq_cst) || notified_.exchange(true, std::memory_order_seq_cst)) return;
    hold();
    if (tell(receiver_inbox_, notice_)) return;
    receiver_ended_.store(true, std::memory_order_relaxed);
    holders_.fetch_sub(1, std::memory_order_relaxed);  // the sender has another
    fill();
}

void CrossRing::close() noexcept {
    if (closed_) return;
    closed_ = true;
    if (sender_traffic_ != nullptr) {
        FERRULE_ASSERT(Host::current() == nullptr || Host::current() == sender_);
        sender_traffic_->remove_sender(*this);
        sender_traffic_ = nullptr;
    }
    fill();
    unpublished_ = false;
    published_.store(tail_, std::memory_order_seq_cst);
    sender_ended_.store(true, std::memory_order_seq_cst);
    notify();
}

void CrossRing::detach_sender() noexcept {
    sender_traffic_ = nullptr;
    close();
}

void CrossRing::wait(CrossSendWaiter& send, CancelScope* scope) noexcept {
    if (scope != nullptr && !scope->add(send)) {
        send.error = std::make_error_code(std::errc::operation_canceled);
        send.queued = true;
        sender_->resume_later(send.waiter);
        return;
    }
    send.listed = true;
    send.before = last_;
    send.behind = nullptr;
    (last_ != nullptr ? last_->behind : first_) = &send;
    last_ = &send;
    ask_for_room();
}

void CrossRing::ask_for_room() noexcept {
    if (asked_ || first_ == nullptr) return;
    asked_ = true;
    waiting_.store(true, std::memory_order_seq_cst);
    // Who reads gives back first, and looks whether somebody waits then.
    consumed_seen_ = consumed_.load(std::memory_order_seq_cst);
    if (places() == 0 && !receiver_ended_.load(std::memory_order_seq_cst)) return;
    // Room has come meanwhile. The message, too, or it never will.
    if (!waiting_.exchange(false, std::memory_order_seq_cst)) return;
    asked_ = false;
    fill();
}

void CrossRing::fill() noexcept {
    while (first_ != nullptr) {
        CrossSendWaiter& send = *first_;
        if (refused()) {
            end_send(send, std::make_error_code(std::errc::broken_pipe));
        } else if (places() != 0) {
            take(send);
            written();
            end_send(send, {});
        } else {
            ask_for_room();
            return;
        }
    }
}

void CrossRing::unlist(CrossSendWaiter& send) noexcept {
    send.listed = false;
    (send.before != nullptr ? send.before->behind : first_) = send.behind;
    (send.behind != nullptr ? send.behind->before : last_) = send.before;
}

void CrossRing::end_send(CrossSendWaiter& send, std::error_code error) noexcept {
    unlist(send);
    CancelScope::remove(send);
    send.error = error;
    send.queued = true;
    sender_->resume_later(send.waiter);
}

void CrossRing::forget(CrossSendWaiter& send) noexcept {
    if (send.listed) unlist(send);
    CancelScope::remove(send);
    if (std::exchange(send.queued, false)) sender_->forget(send.waiter);
}

void CrossSendWaiter::on_cancel(CancelNode& node, CancelReason) noexcept {
    auto& send = static_cast<CrossSendWaiter&>(node);
    send.ring->end_send(send, std::make_error_code(std::errc::operation_canceled));
}

void CrossRing::on_room(Message* message, bool) noexcept {
    CrossRing& ring = *static_cast<RingMessage*>(message)->ring;
    ring.asked_ = false;
    ring.fill();
    ring.release();
}

// ---- a ring, from its receiver ----

void CrossRing::on_notice(Message* message, bool delivered) noexcept {
    CrossRing& ring = *static_cast<RingMessage*>(message)->ring;
    if (!delivered) {
        ring.refuse();
    } else if (ring.receiving_ != nullptr) {
        ring.receiving_->ring_is_ready(ring);
    }
    ring.release();
}

void CrossRing::note_ungiven() noexcept {
    CrossTraffic* const traffic = receiving_->traffic();
    if (traffic == nullptr) return;
    ungiven_ = true;
    traffic->note_ungiven(*this);
}

bool CrossRing::rest() noexcept {
    notified_.store(false, std::memory_order_seq_cst);
    published_seen_ = published_.load(std::memory_order_seq_cst);
    const bool more = published_seen_ != head_ || sender_ended_.load(std::memory_order_seq_cst);
    // Somebody tells, and it is the one who is first here.
    return more && !notified_.exchange(true, std::memory_order_seq_cst);
}

bool CrossRing::finished() noexcept {
    if (!sender_ended_.load(std::memory_order_seq_cst)) return false;
    // It has published its last before it said so.
    published_seen_ = published_.load(std::memory_order_seq_cst);
    return published_seen_ == head_;
}

void CrossRing::give_back() noexcept {
    ungiven_ = false;
    consumed_.store(head_, std::memory_order_seq_cst);
    if (!waiting_.load(std::memory_order_seq_cst) || !waiting_.exchange(false, std::memory_order_seq_cst)) return;
    hold();
    if (!tell(sender_inbox_, room_)) release();
}

void CrossRing::refuse() noexcept {
    receiver_ended_.store(true, std::memory_order_seq_cst);
    if (!waiting_.load(std::memory_order_seq_cst) || !waiting_.exchange(false, std::memory_order_seq_cst)) return;
    hold();
    if (!tell(sender_inbox_, room_)) release();
}

// ---- the receiver ----

CrossReceiving::CrossReceiving() : reactor_(&current_reactor("CrossReceiver")), traffic_(&CrossTraffic::of(*reactor_)) {
    traffic_->add_receiver(*this);
}

CrossReceiving::~CrossReceiving() {
    FERRULE_ASSERT(!waiter_);
    close();
    for (CrossRing* const ring : rings_) {
        if (ring->ungiven_ && traffic_ != nullptr) traffic_->forget_ungiven(*ring);
        ring->detach_receiver();
        ring->release();
    }
    if (traffic_ != nullptr) traffic_->remove_receiver(*this);
}

void CrossReceiving::check_thread(const char* call) const {
    if (Host::current() != reactor_) [[unlikely]]
        throw std::logic_error(std::string(call) + ": not on the receiver's reactor");
}

void CrossReceiving::check_receive() const {
    check_thread("CrossReceiver::receive");
    if (waiter_) [[unlikely]]
        throw std::logic_error("CrossReceiver::receive: somebody is receiving already");
    if (batch_open) [[unlikely]]
        throw std::logic_error("CrossReceiver::receive: the batch before has not ended");
}

void CrossReceiving::add(CrossRing& ring) {
    rings_.push_back(&ring);
    ring.hold();
    had_senders_ = true;
    if (closed_) ring.refuse();
}

void CrossReceiving::append(CrossRing& ring) noexcept {
    if (ring.ready_) return;
    ring.ready_ = true;
    ring.next_ready_ = nullptr;
    (last_ready_ != nullptr ? last_ready_->next_ready_ : first_ready_) = &ring;
    last_ready_ = &ring;
}

void CrossReceiving::ring_is_ready(CrossRing& ring) noexcept {
    append(ring);
    if (!waiter_ || queued_) return;
    // A sender that has closed without a word is no reason to go on, unless it was the last.
    if (ring_to_read() == nullptr && !over()) return;
    CancelScope::remove(node_);
    queued_ = true;
    reactor_->resume_later(waiter_);
}

void CrossReceiving::drop_first() noexcept {
    CrossRing& ring = *first_ready_;
    first_ready_ = ring.next_ready_;
    if (first_ready_ == nullptr) last_ready_ = nullptr;
    ring.ready_ = false;
    ring.next_ready_ = nullptr;
    turn_ = 0;
}

CrossRing* CrossReceiving::ring_to_read() noexcept {
    while (first_ready_ != nullptr) {
        CrossRing& ring = *first_ready_;
        if (ring.readable() != 0) return &ring;
        if (ring.finished()) {
            drop_first();
            if (ring.ungiven_ && traffic_ != nullptr) traffic_->forget_ungiven(ring);
            ring.ungiven_ = false;
            ring.detach_receiver();
            std::erase(rings_, &ring);
            ring.release();
            continue;
        }
        drop_first();
        if (ring.rest()) append(ring);
    }
    return nullptr;
}

void CrossReceiving::end_turn() noexcept {
    CrossRing& ring = *first_ready_;
    drop_first();
    append(ring);
}

void CrossReceiving::close() noexcept {
    if (closed_) return;
    closed_ = true;
    for (CrossRing* const ring : rings_) {
        ring->refuse();
        // It may be on its way in the mailbox.
        if (ring->readable() != 0) append(*ring);
    }
    if (!waiter_ || queued_ || ring_to_read() != nullptr) return;
    CancelScope::remove(node_);
    queued_ = true;
    reactor_->resume_later(waiter_);
}

bool CrossReceiving::park(std::coroutine_handle<> handle, CancelScope* scope) noexcept {
    if (scope != nullptr && !scope->add(node_)) return false;
    waiter_ = handle;
    return true;
}

void CrossReceiving::yield(std::coroutine_handle<> handle) noexcept {
    reactor_->mutable_counters().yields.add();
    waiter_ = handle;
    queued_ = true;
    reactor_->resume_later(handle);
}

bool CrossReceiving::unpark() noexcept {
    waiter_ = nullptr;
    queued_ = false;
    return std::exchange(cancelled_, false);
}

void CrossReceiving::forget() noexcept {
    CancelScope::remove(node_);
    if (queued_) reactor_->forget(waiter_);
    waiter_ = nullptr;
    queued_ = false;
    cancelled_ = false;
}

void CrossReceiving::on_cancel(CancelNode& node, CancelReason) noexcept {
    CrossReceiving& self = *static_cast<Parked&>(node).receiving;
    self.cancelled_ = true;
    self.queued_ = true;
    self.reactor_->resume_later(self.waiter_);
}

}  // namespace ferrule::inline v0::detail
