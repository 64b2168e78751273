#include "sim/front_end.hpp"

#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>

namespace ferrule::inline v0::sim {

// Which memory of the program each request reads and writes.

namespace {

/// UIO_MAXIOV.
constexpr std::size_t parts_max = 1024;

std::span<std::byte> memory_at(const void* address, std::size_t length) noexcept {
    return {static_cast<std::byte*>(const_cast<void*>(address)), length};
}

bool writes(const Request& request) noexcept {
    return request.entry.opcode == abi::Operation::receive_message || request.entry.opcode == abi::Operation::readv ||
           request.entry.opcode == abi::Operation::statx;
}

int read_parts(MessageHeader& message, const iovec* parts, std::size_t count) {
    constexpr auto length_max = static_cast<std::size_t>(std::numeric_limits<int>::max());
    for (std::size_t index = 0; index < count; ++index) {
        const iovec& part = parts[index];
        if (static_cast<ssize_t>(part.iov_len) < 0) return -EINVAL;
        const std::size_t length = std::min(part.iov_len, length_max - message.length);
        message.length += length;
        message.parts.push_back(memory_at(part.iov_base, length));
    }
    return 0;
}

}  // namespace

// 0, or -errno: what is wrong with the header. A send to an address is a message of one part, a connect one of none.
int FrontEnd::read_header(Request& request) {
    const abi::SubmissionEntry& entry = request.entry;
    if (entry.opcode == abi::Operation::receive) return 0;
    if (entry.opcode == abi::Operation::connect) {
        if (entry.addr2 > sizeof(sockaddr_storage)) return -EINVAL;
        request.message = std::make_unique<MessageHeader>();
        Ancillary& to = request.message->with;
        to.name_length = static_cast<socklen_t>(entry.addr2);
        if (to.name_length != 0) std::memcpy(&to.name, reinterpret_cast<const void*>(entry.addr), to.name_length);
        return 0;
    }
    if (entry.opcode == abi::Operation::send) {
        if (entry.addr2 == 0) return 0;
        if (entry.addr_len > sizeof(sockaddr_storage)) return -EINVAL;
        request.message = std::make_unique<MessageHeader>();
        MessageHeader& message = *request.message;
        message.parts.push_back(memory_at(reinterpret_cast<const void*>(entry.addr), entry.len));
        message.length = entry.len;
        message.with.name_length = entry.addr_len;
        std::memcpy(&message.with.name, reinterpret_cast<const void*>(entry.addr2), entry.addr_len);
        return 0;
    }
    if (entry.opcode == abi::Operation::readv || entry.opcode == abi::Operation::writev) {
        if (entry.len > parts_max) return -EINVAL;
        request.message = std::make_unique<MessageHeader>();
        return read_parts(*request.message, reinterpret_cast<const iovec*>(entry.addr), entry.len);
    }
    auto* const header = reinterpret_cast<msghdr*>(entry.addr);
    if (header == nullptr) return -EFAULT;
    if (static_cast<int>(header->msg_namelen) < 0) return -EINVAL;
    request.message = std::make_unique<MessageHeader>();
    MessageHeader& message = *request.message;
    message.with.control = memory_at(header->msg_control, header->msg_controllen);
    message.with.descriptors = &descriptors_;
    if (writes(request)) {
        message.header = header;
        if (request.multishot) {
            // Its buffers have room for everything; the header only says for how much, once and for all.
            message.name_room = header->msg_namelen;
            return 0;
        }
        if (header->msg_name != nullptr) message.name = memory_at(header->msg_name, header->msg_namelen);
        if (selects_buffer(request) && header->msg_iovlen > 1) return -EINVAL;
    } else if (header->msg_name != nullptr) {
        message.with.name_length = std::min<socklen_t>(header->msg_namelen, sizeof message.with.name);
        std::memcpy(&message.with.name, header->msg_name, message.with.name_length);
    }
    if (header->msg_iovlen > parts_max) return -EMSGSIZE;
    return read_parts(message, header->msg_iov, header->msg_iovlen);
}

void FrontEnd::claim_memory(Request& request) {
    if (request.message != nullptr) {
        claim_message(request);
        return;
    }
    Claim& claim = request.claim;
    if (claim.length != 0) {
        if (claim.open) ownership_.shut(claim, 0);
        return;
    }
    const abi::SubmissionEntry& entry = request.entry;
    switch (entry.opcode) {
        case abi::Operation::receive:
        case abi::Operation::read:
            if (selects_buffer(request)) return;
            claim.access = Access::writes;
            break;
        case abi::Operation::send:
        case abi::Operation::write:
            claim.access = Access::reads;
            break;
        default:
            return;
    }
    claim.address = static_cast<std::uintptr_t>(entry.addr) + request.done;
    claim.length = entry.len - request.done;
    claim.operation = request.name();
    claim.user_data = entry.user_data;
    ownership_.claim(claim);
}

// Anew each time that it waits: what is done of it is the program's again.
void FrontEnd::claim_message(Request& request) {
    release_memory(request);
    MessageHeader& message = *request.message;
    message.claims.reserve(message.parts.size() + 3);
    const auto claim = [&](std::span<std::byte> memory) {
        if (memory.empty()) return;
        Claim& claimed = message.claims.emplace_back();
        claimed.access = writes(request) ? Access::writes : Access::reads;
        claimed.address = reinterpret_cast<std::uintptr_t>(memory.data());
        claimed.length = memory.size();
        claimed.operation = request.name();
        claimed.user_data = request.entry.user_data;
        claimed.may_be_sink = request.entry.opcode == abi::Operation::readv;
        ownership_.claim(claimed);
    };
    std::size_t done = request.done;
    for (const std::span<std::byte> part : message.parts) {
        const std::size_t skipped = std::min(done, part.size());
        done -= skipped;
        if (!selects_buffer(request)) claim(part.subspan(skipped));
    }
    if (request.multishot) return;
    claim(message.with.control);
    if (message.header != nullptr) claim(memory_at(message.header, sizeof *message.header));
    claim(message.name);
}

// It goes on with what is behind `done` bytes more.
void FrontEnd::keep_rest(Request& request, std::size_t done) {
    if (request.message == nullptr && request.claim.length != 0) ownership_.shut(request.claim, done);
}

void FrontEnd::release_memory(Request& request) {
    ownership_.release(request.claim);
    if (request.message == nullptr) return;
    for (Claim& claim : request.message->claims) ownership_.release(claim);
    request.message->claims.clear();
}

bool FrontEnd::has_memory(const Request& request) noexcept {
    return request.claim.length != 0 || (request.message != nullptr && !request.message->claims.empty());
}

std::span<std::byte> FrontEnd::memory_of(Request& request) {
    ownership_.open(request.claim);
    return {reinterpret_cast<std::byte*>(request.entry.addr) + request.done, request.entry.len - request.done};
}

// What is left to be sent, in one piece.
std::span<std::byte> FrontEnd::gather(Request& request) {
    if (request.message == nullptr) return memory_of(request);
    MessageHeader& message = *request.message;
    for (Claim& claim : message.claims) ownership_.open(claim);
    if (message.parts.size() == 1) return message.parts.front().subspan(request.done);
    message_bytes_.clear();
    std::size_t done = request.done;
    for (const std::span<std::byte> part : message.parts) {
        const std::size_t skipped = std::min(done, part.size());
        done -= skipped;
        message_bytes_.insert(message_bytes_.end(), part.begin() + static_cast<std::ptrdiff_t>(skipped), part.end());
    }
    return message_bytes_;
}

// Where what comes is received; `scatter` brings a message from there to its parts.
std::span<std::byte> FrontEnd::room_of(Request& request) {
    if (request.message == nullptr) return memory_of(request);
    MessageHeader& message = *request.message;
    if (message.claims.empty() && request.entry.opcode == abi::Operation::readv)
        for (const std::span<std::byte> part : message.parts) ownership_.read_beside(part);
    for (Claim& claim : message.claims) ownership_.open(claim);
    message_bytes_.resize(message.length - request.done);
    return message_bytes_;
}

void FrontEnd::scatter(Request& request, std::size_t received, const Ancillary& with) {
    MessageHeader& message = *request.message;
    std::size_t skipped = request.done;
    std::size_t from = 0;
    for (const std::span<std::byte> part : message.parts) {
        if (selects_buffer(request)) break;
        const std::size_t behind = std::min(skipped, part.size());
        skipped -= behind;
        const std::size_t taken = std::min(part.size() - behind, std::min(received, message_bytes_.size()) - from);
        if (taken != 0) std::memcpy(part.data() + behind, message_bytes_.data() + from, taken);
        from += taken;
    }
    if (message.header == nullptr) return;
    if (!message.name.empty()) {
        std::memcpy(message.name.data(), &with.name, std::min<std::size_t>(message.name.size(), with.name_length));
    }
    if (message.header->msg_name != nullptr) message.header->msg_namelen = with.name_length;
    message.header->msg_controllen = with.control_length;
    message.header->msg_flags = with.flags;
}

// The layout of a multishot's buffer: a header, room for the name, room for control messages, the payload.
std::size_t FrontEnd::layout_of(const Request& request) noexcept {
    if (request.message == nullptr || !request.multishot) return 0;
    return sizeof(abi::ReceiveMessageHeader) + request.message->name_room + request.message->with.control.size();
}

// What the completion says: with a payload of so many bytes, of which the buffer has room for `room`.
std::size_t FrontEnd::lay_out(const Request& request, std::byte* buffer, std::size_t room, std::size_t received,
                              const Ancillary& with) {
    const abi::ReceiveMessageHeader header{
        static_cast<std::uint32_t>(with.name_length), static_cast<std::uint32_t>(with.control_length),
        static_cast<std::uint32_t>(received), static_cast<std::uint32_t>(with.flags)};
    std::memcpy(buffer, &header, sizeof header);
    const std::size_t name = std::min<std::size_t>(request.message->name_room, with.name_length);
    std::memcpy(buffer + sizeof header, &with.name, name);
    return layout_of(request) + std::min(received, room);
}

}  // namespace ferrule::inline v0::sim
