#include <ferrule/net/proxy_header.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace std::string_literals;
using ferrule::Address;
using ferrule::ProxyHeader;
using ferrule::ProxyHeaderError;
using ferrule::ProxyVersion;

using Result = std::expected<std::optional<ProxyHeader>, ProxyHeaderError>;

/// Reads from memory that ends where the bytes do, so that a sanitizer sees each byte too many.
Result read(std::string_view bytes) {
    const auto exact = std::make_unique<std::byte[]>(bytes.size());
    std::memcpy(exact.get(), bytes.data(), bytes.size());
    return ferrule::read_proxy_header({exact.get(), bytes.size()});
}

/// What a result says, for comparison and for the reader of a failure.
std::string said(const Result& result) {
    if (!result) return std::string("refused: ") + to_string(result.error());
    if (!*result) return "more";
    const ProxyHeader& header = **result;
    return std::string(header.local ? "local " : "") + header.source.to_string() + " > " +
           header.destination.to_string() + ", " + std::to_string(header.size) + " bytes";
}

/// Version 2, as `command` and `family` say, in front of the rest.
std::string binary(unsigned command, unsigned family, std::string_view rest) {
    std::string bytes("\r\n\r\n\0\r\nQUIT\n", 12);
    bytes += static_cast<char>(command);
    bytes += static_cast<char>(family);
    bytes += static_cast<char>(rest.size() >> 8);
    bytes += static_cast<char>(rest.size() & 0xff);
    return bytes.append(rest);
}

std::string tlv(unsigned type, std::string_view value) {
    std::string bytes(1, static_cast<char>(type));
    bytes += static_cast<char>(value.size() >> 8);
    bytes += static_cast<char>(value.size() & 0xff);
    return bytes.append(value);
}

const std::string ipv4_block("\xc0\x00\x02\x01\xcb\x00\x71\x07\xc8\x70\x01\xbb",
                             12);  // 192.0.2.1:51312 > 203.0.113.7:443
const std::string ipv6_block = "\x20\x01\x0d\xb8"s + std::string(11, '\0') + "\x01"s + "\x20\x01\x0d\xb8"s +
                               std::string(11, '\0') + "\x02\xc8\x70\x01\xbb"s;

std::string unix_block(std::string source, std::string destination) {
    source.resize(108, '\0');
    destination.resize(108, '\0');
    return source + destination;
}

/// CRC32c of the header, put where `at` says.
std::string with_checksum(std::string header, std::size_t at) {
    std::uint32_t sum = ~0u;
    for (const char character : header) {
        sum ^= static_cast<unsigned char>(character);
        for (unsigned bit = 0; bit < 8; ++bit) sum = (sum >> 1) ^ ((sum & 1) != 0 ? 0x82f63b78u : 0u);
    }
    sum = ~sum;
    for (unsigned index = 0; index < 4; ++index) header[at + index] = static_cast<char>(sum >> (24 - 8 * index));
    return header;
}

struct Case {
    std::string name;
    std::string bytes;
    std::string expected;
};

const std::vector<Case>& cases() {
    static const std::vector<Case> all = [] {
        const std::string checked = binary(0x21, 0x11, ipv4_block + tlv(0x03, "\0\0\0\0"s) + tlv(0x04, "no-op"));
        std::string spoilt = with_checksum(checked, 31);
        spoilt[20] = '\x7f';
        const std::string longest_line = "PROXY UNKNOWN " + std::string(107 - 14 - 2, 'f') + "\r\n";
        return std::vector<Case>{
            {"line_ipv4", "PROXY TCP4 192.0.2.1 203.0.113.7 51312 443\r\n",
             "192.0.2.1:51312 > 203.0.113.7:443, 44 bytes"},
            {"line_largest_ipv4", "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
             "255.255.255.255:65535 > 255.255.255.255:65535, 56 bytes"},
            {"line_ports_of_zero", "PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", "0.0.0.0:0 > 0.0.0.0:0, 32 bytes"},
            {"line_ipv6", "PROXY TCP6 2001:db8::1 2001:db8::2 51312 443\r\n",
             "[2001:db8::1]:51312 > [2001:db8::2]:443, 46 bytes"},
            {"line_longest_ipv6",
             "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 "
             "65535\r\n",
             "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535 > [ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535, 104 "
             "bytes"},
            {"line_mapped", "PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", "[::ffff:192.0.2.1]:1 > [::1]:2, 37 bytes"},
            {"line_unknown", "PROXY UNKNOWN\r\n", "none > none, 15 bytes"},
            {"line_unknown_and_more", "PROXY UNKNOWN ffff::1 anything  at all\r\n", "none > none, 40 bytes"},
            {"line_unknown_longest", longest_line, "none > none, 107 bytes"},
            {"line_too_long", "PROXY UNKNOWN " + std::string(107 - 14 - 1, 'f') + "\r\n", "refused: too_long"},
            {"line_without_end", "PROXY TCP4 " + std::string(200, '1'), "refused: too_long"},
            {"line_other_word", "PROXY TCP5 192.0.2.1 203.0.113.7 1 2\r\n", "refused: family"},
            {"line_lower_case", "proxy TCP4 192.0.2.1 203.0.113.7 1 2\r\n", "refused: signature"},
            {"line_lower_case_family", "PROXY tcp4 192.0.2.1 203.0.113.7 1 2\r\n", "refused: family"},
            {"line_unknown_run_on", "PROXY UNKNOWNS\r\n", "refused: family"},
            {"line_empty", "PROXY \r\n", "refused: family"},
            {"line_two_spaces", "PROXY TCP4  192.0.2.1 203.0.113.7 1 2\r\n", "refused: address"},
            {"line_tab", "PROXY TCP4\t192.0.2.1 203.0.113.7 1 2\r\n", "refused: family"},
            {"line_space_at_end", "PROXY TCP4 192.0.2.1 203.0.113.7 1 2 \r\n", "refused: address"},
            {"line_word_missing", "PROXY TCP4 192.0.2.1 203.0.113.7 1\r\n", "refused: address"},
            {"line_word_too_many", "PROXY TCP4 192.0.2.1 203.0.113.7 1 2 3\r\n", "refused: address"},
            {"line_ipv6_as_ipv4", "PROXY TCP4 ::1 ::2 1 2\r\n", "refused: address"},
            {"line_ipv4_as_ipv6", "PROXY TCP6 192.0.2.1 203.0.113.7 1 2\r\n", "refused: address"},
            {"line_leading_zero", "PROXY TCP4 192.0.02.1 203.0.113.7 1 2\r\n", "refused: address"},
            {"line_number_too_large", "PROXY TCP4 192.0.2.256 203.0.113.7 1 2\r\n", "refused: address"},
            {"line_three_numbers", "PROXY TCP4 192.0.2 203.0.113.7 1 2\r\n", "refused: address"},
            {"line_zone", "PROXY TCP6 fe80::1%1 ::2 1 2\r\n", "refused: address"},
            {"line_zero_inside", "PROXY TCP4 192.0.2.1"s + '\0' + "9 203.0.113.7 1 2\r\n", "refused: address"},
            {"line_port_leading_zero", "PROXY TCP4 192.0.2.1 203.0.113.7 01 2\r\n", "refused: address"},
            {"line_port_too_large", "PROXY TCP4 192.0.2.1 203.0.113.7 65536 2\r\n", "refused: address"},
            {"line_port_negative", "PROXY TCP4 192.0.2.1 203.0.113.7 -1 2\r\n", "refused: address"},
            {"line_port_signed", "PROXY TCP4 192.0.2.1 203.0.113.7 +1 2\r\n", "refused: address"},
            {"line_port_a_word", "PROXY TCP4 192.0.2.1 203.0.113.7 http 2\r\n", "refused: address"},
            {"line_feed_alone", "PROXY TCP4 192.0.2.1 203.0.113.7 1 2\n", "refused: address"},
            {"line_return_alone", "PROXY TCP4 192.0.2.1 203.0.113.7 1 2\rG", "refused: address"},
            {"a_request", "GET / HTTP/1.1\r\n\r\n", "refused: signature"},
            {"a_tls_hello", "\x16\x03\x01", "refused: signature"},
            {"binary_ipv4", binary(0x21, 0x11, ipv4_block), "192.0.2.1:51312 > 203.0.113.7:443, 28 bytes"},
            {"binary_ipv4_datagram", binary(0x21, 0x12, ipv4_block), "192.0.2.1:51312 > 203.0.113.7:443, 28 bytes"},
            {"binary_ipv6", binary(0x21, 0x21, ipv6_block), "[2001:db8::1]:51312 > [2001:db8::2]:443, 52 bytes"},
            {"binary_unix", binary(0x21, 0x31, unix_block("/run/client", "/run/server")),
             "unix:/run/client > unix:/run/server, 232 bytes"},
            {"binary_unix_names", binary(0x21, 0x31, unix_block("\0abc"s, "")), "unix:@abc > unix:, 232 bytes"},
            {"binary_unix_full", binary(0x21, 0x31, unix_block(std::string(107, 'a'), std::string(107, 'b'))),
             "unix:" + std::string(107, 'a') + " > unix:" + std::string(107, 'b') + ", 232 bytes"},
            {"binary_unspecified", binary(0x21, 0x00, ""), "none > none, 16 bytes"},
            {"binary_unspecified_and_more", binary(0x21, 0x00, "whatever this is"), "none > none, 32 bytes"},
            {"binary_local", binary(0x20, 0x00, ""), "local none > none, 16 bytes"},
            {"binary_local_with_addresses", binary(0x20, 0x11, ipv4_block), "local none > none, 28 bytes"},
            {"binary_local_undefined_family", binary(0x20, 0xff, "abc"), "local none > none, 19 bytes"},
            {"binary_tlvs",
             binary(0x21, 0x11, ipv4_block + tlv(0x01, "h2") + tlv(0x04, "") + tlv(0xe0, std::string(300, 'x'))),
             "192.0.2.1:51312 > 203.0.113.7:443, 339 bytes"},
            {"binary_checksum", with_checksum(checked, 31), "192.0.2.1:51312 > 203.0.113.7:443, 43 bytes"},
            {"binary_checksum_wrong", spoilt, "refused: checksum"},
            {"binary_checksum_missing_bytes", binary(0x21, 0x11, ipv4_block + tlv(0x03, "\0\0"s)), "refused: length"},
            {"binary_version", binary(0x31, 0x11, ipv4_block), "refused: version"},
            {"binary_version_1", binary(0x11, 0x11, ipv4_block), "refused: version"},
            {"binary_command", binary(0x22, 0x11, ipv4_block), "refused: command"},
            {"binary_family", binary(0x21, 0x41, ipv4_block), "refused: family"},
            {"binary_transport", binary(0x21, 0x13, ipv4_block), "refused: family"},
            {"binary_half_unspecified", binary(0x21, 0x01, ""), "refused: family"},
            {"binary_ipv4_short", binary(0x21, 0x11, ipv4_block.substr(1)), "refused: length"},
            {"binary_ipv6_short", binary(0x21, 0x21, ipv6_block.substr(1)), "refused: length"},
            {"binary_unix_short", binary(0x21, 0x31, unix_block("", "").substr(1)), "refused: length"},
            {"binary_tlv_cut", binary(0x21, 0x11, ipv4_block + "\x01"s), "refused: length"},
            {"binary_tlv_beyond", binary(0x21, 0x11, ipv4_block + "\x01\x00\x05h2"s), "refused: length"},
            {"binary_longest", binary(0x21, 0x11, ipv4_block + tlv(0x04, std::string(4096 - 28 - 3, '\0'))),
             "192.0.2.1:51312 > 203.0.113.7:443, 4096 bytes"},
            {"binary_too_long", binary(0x21, 0x11, ipv4_block + tlv(0x04, std::string(4096 - 28 - 2, '\0'))),
             "refused: too_long"},
            {"binary_other_signature", "\r\n\r\n\0\r\nQUIT\r"s + std::string(20, '\0'), "refused: signature"},
        };
    }();
    return all;
}

TEST(ProxyHeader, says_what_it_says) {
    for (const Case& one : cases()) {
        EXPECT_EQ(said(read(one.bytes)), one.expected) << one.name;
        // What stands behind the header is the client's, and makes no difference.
        EXPECT_EQ(said(read(one.bytes + "GET / HTTP/1.1\r\n\r\n")), one.expected) << one.name;
    }
}

// However the bytes are cut: what has come so far says the same as ever, or that more must come.
TEST(ProxyHeader, says_the_same_at_every_split) {
    for (const Case& one : cases()) {
        bool ended = false;
        for (std::size_t size = 0; size <= one.bytes.size(); ++size) {
            const std::string now = said(read(std::string_view(one.bytes).substr(0, size)));
            if (!ended && now == "more") continue;
            ended = true;
            ASSERT_EQ(now, one.expected) << one.name << ": of the first " << size << " bytes";
        }
        EXPECT_TRUE(ended) << one.name;
        if (one.expected.starts_with("refused")) continue;
        EXPECT_EQ(said(read(std::string_view(one.bytes).substr(0, one.bytes.size() - 1))), "more") << one.name;
    }
}

// Nothing that comes makes it read beyond, take more than there is, or change its mind when more comes.
TEST(ProxyHeader, survives_what_chance_makes_of_headers) {
    std::mt19937 random{20261130};
    const auto below = [&random](std::size_t limit) {
        return std::uniform_int_distribution<std::size_t>{0, limit - 1}(random);
    };
    for (unsigned round = 0; round < 40'000; ++round) {
        std::string bytes = cases()[below(cases().size())].bytes + "rest";
        for (std::size_t changes = 1 + below(4); changes != 0; --changes) {
            switch (below(4)) {
                case 0:
                    bytes[below(bytes.size())] = static_cast<char>(random());
                    break;
                case 1:
                    bytes[below(bytes.size())] ^= static_cast<char>(1u << below(8));
                    break;
                case 2:
                    bytes.erase(below(bytes.size()), 1 + below(3));
                    break;
                default:
                    bytes.insert(below(bytes.size()), 1 + below(3), " \r\n\0 1"[below(6)]);
                    break;
            }
            if (bytes.empty()) bytes = "x";
        }
        const Result whole = read(bytes);
        const std::string expected = said(whole);
        if (whole && *whole) {
            ASSERT_LE((*whole)->size, bytes.size());
            ASSERT_GE((*whole)->size, 15u);
        }
        const std::string part = said(read(std::string_view(bytes).substr(0, below(bytes.size() + 1))));
        ASSERT_TRUE(part == "more" || part == expected) << part << " and then " << expected;
    }
}

// ---- writing ----

std::string written(ProxyVersion version, const Address& source, const Address& destination) {
    const auto said = write_proxy_header(version, source, destination);
    const auto view = said.view();
    return {reinterpret_cast<const char*>(view.data()), view.size()};
}

Address address(std::string_view host, std::uint16_t port) {
    return Address::parse(host, port).value();
}

TEST(ProxyHeader, what_is_written_is_read) {
    const std::vector<std::pair<Address, Address>> pairs = {
        {address("192.0.2.1", 51312), address("203.0.113.7", 443)},
        {address("255.255.255.255", 65535), address("255.255.255.255", 65535)},
        {address("2001:db8::1", 1), address("::", 0)},
        {address("192.0.2.1", 7).mapped(), address("::1", 8)},
    };
    for (const auto& [source, destination] : pairs) {
        for (const ProxyVersion version : {ProxyVersion::text, ProxyVersion::binary}) {
            const std::string bytes = written(version, source, destination);
            const Result result = read(bytes);
            ASSERT_TRUE(result && *result) << said(result);
            EXPECT_EQ((*result)->source, source);
            EXPECT_EQ((*result)->destination, destination);
            EXPECT_EQ((*result)->size, bytes.size());
            EXPECT_EQ((*result)->version, version);
        }
    }
    const std::string paths = written(ProxyVersion::binary, address("unix:/run/client", 0), address("unix:@server", 0));
    EXPECT_EQ(said(read(paths)), "unix:/run/client > unix:@server, 232 bytes");
}

TEST(ProxyHeader, a_line_is_written_as_the_specification_shows_it) {
    EXPECT_EQ(written(ProxyVersion::text, address("192.0.2.1", 51312), address("203.0.113.7", 443)),
              "PROXY TCP4 192.0.2.1 203.0.113.7 51312 443\r\n");
    EXPECT_EQ(written(ProxyVersion::text, address("192.0.2.1", 1), address("2001:db8::2", 2)),
              "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n");
}

TEST(ProxyHeader, what_has_no_form_is_said_to_be_unknown) {
    const Address host = address("192.0.2.1", 1), path = address("unix:/run/x", 0);
    EXPECT_EQ(written(ProxyVersion::text, path, path), "PROXY UNKNOWN\r\n");
    EXPECT_EQ(written(ProxyVersion::text, {}, {}), "PROXY UNKNOWN\r\n");
    EXPECT_EQ(said(read(written(ProxyVersion::binary, host, path))), "local none > none, 16 bytes");
    EXPECT_EQ(said(read(written(ProxyVersion::binary, {}, host))), "local none > none, 16 bytes");
}

}  // namespace
