#include "sim/front_end.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace ferrule::inline v0::sim {

// What each operation does with its file.

namespace {

constexpr std::uint64_t close_delay_ns_max = 20'000'000;
/// How long a connect that fails takes: a refusal's way back, the neighbour that is asked for, all retransmissions.
constexpr std::uint64_t refusal_ns_max = 1'000'000;
constexpr std::uint64_t no_neighbour_ns = 3'000'000'000;
constexpr std::uint64_t no_answer_ns = 127'000'000'000;

}  // namespace

FrontEnd::Outcome FrontEnd::finish(Request& request, std::int32_t result, std::uint32_t flags) noexcept {
    if (result < 0) mark_failed(request);
    request.result = result;
    request.flags = flags;
    return Outcome::done;
}

FrontEnd::Outcome FrontEnd::perform(Request& request) {
    switch (request.entry.opcode) {
        case abi::Operation::nop:
            return finish(request, (request.entry.nop_flags & abi::nop_inject_result) != 0
                                       ? static_cast<std::int32_t>(request.entry.len)
                                       : 0);
        case abi::Operation::poll_add:
            return poll(request);
        case abi::Operation::timeout:
            return begin_timeout(request);
        case abi::Operation::accept:
            return accept(request);
        case abi::Operation::async_cancel:
            return cancel(request);
        case abi::Operation::connect:
            return connect(request);
        case abi::Operation::close:
            return close(request);
        case abi::Operation::read:
        case abi::Operation::readv:
            return read(request);
        case abi::Operation::write:
        case abi::Operation::writev:
            return write(request);
        case abi::Operation::fsync:
            return synchronise(request);
        case abi::Operation::open_at2:
            return open(request);
        case abi::Operation::statx:
            return tell_status(request);
        case abi::Operation::send:
        case abi::Operation::send_message:
            return send(request);
        case abi::Operation::receive:
        case abi::Operation::receive_message:
            return receive(request);
        case abi::Operation::shutdown:
            return finish(request, request.file->is_socket()
                                       ? request.file->shutdown(static_cast<int>(request.entry.len))
                                       : -ENOTSOCK);
        case abi::Operation::message_ring:
            return message_ring(request);
        case abi::Operation::uring_command:
            return socket_command(request);
        default:
            // A linked timeout without anything to bound.
            return finish(request, -ECANCELED);
    }
}

BufferGroup* FrontEnd::group_of(std::uint16_t number) const noexcept {
    for (const auto& group : groups_) {
        if (group->number() == number) return group.get();
    }
    return nullptr;
}

// ---- readiness ----

FrontEnd::Outcome FrontEnd::poll(Request& request) {
    const std::uint32_t events = request.file->readiness() & events_of(request);
    if (events == 0) return Outcome::again;
    if (!request.multishot) return finish(request, static_cast<std::int32_t>(events));
    if (!request.polled) return Outcome::again;  // what holds already is work
    if (world_.fault(Fault::multishot_ends) || !post_more(request, static_cast<std::int32_t>(events), 0)) {
        return finish(request, static_cast<std::int32_t>(events));
    }
    return Outcome::waits;
}

// ---- sockets ----

FrontEnd::Outcome FrontEnd::accept(Request& request) {
    const abi::SubmissionEntry& entry = request.entry;
    if (!request.polled && (entry.ioprio & abi::accept_poll_first) != 0) return Outcome::again;
    for (std::uint32_t round = 0;; ++round) {
        // The number comes first on Linux: without one the connection stays in the backlog.
        if (descriptors_.full()) return finish(request, -EMFILE);
        if ((request.file->readiness() & POLLIN) != 0) {
            if (world_.fault(Fault::accept_no_descriptors)) return finish(request, -EMFILE);
            if (world_.fault(Fault::accept_aborted)) return finish(request, -ECONNABORTED);
        }
        auto accepted =
            request.file->accept(reinterpret_cast<sockaddr*>(entry.addr), reinterpret_cast<socklen_t*>(entry.addr2));
        if (!accepted) {
            if (accepted.error() != -EAGAIN) return finish(request, accepted.error());
            return request.multishot && request.polled ? Outcome::waits : Outcome::again;
        }
        const int fd = descriptors_.install(std::move(*accepted));
        request.idle_tries = 0;
        if (!request.multishot || fd < 0) return finish(request, fd);
        if (world_.fault(Fault::multishot_ends) || !post_more(request, fd, 0)) return finish(request, fd);
        if (features_.multishot_rounds != 0 && round == features_.multishot_rounds) return Outcome::requeue;
    }
}

FrontEnd::Outcome FrontEnd::receive(Request& request) {
    const abi::SubmissionEntry& entry = request.entry;
    File& file = *request.file;
    if (!file.is_socket()) return finish(request, -ENOTSOCK);
    if (!request.polled && (entry.ioprio & abi::receive_poll_first) != 0) return Outcome::again;
    const bool selects = selects_buffer(request);
    const bool whole = (entry.msg_flags & MSG_WAITALL) != 0;
    const std::size_t layout = layout_of(request);
    const int flags = static_cast<int>(entry.msg_flags) | MSG_DONTWAIT;
    for (std::uint32_t round = 0;; ++round) {
        BufferGroup* group = nullptr;
        BufferGroup::Choice choice;
        std::span<std::byte> into;
        if (request.held.data != nullptr) {
            into = {request.held.data + request.done, request.held.length - request.done};
        } else if (selects) {
            if (!request.polled && world_.fault(Fault::no_buffers_at_arm)) return finish(request, -ENOBUFS);
            if (request.polled && world_.fault(Fault::no_buffers_later)) return finish(request, -ENOBUFS);
            group = group_of(entry.buf_group);
            const std::size_t length = request.multishot            ? request.multishot_left
                                       : request.message != nullptr ? request.message->length
                                                                    : entry.len;
            if (group != nullptr) choice = group->choose(static_cast<std::uint32_t>(length));
            if (choice.data == nullptr) return finish(request, -ENOBUFS);
            into = {choice.data, choice.length};
            if (into.size() < layout) {
                group->put_back(choice);
                return finish(request, -EFAULT);
            }
            into = into.subspan(layout);
        } else {
            into = room_of(request);
        }
        const auto room = static_cast<std::int64_t>(into.size());
        if (into.size() > 1 && file.is_stream() && world_.fault(Fault::short_receive)) {
            into = into.first(1 + world_.random().below(into.size() - 1));
        }
        Ancillary with;
        with.descriptors = &descriptors_;
        if (request.message != nullptr) with.control = request.message->with.control;
        if (layout != 0) with.control = {into.data() - with.control.size(), with.control.size()};
        const std::int64_t got =
            request.message != nullptr ? file.receive_message(into, with, flags) : file.receive(into, flags);
        const bool laid_out = layout != 0 && got >= 0;
        if (request.message != nullptr && got >= 0 && !laid_out) scatter(request, static_cast<std::size_t>(got), with);
        if (got == -EAGAIN) {
            if (choice.data != nullptr) group->put_back(choice);
            return request.multishot && request.polled ? Outcome::waits : Outcome::again;
        }
        if (whole && got > 0 && got < room && file.is_stream()) {
            // It goes on with what it has, a selected buffer included.
            if (choice.data != nullptr) {
                request.flags = group->commit(choice, choice.length);
                request.held = choice;
            }
            request.done += static_cast<std::uint32_t>(got);
            request.partial = true;
            request.idle_tries = 0;
            keep_rest(request, static_cast<std::size_t>(got));
            return Outcome::again;
        }
        if (got <= 0 && !laid_out) {
            if (choice.data != nullptr) group->put_back(choice);
            if (got < 0 || (whole && room != 0)) mark_failed(request);
            request.result =
                request.done != 0 ? static_cast<std::int32_t>(request.done) : static_cast<std::int32_t>(got);
            if (got == 0 && file.nonempty()) request.flags |= abi::completion_socket_nonempty;
            return Outcome::done;
        }
        request.idle_tries = 0;
        std::uint32_t completion = request.held.data != nullptr ? request.flags : 0;
        const auto received = static_cast<std::size_t>(got);
        const std::size_t filled =
            laid_out ? lay_out(request, choice.data, into.size(), received, with) : std::min(received, into.size());
        if (choice.data != nullptr) completion = group->commit(choice, static_cast<std::uint32_t>(filled));
        if (file.nonempty()) completion |= abi::completion_socket_nonempty;
        const auto total = static_cast<std::int32_t>(laid_out ? filled : received + request.done);
        if (!request.multishot || received == 0) return finish(request, total, completion);
        if (request.multishot_left != 0) {
            request.multishot_left -= static_cast<std::uint32_t>(got);
            if (request.multishot_left == 0) return finish(request, total, completion);
        }
        if (world_.fault(Fault::multishot_ends) || !post_more(request, total, completion)) {
            return finish(request, total, completion);
        }
        // An end behind the bytes has been told of already, and is looked for at once.
        constexpr std::uint32_t ends = POLLRDHUP | POLLHUP | POLLERR;
        if (features_.trusts_emptiness && file.is_stream() && (completion & abi::completion_socket_nonempty) == 0 &&
            (file.readiness() & ends) == 0) {
            return request.polled ? Outcome::waits : Outcome::again;
        }
        if (features_.multishot_rounds != 0 && round == features_.multishot_rounds) return Outcome::requeue;
    }
}

FrontEnd::Outcome FrontEnd::send(Request& request) {
    const abi::SubmissionEntry& entry = request.entry;
    File& file = *request.file;
    if (!file.is_socket()) return finish(request, -ENOTSOCK);
    if (!request.polled && (entry.ioprio & abi::send_poll_first) != 0) return Outcome::again;
    const std::span<const std::byte> from = gather(request);
    const bool whole = (entry.msg_flags & MSG_WAITALL) != 0 && file.is_stream();
    std::span<const std::byte> now = from;
    if (from.size() > 1 && file.is_stream() && world_.fault(Fault::short_send)) {
        now = from.first(1 + world_.random().below(from.size() - 1));
    }
    const int flags = static_cast<int>(entry.msg_flags) | MSG_DONTWAIT;
    const std::int64_t sent =
        request.message != nullptr ? file.send_message(now, request.message->with, flags) : file.send(now, flags);
    if (sent == -EAGAIN) return Outcome::again;
    if (sent > 0 && whole && static_cast<std::size_t>(sent) < from.size()) {
        // Control messages have gone with the first part.
        if (request.message != nullptr) request.message->with.control = {};
        request.done += static_cast<std::uint32_t>(sent);
        request.partial = true;
        request.idle_tries = 0;
        keep_rest(request, static_cast<std::size_t>(sent));
        return Outcome::again;
    }
    if (sent < 0) mark_failed(request);
    const auto done = static_cast<std::int32_t>(request.done);
    request.result = sent >= 0   ? static_cast<std::int32_t>(sent) + done
                     : done != 0 ? done
                                 : static_cast<std::int32_t>(sent);
    return Outcome::done;
}

FrontEnd::Outcome FrontEnd::connect(Request& request) {
    if (!request.file->is_socket()) return finish(request, -ENOTSOCK);
    const Ancillary& to = request.message->with;
    const auto* const address = reinterpret_cast<const sockaddr*>(&to.name);
    if (request.in_progress && features_.connects_again && (request.file->readiness() & POLLERR) == 0) {
        const int result = request.file->connect(address, to.name_length);
        if (result == -EALREADY) return Outcome::again;
        if (result != -EISCONN) return finish(request, result);
    }
    if (request.in_progress) {
        // The socket knows how it went.
        int error = 0;
        socklen_t length = sizeof error;
        if (const int result = request.file->get_option(SOL_SOCKET, SO_ERROR, &error, &length); result < 0) {
            return finish(request, result);
        }
        if (error != 0) return finish(request, -error);
        return (request.file->readiness() & (POLLOUT | POLLERR | POLLHUP)) != 0 ? finish(request, 0) : Outcome::again;
    }
    if (!request.polled) {
        if (world_.fault(Fault::connect_refused)) {
            return fail_later(request, -ECONNREFUSED, world_.random().between(1, refusal_ns_max));
        }
        if (world_.fault(Fault::connect_unreachable)) {
            return world_.random().one_in(2) ? finish(request, -ENETUNREACH)
                                             : fail_later(request, -EHOSTUNREACH, no_neighbour_ns);
        }
        if (world_.fault(Fault::connect_vanishes)) return fail_later(request, -ETIMEDOUT, no_answer_ns);
    }
    const int result = request.file->connect(address, to.name_length);
    request.in_progress = result == -EINPROGRESS;
    if (result == -EINPROGRESS || result == -EAGAIN) return Outcome::again;
    return finish(request, result);
}

// Its socket is as it was before; a cancel ends it at once.
FrontEnd::Outcome FrontEnd::fail_later(Request& request, std::int32_t error, std::uint64_t delay_ns) {
    request.stage = Stage::working;
    requests_.insert(request);
    arm_linked_timeout(request);
    request.event_pending = true;
    request.event = world_.at(world_.now_ns() + delay_ns, [&request, error] {
        request.event_pending = false;
        request.ring->requests_.remove(request);
        request.ring->mark_failed(request);
        request.ring->end_later(request, error);
    });
    return Outcome::waits;
}

FrontEnd::Outcome FrontEnd::close(Request& request) {
    if (!request.delayed && world_.fault(Fault::close_delayed)) {
        request.delayed = true;
        start_at_worker(request, world_.random().between(1, close_delay_ns_max));
        return Outcome::waits;
    }
    const abi::SubmissionEntry& entry = request.entry;
    if (entry.file_index != 0) {
        const std::uint32_t slot = entry.file_index - 1;
        if (!has_files_) return finish(request, -ENXIO);
        if (slot >= files_.size()) return finish(request, -EINVAL);
        if (files_[slot] == nullptr) return finish(request, -EBADF);
        std::exchange(files_[slot], nullptr)->release();
        return finish(request, 0);
    }
    const std::shared_ptr<File> file = descriptors_.get(entry.fd);
    if (file == nullptr || dynamic_cast<FrontEnd*>(file.get()) != nullptr) return finish(request, -EBADF);
    descriptors_.remove(entry.fd);
    return finish(request, 0);
}

FrontEnd::Outcome FrontEnd::socket_command(Request& request) {
    const abi::SubmissionEntry& entry = request.entry;
    if (!features_.socket_commands || !request.file->is_socket()) return finish(request, -EOPNOTSUPP);
    const auto level = static_cast<int>(entry.socket_option.level);
    const auto name = static_cast<int>(entry.socket_option.optname);
    void* const value = reinterpret_cast<void*>(entry.optval);
    if (entry.cmd_op == abi::socket_get_option) {
        if (level != SOL_SOCKET) return finish(request, -EOPNOTSUPP);
        auto length = static_cast<socklen_t>(entry.optlen);
        const int result = request.file->get_option(level, name, value, &length);
        return finish(request, result < 0 ? result : static_cast<std::int32_t>(length));
    }
    if (entry.cmd_op == abi::socket_set_option) {
        return finish(request, request.file->set_option(level, name, value, static_cast<socklen_t>(entry.optlen)));
    }
    return finish(request, -EOPNOTSUPP);
}

// ---- rings ----

FrontEnd::Outcome FrontEnd::message_ring(Request& request) {
    const abi::SubmissionEntry& entry = request.entry;
    auto* const target = dynamic_cast<FrontEnd*>(request.file.get());
    if (target == nullptr) return finish(request, -EBADFD);
    if (entry.addr != abi::message_data) return finish(request, -EINVAL);
    const bool passes = (entry.msg_ring_flags & abi::message_flags_pass) != 0;
    if (entry.addr3 != 0 || (entry.msg_ring_flags & ~abi::message_flags_pass) != 0) return finish(request, -EINVAL);
    if (!passes && entry.file_index != 0) return finish(request, -EINVAL);
    return finish(request,
                  target->message(entry.off, static_cast<std::int32_t>(entry.len), passes ? entry.file_index : 0));
}

int FrontEnd::message(std::uint64_t user_data, std::int32_t result, std::uint32_t flags) {
    if (disabled_) return -EBADFD;
    if (closed_) return -EOWNERDEAD;
    if (features_.messages_are_work && defers() && owner_ != world_.current_fiber()) {
        messages_.push_back({user_data, result, flags});
        announce_work();
    } else {
        post(user_data, result, flags);
    }
    return 0;
}

}  // namespace ferrule::inline v0::sim
