#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

namespace ferrule_test {

/// A query as a name server sees it. Its own code, so that what the resolver writes is read by somebody else.
struct DnsQueryView {
    std::uint16_t id = 0;
    std::uint16_t flags = 0;
    std::uint16_t type = 0;
    bool extended = false;  ///< has an option record
    std::string name;       ///< with dots, letters as they were sent
    std::string question;   ///< its bytes

    /// Reads it; throws when it is none.
    static DnsQueryView read(std::string_view message) {
        const auto word = [&](std::size_t at) {
            return static_cast<std::uint16_t>(static_cast<std::uint8_t>(message.at(at)) << 8 |
                                              static_cast<std::uint8_t>(message.at(at + 1)));
        };
        DnsQueryView view;
        view.id = word(0);
        view.flags = word(2);
        if (word(4) != 1 || word(6) != 0 || word(8) != 0) throw std::runtime_error("not one question");
        view.extended = word(10) == 1;
        std::size_t at = 12;
        while (message.at(at) != '\0') {
            const auto size = static_cast<std::uint8_t>(message.at(at));
            if (!view.name.empty()) view.name += '.';
            view.name += message.substr(at + 1, size);
            at += size + 1u;
        }
        view.type = word(at + 1);
        if (word(at + 3) != 1) throw std::runtime_error("not the class IN");
        view.question = message.substr(12, at + 5 - 12);
        if (message.size() != at + 5 + (view.extended ? 11 : 0)) throw std::runtime_error("bytes behind the query");
        return view;
    }

    /// The name in lower case.
    std::string lower_name() const {
        std::string lower = name;
        for (char& letter : lower) {
            if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter + 32);
        }
        return lower;
    }
};

/// A message made field by field, right or wrong.
class DnsMessage {
public:
    static constexpr std::uint16_t a = 1;
    static constexpr std::uint16_t name_server = 2;
    static constexpr std::uint16_t canonical_name = 5;
    static constexpr std::uint16_t start_of_authority = 6;
    static constexpr std::uint16_t aaaa = 28;
    static constexpr std::uint16_t options = 41;
    /// A response to a query that asked for recursion, from a server that does it.
    static constexpr std::uint16_t response = 0x8180;
    static constexpr std::uint16_t truncated = 0x0200;

    DnsMessage() : bytes_(12, '\0') {}

    /// Header and question of the answer to the query.
    static DnsMessage answer_to(const DnsQueryView& query, unsigned code = 0) {
        DnsMessage message;
        message.set_id(query.id).set_flags(static_cast<std::uint16_t>(response | code));
        message.bytes_ += query.question;
        message.set_word(4, 1);
        return message;
    }

    DnsMessage& set_id(std::uint16_t id) { return set_word(0, id); }
    DnsMessage& set_flags(std::uint16_t flags) { return set_word(2, flags); }
    DnsMessage& set_word(std::size_t at, std::uint16_t value) {
        bytes_[at] = static_cast<char>(value >> 8);
        bytes_[at + 1] = static_cast<char>(value & 0xff);
        return *this;
    }
    std::uint16_t word(std::size_t at) const {
        return static_cast<std::uint16_t>(static_cast<std::uint8_t>(bytes_[at]) << 8 |
                                          static_cast<std::uint8_t>(bytes_[at + 1]));
    }

    DnsMessage& question(std::string_view name, std::uint16_t type) {
        bytes_ += wire(name);
        put_word(type);
        put_word(1);
        return set_word(4, static_cast<std::uint16_t>(word(4) + 1));
    }

    /// A record behind those before it: answers first, then authorities, then the rest.
    DnsMessage& record(std::size_t count_at, std::string_view name_bytes, std::uint16_t type, std::uint32_t ttl,
                       std::string_view data) {
        bytes_ += name_bytes;
        put_word(type);
        put_word(1);
        put_word(static_cast<std::uint16_t>(ttl >> 16));
        put_word(static_cast<std::uint16_t>(ttl & 0xffff));
        put_word(static_cast<std::uint16_t>(data.size()));
        bytes_ += data;
        return set_word(count_at, static_cast<std::uint16_t>(word(count_at) + 1));
    }
    DnsMessage& answer(std::string_view name, std::uint16_t type, std::uint32_t ttl, std::string_view data) {
        return record(6, wire(name), type, ttl, data);
    }
    DnsMessage& ipv4(std::string_view name, std::uint32_t ttl, std::uint32_t address) {
        return answer(name, a, ttl, ipv4_data(address));
    }
    DnsMessage& ipv6(std::string_view name, std::uint32_t ttl, std::uint8_t last) {
        return answer(name, aaaa, ttl, ipv6_data(last));
    }
    DnsMessage& alias(std::string_view name, std::uint32_t ttl, std::string_view target) {
        return answer(name, canonical_name, ttl, wire(target));
    }
    DnsMessage& authority(std::string_view zone, std::uint32_t ttl, std::uint32_t minimum) {
        std::string data = wire("ns." + std::string(zone)) + wire("admin." + std::string(zone));
        for (const std::uint32_t number : {1u, 3600u, 600u, 86400u, minimum}) {
            for (int shift = 24; shift >= 0; shift -= 8) data += static_cast<char>(number >> shift & 0xff);
        }
        return record(8, wire(zone), start_of_authority, ttl, data);
    }
    DnsMessage& raw(std::string_view bytes) {
        bytes_ += bytes;
        return *this;
    }

    const std::string& bytes() const { return bytes_; }
    std::span<const std::byte> span() const { return std::as_bytes(std::span(bytes_)); }
    /// As TCP carries it: behind its length.
    std::string with_length() const {
        std::string all;
        all += static_cast<char>(bytes_.size() >> 8 & 0xff);
        all += static_cast<char>(bytes_.size() & 0xff);
        return all + bytes_;
    }

    static std::string wire(std::string_view name) {
        std::string wire;
        while (!name.empty()) {
            const std::string_view label = name.substr(0, name.find('.'));
            wire += static_cast<char>(label.size());
            wire += label;
            name.remove_prefix(label.size());
            if (!name.empty()) name.remove_prefix(1);
        }
        wire += '\0';
        return wire;
    }
    static std::string pointer(std::uint16_t target) {
        return {static_cast<char>(0xc0 | target >> 8), static_cast<char>(target & 0xff)};
    }
    static std::string ipv4_data(std::uint32_t address) {
        std::string data;
        for (int shift = 24; shift >= 0; shift -= 8) data += static_cast<char>(address >> shift & 0xff);
        return data;
    }
    /// 2001:db8:: with this last byte.
    static std::string ipv6_data(std::uint8_t last) {
        std::string data("\x20\x01\x0d\xb8", 4);
        data += std::string(11, '\0');
        data += static_cast<char>(last);
        return data;
    }

private:
    void put_word(std::uint16_t value) {
        bytes_ += static_cast<char>(value >> 8);
        bytes_ += static_cast<char>(value & 0xff);
    }
    std::string bytes_;
};

}  // namespace ferrule_test
