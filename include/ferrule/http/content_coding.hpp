#pragma once

#include <ferrule/version.hpp>

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace ferrule::inline v0::http {

/// How the bytes of a body stand for its content (RFC 9110, section 8.4.1).
enum class ContentCoding : std::uint8_t {
    identity,  ///< as they are
    gzip,
    br,
};

/// The coding's name, as Content-Encoding has it.
[[nodiscard]] constexpr std::string_view name_of(ContentCoding coding) noexcept {
    constexpr std::array<std::string_view, 3> names{"identity", "gzip", "br"};
    return names[static_cast<std::size_t>(coding)];
}

/// Which codings a client takes, and which it likes best: its Accept-Encoding (RFC 9110, section 12.5.3).
///
/// ```cpp
/// http::AcceptEncoding accepted;
/// accepted.add("gzip, br;q=0.9, identity;q=0.5");
/// const http::ContentCoding coding = accepted.choose(std::array{http::ContentCoding::br, http::ContentCoding::gzip});
/// ```
///
/// Of a coding that is named several times the least weight counts. What is malformed does not speak for its coding:
/// it is taken for not acceptable. `x-gzip` is `gzip`.
class AcceptEncoding {
public:
    /// The value of an Accept-Encoding field; several are one list.
    FERRULE_EXPORT void add(std::string_view value) noexcept;

    /// The weight of a coding in thousandths, 0 for what is not acceptable. What is not mentioned: identity is
    /// acceptable then, with the least weight that there is; others are not, as nobody has asked for them.
    [[nodiscard]] FERRULE_EXPORT std::uint16_t weight(ContentCoding coding) const noexcept;

    /// The coding of the greatest weight; of several that weigh the same the one that is offered first, and identity
    /// last. Identity when no coding is acceptable, which is right even if identity is not (RFC 9110, section 12.4.1);
    /// `weight` tells who wants to answer 406 instead.
    [[nodiscard]] FERRULE_EXPORT ContentCoding choose(std::span<const ContentCoding> offered) const noexcept;

private:
    void add_element(std::string_view element) noexcept;

    std::array<std::optional<std::uint16_t>, 3> weights_;
    std::optional<std::uint16_t> any_;  // `*`
};

/// Whether bodies of that type (a Content-Type, with or without parameters) become smaller when they are compressed:
/// texts, and what is made of texts; not pictures, films and archives, which are compressed already. Of a type that is
/// not known the answer is no.
[[nodiscard]] FERRULE_EXPORT bool is_compressible(std::string_view content_type) noexcept;

}  // namespace ferrule::inline v0::http
