// A chat room over all reactors: `nc localhost 8080`, a name, then lines.
//
// Each reactor has a room of its own with the members whose connections it has, and hears the others by a channel: no
// lock, and no member is touched by another thread. What bounds it:
//
//   - A line waits in the outbox of each member until the kernel takes it. A member whose outbox is full reads too
//     slowly for this room, and is dropped with that reason. Nobody waits for him.
//   - A speaker waits while the channel to another room is full: his next line is not read, and his TCP window closes.
//     So a flood slows down who makes it.
//   - Names belong to the reactor that their hash chooses, and are asked for by a call: no two members have the same.
#include <ferrule/net/buffered_reader.hpp>
#include <ferrule/reactor/cross_channel.hpp>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/reactor/sharded.hpp>
#include <ferrule/server.hpp>
#include <ferrule/task/event.hpp>
#include <ferrule/task/task_group.hpp>

#include "options.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <exception>
#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using ferrule::Task;
using namespace std::chrono_literals;

constexpr std::size_t name_bytes_max = 24;
constexpr std::size_t line_bytes_max = 1000;
// Lines of one reactor that another has not taken up yet.
constexpr std::size_t lines_between_rooms = 64;
// How long a member's name may take, and the last words to one who is dropped.
constexpr auto name_patience = 60s;
constexpr auto farewell_patience = 2s;

constexpr const char* reads_too_slowly = "reads too slowly";

// What is said, once for all who hear it on a reactor.
using Line = std::shared_ptr<const std::string>;

struct Member {
    Member(std::string called, ferrule::TaskGroup& of) : name(std::move(called)), group(&of) {}
    std::string name;
    ferrule::TaskGroup* group;  // the tasks that read and write for him
    std::deque<Line> outbox;
    std::size_t outbox_bytes = 0;
    ferrule::Event outbox_filled;
    std::string end;  // why he goes

    void leave(std::string reason) {
        if (end.empty()) end = std::move(reason);
        group->cancel();
    }
};

class Room;
struct Hall {
    Hall(std::size_t reactors, std::size_t outbox_limit);
    ferrule::Sharded<Room> rooms;
    std::size_t outbox_bytes_max;
};

// The members of one reactor.
class Room {
public:
    explicit Room(Hall& hall) : hall_(&hall), to_others_(hall.rooms.size()), from_others_(lines_between_rooms) {}

    ferrule::CrossSender<std::string> way_in() { return from_others_.sender(); }

    void enter(Member& member) { members_.push_back(&member); }
    void leave(Member& member) { std::erase(members_, &member); }
    // Who wants a name has a number that is his alone: one whose claim was not answered in time gives up what he may
    // have got, and not what somebody else has.
    std::uint64_t new_number() { return std::uint64_t{ferrule::Reactor::current()->id()} << 48 | ++last_number_; }
    bool claim(const std::string& name, std::uint64_t number) {
        return names_.emplace(name, number).first->second == number;
    }
    void give_up(const std::string& name, std::uint64_t number) {
        const auto found = names_.find(name);
        if (found != names_.end() && found->second == number) names_.erase(found);
    }
    std::string names() const {
        std::string all;
        for (const Member* member : members_) all += ' ' + member->name;
        return all;
    }

    // To the members here.
    void hear(const std::string& text) {
        const auto line = std::make_shared<const std::string>(text);
        for (Member* member : members_) {
            if (!member->end.empty()) continue;
            if (member->outbox_bytes + line->size() > hall_->outbox_bytes_max) {
                member->leave(reads_too_slowly);
                continue;
            }
            member->outbox_bytes += line->size();
            member->outbox.push_back(line);
            member->outbox_filled.set();
        }
    }

    // To everybody, everywhere. Waits while another room has not taken up what it was sent.
    static Task<> say(Room* room, std::string text) {
        room->hear(text);
        const std::uint32_t here = ferrule::Reactor::current()->id();
        for (std::size_t number = 0; number < room->to_others_.size(); ++number) {
            if (number == here) continue;
            co_await connect(room, number);
            // One that has not started has no members.
            if (room->to_others_[number]) static_cast<void>(co_await room->to_others_[number].send(text));
        }
    }

    // Hears what is said on other reactors, until this one ends.
    static Task<> listen(Room* room) {
        while (auto line = co_await room->from_others_.receive()) room->hear(*line);
    }

private:
    static Task<> connect(Room* room, std::size_t number) {
        if (room->to_others_[number]) co_return;
        auto ask = [](Room& there) { return there.way_in(); };
        auto way = co_await room->hall_->rooms.on(number, ask);
        // Somebody else may have been faster.
        if (way && !room->to_others_[number]) room->to_others_[number] = std::move(*way);
    }

    Hall* hall_;
    std::vector<Member*> members_;
    std::map<std::string, std::uint64_t> names_;  // of members anywhere, whose hash is this reactor's
    std::uint64_t last_number_ = 0;
    std::vector<ferrule::CrossSender<std::string>> to_others_;
    ferrule::CrossReceiver<std::string> from_others_;
};

Hall::Hall(std::size_t reactors, std::size_t outbox_limit)
    : rooms(reactors, [this](ferrule::Reactor&) { return Room(*this); }), outbox_bytes_max(outbox_limit) {}

// In the room from its beginning to its end.
class Presence {
public:
    Presence(Room& room, Member& member) : room_(&room), member_(&member) { room.enter(member); }
    Presence(const Presence&) = delete;
    Presence& operator=(const Presence&) = delete;
    ~Presence() { room_->leave(*member_); }

private:
    Room* room_;
    Member* member_;
};

// What would move the cursor of others is not theirs to send.
std::string printable(std::string_view text) {
    if (text.ends_with('\r')) text.remove_suffix(1);
    std::string clean(text);
    for (char& letter : clean) {
        if (static_cast<unsigned char>(letter) < ' ' || letter == '\x7f') letter = '?';
    }
    return clean;
}

bool is_name(std::string_view text) {
    const auto fits = [](char letter) {
        return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
               (letter >= '0' && letter <= '9') || letter == '-' || letter == '_';
    };
    return !text.empty() && text.size() <= name_bytes_max && std::all_of(text.begin(), text.end(), fits);
}

using Reader = ferrule::BufferedReader<ferrule::ReadHalf>;

// The next line, or why there is none.
Task<std::expected<std::string, std::string>> read_line(Reader* reader) {
    while (auto received = co_await reader->read()) {
        const std::size_t end = received.find("\n");
        if (end == ferrule::ByteSequence::npos && received.size() <= line_bytes_max) continue;
        if (end == ferrule::ByteSequence::npos || end > line_bytes_max) co_return std::unexpected("line too long");
        std::string line = printable(received.contiguous(end).text());
        reader->advance(end + 1);
        co_return line;
    }
    switch (reader->end_reason()) {
        case ferrule::EndReason::end_of_stream:
            co_return std::unexpected("has gone");
        case ferrule::EndReason::draining:
            co_return std::unexpected("the server ends");
        default:
            co_return std::unexpected("connection lost");
    }
}

Task<> write_lines(Member* member, ferrule::WriteHalf* to) {
    for (;;) {
        const auto filled = co_await member->outbox_filled.wait();
        if (!filled) co_return;
        member->outbox_filled.reset();
        for (const Line& line : member->outbox) to->write(*line);
        member->outbox.clear();
        // What is under way is the kernel's; what comes meanwhile waits in the outbox, which is bounded.
        member->outbox_bytes = 0;
        const auto flushed = co_await to->flush();
        if (!flushed) {
            member->leave("connection lost");
            co_return;
        }
    }
}

Task<> read_lines(Member* member, Reader* reader, Hall* hall) {
    Room* const room = &hall->rooms.local();
    while (member->end.empty()) {
        const auto line = co_await read_line(reader);
        if (!line) {
            member->leave(line.error());
        } else if (*line == "/quit") {
            member->leave("has left");
        } else if (*line == "/who") {
            auto names = [](Room& there) { return there.names(); };
            const auto all = co_await hall->rooms.fold(std::string("* here are"), names, std::plus<>());
            member->outbox.push_back(std::make_shared<const std::string>(all.value_or("* some are ending") + "\n"));
            member->outbox_filled.set();
        } else if (!line->empty()) {
            co_await Room::say(room, member->name + ": " + *line + "\n");
        }
    }
}

// A name that was asked for, and perhaps got.
struct Claim {
    std::string name;
    std::uint64_t number;

    std::size_t owner(const Hall& hall) const { return std::hash<std::string>()(name) % hall.rooms.size(); }
};

// Asks for a name until it is one that nobody has. False: the peer has gone, or takes too long.
Task<bool> ask_for_name(Claim* claim, Reader* reader, ferrule::WriteHalf* to, Hall* hall) {
    to->write("your name? ");
    for (;;) {
        co_await to->flush();
        const auto name = co_await read_line(reader);
        if (!name) co_return false;
        if (!is_name(*name)) {
            to->write("a name has 1 to 24 letters, digits, - and _\nyour name? ");
            continue;
        }
        claim->name = *name;
        auto ask = [name = *name, number = claim->number](Room& there) { return there.claim(name, number); };
        const auto claimed = co_await hall->rooms.on(claim->owner(*hall), ask);
        if (claimed.value_or(false)) co_return true;
        to->write(claimed ? "somebody has this name\nyour name? " : "not now\nyour name? ");
    }
}

Task<> stay(std::string name, Reader* reader, ferrule::WriteHalf* to, Hall* hall) {
    Room* const room = &hall->rooms.local();
    ferrule::TaskGroup group(co_await ferrule::this_environment());
    Member member(name, group);
    {
        const Presence presence(*room, member);
        co_await Room::say(room, "* " + name + " has joined\n");
        static_cast<void>(group.spawn(write_lines(&member, to)));
        static_cast<void>(group.spawn(read_lines(&member, reader, hall)));
        co_await group.join();
    }
    co_await Room::say(room, "* " + name + " leaves: " + member.end + "\n");
    to->write("* you leave: " + member.end + "\n");
    static_cast<void>(co_await ferrule::with_deadline(to->flush(), farewell_patience));
}

Task<> chat(ferrule::Connection connection, Hall* hall) {
    auto [from, to] = std::move(connection).split();
    Reader reader(from);
    Claim claim{{}, hall->rooms.local().new_number()};
    const bool named = co_await ferrule::with_deadline(ask_for_name(&claim, &reader, &to, hall), name_patience);
    if (named) co_await stay(claim.name, &reader, &to, hall);
    if (claim.name.empty()) co_return;
    auto give_up = [name = claim.name, number = claim.number](Room& there) { there.give_up(name, number); };
    static_cast<void>(co_await hall->rooms.on(claim.owner(*hall), give_up));
}

}  // namespace

int main(int count, char** arguments) {
    ferrule::ServerOptions options;
    std::size_t outbox_bytes_max = 64 << 10;
    playground::CommandLine line("chat", "A chat room over all reactors: lines of one go to all.");
    line.add("--host", "ADDRESS", "where to listen: an IPv4 or IPv6 address, unix:PATH; default: everywhere",
             options.host);
    line.add("--port", "NUMBER", "the TCP port, 0 for any free one; default 8080", options.port);
    line.add("--reactors", "NUMBER", "threads, each with its own ring; default: one per CPU", options.reactors);
    line.add("--outbox", "BYTES", "what may wait for one member, who is dropped beyond it; default 65536",
             outbox_bytes_max);
    line.parse(count, arguments);
    // Who only listens is not idle.
    options.network.idle_timeout = 0s;

    try {
        ferrule::Server server(options);
        Hall hall(server.reactors(), outbox_bytes_max);
        server.on_start([&hall](ferrule::Reactor& reactor) {
            hall.rooms.start(reactor);
            reactor.spawn(Room::listen(&hall.rooms.local()));
        });
        server.on_connection([&hall](ferrule::Connection connection) { return chat(std::move(connection), &hall); });
        server.on_listening([&server] {
            std::printf("chat listens on %s\n", server.addresses().front().to_string().c_str());
            if (server.port() != 0) std::printf("try: nc localhost %d\n", server.port());
            std::fflush(stdout);
        });
        return server.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "chat: %s\n", error.what());
        return 1;
    }
}
