#include "net/dns_message.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace ferrule::inline v0 {

namespace {

using Bytes = std::span<const std::byte>;

constexpr std::size_t header_bytes = 12;
constexpr std::uint16_t internet_class = 1;

// The second word of the header (RFC 1035, section 4.1.1).
constexpr std::uint16_t flag_response = 0x8000;
constexpr std::uint16_t operation_mask = 0x7800;
constexpr std::uint16_t flag_authoritative = 0x0400;
constexpr std::uint16_t flag_truncated = 0x0200;
constexpr std::uint16_t flag_recursion_desired = 0x0100;
constexpr std::uint16_t flag_recursion_available = 0x0080;
constexpr std::uint16_t response_code_mask = 0x000f;

constexpr unsigned no_error = 0;
constexpr unsigned format_error = 1;
constexpr unsigned name_error = 3;
constexpr unsigned not_implemented = 4;
constexpr unsigned refused = 5;
constexpr unsigned bad_version = 16;  // with the upper bits from the option record

constexpr std::uint8_t pointer_bits = 0xc0;
/// What a pointer of two bytes can reach.
constexpr std::size_t pointer_mask = 0x3fff;

std::uint8_t lower(std::uint8_t byte) noexcept {
    return byte >= 'A' && byte <= 'Z' ? static_cast<std::uint8_t>(byte + ('a' - 'A')) : byte;
}

bool is_letter(std::uint8_t byte) noexcept {
    return lower(byte) >= 'a' && lower(byte) <= 'z';
}

std::uint8_t byte_at(Bytes bytes, std::size_t offset) noexcept {
    return std::to_integer<std::uint8_t>(bytes[offset]);
}

std::uint16_t word_at(Bytes bytes, std::size_t offset) noexcept {
    return static_cast<std::uint16_t>(byte_at(bytes, offset) << 8 | byte_at(bytes, offset + 1));
}

std::uint32_t double_word_at(Bytes bytes, std::size_t offset) noexcept {
    return std::uint32_t{word_at(bytes, offset)} << 16 | word_at(bytes, offset + 2);
}

void put_word(std::span<std::byte> out, std::size_t& at, std::uint16_t value) noexcept {
    out[at++] = std::byte(value >> 8);
    out[at++] = std::byte(value & 0xff);
}

/// Where what follows the name at `offset` begins; nothing when the name does not end within the message.
std::optional<std::size_t> skip_name(Bytes message, std::size_t offset) noexcept {
    for (std::size_t length = 0; offset < message.size();) {
        const std::uint8_t size = byte_at(message, offset);
        if (size == 0) return offset + 1;
        if ((size & pointer_bits) == pointer_bits) {
            if (message.size() - offset < 2) return std::nullopt;
            return offset + 2;
        }
        if ((size & pointer_bits) != 0) return std::nullopt;
        length += size + 1u;
        if (length >= DnsName::bytes_max) return std::nullopt;
        offset += size + 1u;
    }
    return std::nullopt;
}

/// The name at `offset`, whose rest may stand before it (RFC 1035, section 4.1.4). A pointer that does not point
/// backwards, which is what a loop of them needs, makes it no name.
std::optional<DnsName> read_name(Bytes message, std::size_t offset) {
    std::string wire;
    for (std::size_t begin = offset; offset < message.size();) {
        const std::uint8_t size = byte_at(message, offset);
        if ((size & pointer_bits) == pointer_bits) {
            if (message.size() - offset < 2) return std::nullopt;
            const std::size_t target = word_at(message, offset) & pointer_mask;
            if (target >= begin || target < header_bytes) return std::nullopt;
            begin = offset = target;
            continue;
        }
        if ((size & pointer_bits) != 0 || message.size() - offset <= size) return std::nullopt;
        if (wire.size() + size + 1 > DnsName::bytes_max) return std::nullopt;
        wire.push_back(static_cast<char>(size));
        if (size == 0) return DnsName::from_wire(std::move(wire));
        for (std::size_t index = 1; index <= size; ++index) {
            wire.push_back(static_cast<char>(lower(byte_at(message, offset + index))));
        }
        offset += size + 1u;
    }
    return std::nullopt;
}

struct Record {
    std::size_t name = 0;
    std::uint16_t type = 0;
    std::uint16_t record_class = 0;
    std::uint32_t ttl_seconds = 0;
    std::size_t data = 0;
    std::uint16_t size = 0;

    [[nodiscard]] bool is(DnsType wanted) const noexcept {
        return record_class == internet_class && type == static_cast<std::uint16_t>(wanted);
    }
};

/// The record at `offset`, which is moved behind it; nothing when it does not lie within the message.
std::optional<Record> read_record(Bytes message, std::size_t& offset) noexcept {
    constexpr std::size_t fixed_bytes = 10;
    const auto behind = skip_name(message, offset);
    if (!behind || message.size() - *behind < fixed_bytes) return std::nullopt;
    Record record;
    record.name = offset;
    record.type = word_at(message, *behind);
    record.record_class = word_at(message, *behind + 2);
    record.ttl_seconds = double_word_at(message, *behind + 4);
    // One with the highest bit set is no number of seconds (RFC 2181, section 8).
    if (record.ttl_seconds > 0x7fff'ffff) record.ttl_seconds = 0;
    record.size = word_at(message, *behind + 8);
    record.data = *behind + fixed_bytes;
    if (message.size() - record.data < record.size) return std::nullopt;
    offset = record.data + record.size;
    return record;
}

/// The last number of a start of authority: how long what is not there may be remembered (RFC 2308, section 4).
std::optional<std::uint32_t> minimum_of(Bytes message, const Record& authority) noexcept {
    constexpr std::size_t numbers_bytes = 20;
    const Bytes until_end = message.first(authority.data + authority.size);
    const auto mailbox = skip_name(until_end, authority.data);
    if (!mailbox) return std::nullopt;
    const auto numbers = skip_name(until_end, *mailbox);
    if (!numbers || until_end.size() - *numbers != numbers_bytes) return std::nullopt;
    return double_word_at(message, *numbers + numbers_bytes - 4);
}

/// What the sections of a message say, as far as this resolver asks.
struct Sections {
    std::vector<Record> answers;
    std::optional<Record> authority;
    bool has_name_servers = false;
    unsigned extended_code = 0;  ///< the upper bits of the response code
};

std::optional<Sections> read_sections(Bytes message, std::size_t offset) {
    Sections sections;
    const std::size_t answers = word_at(message, 6);
    const std::size_t authorities = answers + word_at(message, 8);
    const std::size_t all = authorities + word_at(message, 10);
    for (std::size_t index = 0; index < all; ++index) {
        const auto record = read_record(message, offset);
        if (!record) return std::nullopt;
        if (index < answers) {
            if (sections.answers.size() < dns_record_max) sections.answers.push_back(*record);
        } else if (index < authorities) {
            if (record->is(DnsType::start_of_authority) && !sections.authority) sections.authority = *record;
            if (record->is(DnsType::name_server)) sections.has_name_servers = true;
        } else if (record->type == static_cast<std::uint16_t>(DnsType::options)) {
            // In its place for the time to live are the upper bits of the code, then the version and flags.
            sections.extended_code = double_word_at(message, record->data - 6) >> 24;
        }
    }
    return sections;
}

/// Compares the question of the reply with that of the query: the name must be there as it was sent.
enum class Echo : std::uint8_t { exact, other_case, different };
Echo compare_questions(Bytes message, Bytes query, std::size_t size) noexcept {
    if (message.size() < header_bytes + size) return Echo::different;
    const Bytes sent = query.subspan(header_bytes, size);
    const Bytes echoed = message.subspan(header_bytes, size);
    if (std::equal(sent.begin(), sent.end(), echoed.begin())) return Echo::exact;
    const auto same = [](std::byte left, std::byte right) {
        return lower(std::to_integer<std::uint8_t>(left)) == lower(std::to_integer<std::uint8_t>(right));
    };
    return std::equal(sent.begin(), sent.end(), echoed.begin(), same) ? Echo::other_case : Echo::different;
}

DnsReply reply_of(DnsReplyKind kind) {
    DnsReply reply;
    reply.kind = kind;
    return reply;
}

/// Follows the name through the aliases of the answer: `current` is where it ends, with what is there in the reply.
DnsReply follow(Bytes message, const std::vector<Record>& answers, const DnsQuestion& question, DnsName& current) {
    const std::size_t address_bytes = question.type == DnsType::a ? 4 : 16;
    DnsReply reply = reply_of(DnsReplyKind::no_data);
    reply.ttl_seconds = ~std::uint32_t{0};
    for (unsigned aliases = 0;; ++aliases) {
        std::optional<DnsName> target;
        std::uint32_t target_seconds = 0;
        for (const Record& record : answers) {
            const bool is_alias = record.is(DnsType::canonical_name) && !target;
            if (!is_alias && !record.is(question.type)) continue;
            const auto name = read_name(message, record.name);
            if (!name) return reply_of(DnsReplyKind::malformed);
            if (*name != current) continue;
            if (is_alias) {
                const Bytes until_end = message.first(record.data + record.size);
                target = read_name(until_end, record.data);
                if (!target || skip_name(until_end, record.data) != until_end.size())
                    return reply_of(DnsReplyKind::malformed);
                target_seconds = record.ttl_seconds;
                continue;
            }
            if (record.size != address_bytes) return reply_of(DnsReplyKind::malformed);
            if (reply.addresses.size() < dns_address_max) {
                DnsAddress& address = reply.addresses.emplace_back();
                std::memcpy(address.data(), message.data() + record.data, address_bytes);
            }
            reply.ttl_seconds = std::min(reply.ttl_seconds, record.ttl_seconds);
        }
        if (!reply.addresses.empty()) {
            reply.kind = DnsReplyKind::answer;
            return reply;
        }
        if (!target) return reply;
        // A loop among aliases ends here, too.
        if (aliases == dns_alias_max) return reply_of(DnsReplyKind::malformed);
        current = std::move(*target);
        reply.ttl_seconds = std::min(reply.ttl_seconds, target_seconds);
    }
}

}  // namespace

// ---- names ----

std::expected<DnsName, std::string_view> DnsName::parse(std::string_view text) {
    if (text.ends_with('.')) text.remove_suffix(1);
    if (text.empty()) return std::unexpected("the name is empty");
    // Each label has one byte for its length where the text has a dot, and there is the empty one at the end.
    if (text.size() + 2 > bytes_max) return std::unexpected("a name has at most 253 characters");
    DnsName name;
    name.wire_.clear();
    name.wire_.reserve(text.size() + 2);
    while (!text.empty()) {
        const std::string_view label = text.substr(0, text.find('.'));
        if (label.empty()) return std::unexpected("there is nothing between two dots");
        if (label.size() > label_max) return std::unexpected("a part between dots has at most 63 characters");
        name.wire_.push_back(static_cast<char>(label.size()));
        for (const char character : label) {
            const auto byte = static_cast<std::uint8_t>(character);
            if (byte >= 0x80) {
                return std::unexpected("only ASCII: give an internationalised name in the form that begins with xn--");
            }
            if (!is_letter(byte) && (byte < '0' || byte > '9') && byte != '-' && byte != '_') {
                return std::unexpected("only letters, digits, '-', '_' and '.'");
            }
            name.wire_.push_back(static_cast<char>(lower(byte)));
        }
        text.remove_prefix(label.size());
        if (!text.empty()) {
            text.remove_prefix(1);
            if (text.empty()) return std::unexpected("there is nothing between two dots");
        }
    }
    name.wire_.push_back('\0');
    return name;
}

DnsName DnsName::from_wire(std::string wire) noexcept {
    DnsName name;
    name.wire_ = std::move(wire);
    return name;
}

std::optional<DnsName> DnsName::below(const DnsName& parent) const {
    const std::size_t own = wire_.size() - 1;
    if (own + parent.wire_.size() > bytes_max) return std::nullopt;
    return from_wire(wire_.substr(0, own) + parent.wire_);
}

bool DnsName::within(const DnsName& ancestor) const noexcept {
    std::string_view rest = wire_;
    while (rest.size() > ancestor.wire_.size()) rest.remove_prefix(static_cast<std::uint8_t>(rest.front()) + 1u);
    return rest == ancestor.wire_;
}

std::string DnsName::text() const {
    std::string text;
    for (std::size_t at = 0; wire_[at] != '\0';) {
        const std::size_t end = at + static_cast<std::uint8_t>(wire_[at]) + 1u;
        if (at != 0) text += '.';
        for (++at; at < end; ++at) {
            const auto byte = static_cast<std::uint8_t>(wire_[at]);
            if (byte > ' ' && byte < 0x7f && byte != '.' && byte != '\\') {
                text += wire_[at];
            } else {
                text += '\\';
                text += static_cast<char>('0' + byte / 100);
                text += static_cast<char>('0' + byte / 10 % 10);
                text += static_cast<char>('0' + byte % 10);
            }
        }
    }
    return text.empty() ? "." : text;
}

// ---- messages ----

std::size_t write_dns_query(std::span<std::byte, dns_query_bytes_max> out, const DnsQuestion& question,
                            const DnsQueryOptions& options) noexcept {
    std::size_t at = 0;
    put_word(out, at, options.id);
    put_word(out, at, flag_recursion_desired);
    put_word(out, at, 1);
    put_word(out, at, 0);
    put_word(out, at, 0);
    put_word(out, at, options.extended ? 1 : 0);
    std::size_t letter = 0;
    std::size_t label_end = 0;
    const std::string_view wire = question.name.wire();
    for (std::size_t index = 0; index < wire.size(); ++index) {
        auto byte = static_cast<std::uint8_t>(wire[index]);
        if (index == label_end) {
            label_end += byte + 1u;
        } else if (is_letter(byte)) {
            if ((options.case_bits[letter / 8] >> letter % 8 & 1) != 0) byte = static_cast<std::uint8_t>(byte ^ 0x20);
            ++letter;
        }
        out[at++] = std::byte(byte);
    }
    put_word(out, at, static_cast<std::uint16_t>(question.type));
    put_word(out, at, internet_class);
    if (options.extended) {
        out[at++] = std::byte{0};
        put_word(out, at, static_cast<std::uint16_t>(DnsType::options));
        put_word(out, at, dns_udp_bytes);
        put_word(out, at, 0);
        put_word(out, at, 0);
        put_word(out, at, 0);
    }
    return at;
}

DnsReply read_dns_reply(std::span<const std::byte> message, std::span<const std::byte> query,
                        const DnsQuestion& question) {
    if (message.size() < header_bytes || word_at(message, 0) != word_at(query, 0))
        return reply_of(DnsReplyKind::foreign);
    const std::uint16_t flags = word_at(message, 2);
    if ((flags & flag_response) == 0 || (flags & operation_mask) != 0) return reply_of(DnsReplyKind::foreign);
    const unsigned basic_code = flags & response_code_mask;
    const std::size_t questions = word_at(message, 4);
    // Who does not understand the query cannot always repeat its question. All that it can do is to make us ask again
    // in the older form.
    if (questions == 0 && (basic_code == format_error || basic_code == not_implemented))
        return reply_of(DnsReplyKind::format_error);
    const std::size_t question_bytes = question.name.wire().size() + 4;
    if (questions != 1) return reply_of(DnsReplyKind::foreign);
    switch (compare_questions(message, query, question_bytes)) {
        case Echo::different:
            return reply_of(DnsReplyKind::foreign);
        case Echo::other_case:
            return reply_of(DnsReplyKind::wrong_case);
        case Echo::exact:
            break;
    }
    if ((flags & flag_truncated) != 0) return reply_of(DnsReplyKind::truncated);
    const auto sections = read_sections(message, header_bytes + question_bytes);
    if (!sections) return reply_of(DnsReplyKind::malformed);
    const unsigned code = sections->extended_code << 4 | basic_code;
    if (code == format_error || code == not_implemented || code == bad_version)
        return reply_of(DnsReplyKind::format_error);
    if (code == refused) return reply_of(DnsReplyKind::refused);
    if (code != no_error && code != name_error) return reply_of(DnsReplyKind::server_failure);

    DnsName end = question.name;
    DnsReply reply = follow(message, sections->answers, question, end);
    if (reply.kind == DnsReplyKind::malformed) return reply;
    if (code == name_error) {
        // The code is that of the last name (RFC 6604, section 3).
        reply.kind = DnsReplyKind::no_such_name;
        reply.addresses.clear();
    }
    if (reply.kind == DnsReplyKind::answer) return reply;
    const std::uint32_t alias_seconds = reply.ttl_seconds;
    reply.ttl_seconds = 0;
    if (sections->authority) {
        const auto owner = read_name(message, sections->authority->name);
        const auto minimum = minimum_of(message, *sections->authority);
        if (!owner || !minimum) return reply_of(DnsReplyKind::malformed);
        if (end.within(*owner))
            reply.negative_seconds = std::min({*minimum, sections->authority->ttl_seconds, alias_seconds});
        return reply;
    }
    const bool is_final = (flags & flag_authoritative) != 0 ||
                          ((flags & flag_recursion_available) != 0 && !sections->has_name_servers) ||
                          !sections->answers.empty();
    if (reply.kind == DnsReplyKind::no_data && !is_final) return reply_of(DnsReplyKind::referral);
    return reply;
}

Address to_address(const DnsAddress& address, DnsType type) {
    if (type == DnsType::a) {
        sockaddr_in ipv4{};
        ipv4.sin_family = AF_INET;
        std::memcpy(&ipv4.sin_addr, address.data(), sizeof ipv4.sin_addr);
        return *Address::from(reinterpret_cast<const sockaddr*>(&ipv4), sizeof ipv4);
    }
    sockaddr_in6 ipv6{};
    ipv6.sin6_family = AF_INET6;
    std::memcpy(&ipv6.sin6_addr, address.data(), sizeof ipv6.sin6_addr);
    return *Address::from(reinterpret_cast<const sockaddr*>(&ipv6), sizeof ipv6);
}

}  // namespace ferrule::inline v0
