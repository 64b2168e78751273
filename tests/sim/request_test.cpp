// Requests of all kinds under every fault at once: each ends exactly once, no byte is lost, doubled or out of order,
// and nothing is left.

#include "sim/ring_fixture.hpp"

namespace ferrule {
namespace {

using namespace ferrule_test;
using sim::Profile;

constexpr std::uint64_t receive_kind = std::uint64_t{1} << 32;
constexpr std::uint64_t send_kind = std::uint64_t{2} << 32;
constexpr std::uint64_t other_kind = std::uint64_t{3} << 32;
constexpr std::uint64_t kind_mask = std::uint64_t{0xff} << 32;
constexpr unsigned stream_count = 5;
constexpr unsigned rounds = 400;
constexpr std::uint16_t group = 64;

/// A socket of the program, and the peer that it talks with.
struct Stream {
    std::shared_ptr<EndDouble> ours;
    std::shared_ptr<EndDouble> peer;
    int fd = -1;
    bool receiving = false;
    bool sending = false;
    bool private_receive = false;
    std::string said;      // by the peer
    std::string received;  // of it
    std::string written;   // by the program
    std::string heard;     // of it, by the peer
    std::size_t sent = 0;
    std::array<char, 48> own{};
};

class Program {
public:
    Program(Profile profile, std::uint64_t seed, bool incremental) : kernel(profile), chance_(seed) {
        kernel.world.random() = sim::Random(seed);
        auto made = Ring::create(kernel, {.entries = 16, .completion_entries = 16});
        if (!made) throw std::runtime_error(made.error().message);
        ring_ = std::make_unique<Ring>(std::move(*made));
        auto buffers = BufferRing::create(*ring_, {.group = group, .count = 4, .size = 32, .incremental = incremental});
        if (!buffers) throw std::runtime_error(buffers.error().message);
        buffers_ = std::make_unique<BufferRing>(std::move(*buffers));
        for (Stream& stream : streams_) {
            std::tie(stream.ours, stream.peer) = EndDouble::pair();
            stream.ours->room = stream.peer->room = 100;
            stream.fd = kernel.install(stream.ours);
        }
        kernel.world.rate(30'000);
    }

    void run() {
        for (unsigned round = 0; round != rounds; ++round) {
            for (Stream& stream : streams_) step(stream);
            others();
            pass();
        }
        // No more faults: what was said arrives, and all ends.
        kernel.world.rate(0);
        for (unsigned round = 0; round != rounds && !all_arrived(); ++round) {
            for (Stream& stream : streams_) {
                arm(stream);
                send(stream);
                stream.heard += stream.peer->heard();
            }
            pass();
        }
        prepare::cancel(ring_->entry(), 0, abi::cancel_any | abi::cancel_all);
        for (unsigned round = 0; round != 100 && kernel.ring(ring_->descriptor())->in_flight() != 0; ++round) {
            kernel.world.pass(1'000'000);
            pass();
        }
        for (const Stream& stream : streams_) {
            EXPECT_TRUE(stream.received == stream.said);
            EXPECT_TRUE(stream.heard == stream.written.substr(0, stream.sent));
        }
        EXPECT_EQ(open_.size(), 0u) << "a request has not ended";
        give_back_all();
        EXPECT_EQ(buffers_->held(), 0u);
        EXPECT_EQ(kernel.ring(ring_->descriptor())->in_flight(), 0u);
        buffers_.reset();
        ring_.reset();
        EXPECT_EQ(kernel.world.findings, std::vector<std::string>{});
    }

    RingKernel kernel;

private:
    bool all_arrived() const {
        return std::ranges::all_of(streams_, [](const Stream& stream) {
            return stream.received == stream.said && stream.heard == stream.written.substr(0, stream.sent) &&
                   stream.sent == stream.written.size() && !stream.sending;
        });
    }

    std::string text() {
        std::string made;
        for (std::uint64_t length = chance_.between(1, 60); length != 0; --length) {
            made.push_back(static_cast<char>('a' + next_letter_++ % 26));
        }
        return made;
    }

    abi::SubmissionEntry& entry(std::uint64_t user_data) {
        open_[user_data] = true;
        return ring_->entry();
    }

    void arm(Stream& stream) {
        if (stream.receiving) return;
        stream.receiving = true;
        const std::uint64_t user_data = receive_kind | (next_++ << 40) | number(stream);
        abi::SubmissionEntry& made = entry(user_data);
        stream.private_receive = false;
        switch (chance_.below(4)) {
            case 0:
                stream.private_receive = true;
                prepare::receive(made, stream.fd, stream.own.data(), stream.own.size(),
                                 chance_.one_in(3) ? MSG_DONTWAIT : 0);
                break;
            case 1:
                prepare::receive_select(made, stream.fd, group, static_cast<std::uint32_t>(chance_.below(20)), 0);
                break;
            default:
                prepare::receive_multishot(made, stream.fd, group, 0);
                break;
        }
        made.user_data = user_data;
    }

    void send(Stream& stream) {
        if (stream.sending || stream.sent == stream.written.size()) return;
        stream.sending = true;
        const std::uint64_t user_data = send_kind | (next_++ << 40) | number(stream);
        abi::SubmissionEntry& made = entry(user_data);
        outgoing_[number(stream)] = stream.written.substr(stream.sent);
        const std::string& data = outgoing_[number(stream)];
        prepare::send(made, stream.fd, data.data(), static_cast<std::uint32_t>(data.size()),
                      MSG_NOSIGNAL | (chance_.one_in(2) ? MSG_WAITALL : 0) | (chance_.one_in(3) ? MSG_DONTWAIT : 0));
        made.user_data = user_data;
        if (chance_.one_in(4)) {
            made.flags = abi::entry_link;
            const std::uint64_t linked = other_kind | (next_++ << 40);
            abi::SubmissionEntry& behind = entry(linked);
            prepare::nop(behind);
            behind.user_data = linked;
        }
    }

    void step(Stream& stream) {
        if (chance_.one_in(2)) {
            const std::string more = text();
            stream.said += more;
            if (stream.ours->pending() + more.size() <= 100) {
                stream.peer->say(more);
            } else {
                stream.said.resize(stream.said.size() - more.size());
            }
        }
        if (chance_.one_in(3)) stream.written += text();
        if (chance_.one_in(3)) stream.heard += stream.peer->heard();
        if (chance_.one_in(2)) arm(stream);
        if (chance_.one_in(2)) send(stream);
        if (chance_.one_in(6) && !open_.empty()) {
            // Any of them, also one that is just about to be read from the queue.
            auto victim = open_.begin();
            std::advance(victim, static_cast<std::ptrdiff_t>(chance_.below(open_.size())));
            const std::uint64_t target = victim->first;
            const std::uint64_t user_data = other_kind | (next_++ << 40);
            abi::SubmissionEntry& made = entry(user_data);
            prepare::cancel(made, target, 0);
            made.user_data = user_data;
        }
    }

    void others() {
        const std::uint64_t user_data = other_kind | (next_++ << 40);
        abi::SubmissionEntry& made = entry(user_data);
        switch (chance_.below(5)) {
            case 0:
                prepare::timeout(made, &time_, static_cast<std::uint32_t>(chance_.below(3)), 0);
                break;
            case 1:
                prepare::poll_add(made, streams_[0].fd, POLLIN);
                break;
            case 2:
                prepare::close(made, 999);
                break;
            case 3:
                prepare::nop(made);
                made.flags = abi::entry_async;
                break;
            default:
                prepare::nop(made);
                break;
        }
        made.user_data = user_data;
    }

    void pass() {
        static_cast<void>(ring_->enter(chance_.one_in(3) ? 1 : 0, 1'000'000));
        if (chance_.one_in(4)) kernel.world.pass(chance_.below(3'000'000));
        for (unsigned turns = 0; turns != 8; ++turns) {
            ring_->for_each_completion([this](const abi::Completion& completion) { handle(completion); });
            if (!ring_->overflowed() && !ring_->task_work_pending()) break;
            static_cast<void>(ring_->enter(0, 0));
        }
        while (!slices_.empty() && chance_.one_in(2)) {
            buffers_->give_back(slices_.back());
            slices_.pop_back();
        }
        if (chance_.one_in(2) || slices_.empty()) {
            give_back_all();
        }
    }

    void give_back_all() {
        for (const std::uint16_t slice : slices_) buffers_->give_back(slice);
        slices_.clear();
        buffers_->publish();
    }

    void handle(const abi::Completion& completion) {
        const std::uint64_t user_data = completion.user_data;
        const bool last = (completion.flags & abi::completion_more) == 0;
        if (user_data == 0) return;  // the cancel of all
        ASSERT_TRUE(open_.contains(user_data)) << "it has ended before";
        if (last) open_.erase(user_data);
        const std::uint64_t kind = user_data & kind_mask;
        if (kind == other_kind) return;
        Stream& stream = streams_[user_data & 0xff];
        if (kind == send_kind) {
            stream.sending = false;
            if (completion.result > 0) stream.sent += static_cast<std::size_t>(completion.result);
            return;
        }
        if ((completion.flags & abi::completion_buffer) != 0) {
            const BufferRing::Slice slice = buffers_->take(completion);
            stream.received.append(reinterpret_cast<const char*>(slice.data), slice.length);
            slices_.push_back(slice.buffer);
        } else if (completion.result > 0) {
            ASSERT_TRUE(stream.private_receive);
            stream.received.append(stream.own.data(), static_cast<std::size_t>(completion.result));
        }
        if (last) stream.receiving = false;
    }

    std::uint64_t number(const Stream& stream) const { return static_cast<std::uint64_t>(&stream - streams_.data()); }

    sim::Random chance_;
    std::unique_ptr<Ring> ring_;
    std::unique_ptr<BufferRing> buffers_;
    std::array<Stream, stream_count> streams_;
    std::array<std::string, stream_count> outgoing_;
    std::vector<std::uint16_t> slices_;
    std::map<std::uint64_t, bool> open_;
    std::uint64_t next_ = 1;
    unsigned next_letter_ = 0;
    const abi::Timespec time_{0, 500'000};
};

class Requests : public testing::TestWithParam<Profile> {};

TEST_P(Requests, EachEndsOnceAndNoByteIsLostWhateverFails) {
    for (std::uint64_t seed = 1; seed != 40; ++seed) {
        SCOPED_TRACE(seed);
        Program program(GetParam(), seed, GetParam() >= Profile::linux_6_12 && seed % 2 == 0);
        program.run();
        if (HasFailure()) return;
    }
}

INSTANTIATE_TEST_SUITE_P(Profiles, Requests,
                         testing::Values(Profile::linux_6_1, Profile::linux_6_6, Profile::linux_6_12,
                                         Profile::linux_6_18));

}  // namespace
}  // namespace ferrule
