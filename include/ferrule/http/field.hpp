#pragma once

#include <ferrule/http/known_field.hpp>
#include <ferrule/version.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace ferrule::inline v0::http {

/// Where a field lies, counted from the beginning of its head: it stays right when the bytes move. Nothing needs to be
/// set up before a parser fills an array of these.
struct FieldPosition {
    std::uint32_t name;        ///< of the first byte of the name
    std::uint32_t value;       ///< of the first byte of the value, behind white space
    std::uint32_t value_size;  ///< bytes, without white space at the end
    std::uint16_t name_size;   ///< bytes
    KnownField known;          ///< which field it is
    std::uint8_t unused = 0;   ///< keeps the size
};
static_assert(sizeof(FieldPosition) == 16);

/// A field as text: views into the bytes of its head.
struct Field {
    std::string_view name;                   ///< as it was sent
    std::string_view value;                  ///< without white space at its ends
    KnownField known = KnownField::unknown;  ///< which field it is
};

/// Whether two names of fields, or any two ASCII texts, are the same but for the case of letters.
FERRULE_EXPORT bool same_name(std::string_view one, std::string_view other) noexcept;

/// Whether `list`, the value of a field that is a list of tokens (`Connection`, `Vary`), has this one, in any case.
FERRULE_EXPORT bool has_token(std::string_view list, std::string_view token) noexcept;

/// Whether the text is a token (RFC 9110, section 5.6.2): what names of fields and methods are made of. Not when empty.
FERRULE_EXPORT bool is_token(std::string_view text) noexcept;

/// Whether the text may be the value of a field: no control characters but HTAB, no white space at its ends (RFC 9110,
/// section 5.5). Bytes from 0x80 on are let through, and mean nothing. An empty one may be.
FERRULE_EXPORT bool is_field_value(std::string_view text) noexcept;

/// The fields of a head, in the order in which they were sent: a range of Field. A view of the bytes and of the
/// positions, as long as both are there.
class FERRULE_EXPORT FieldList {
public:
    /// Goes over the fields.
    class Iterator {
    public:
        using value_type = Field;
        using difference_type = std::ptrdiff_t;
        /// At no field: equal to no other.
        Iterator() = default;
        /// At this position of a list whose head begins at `base`.
        Iterator(const char* base, const FieldPosition* position) noexcept : base_(base), position_(position) {}
        Field operator*() const noexcept { return text_of(base_, *position_); }
        Iterator& operator++() noexcept {
            ++position_;
            return *this;
        }
        Iterator operator++(int) noexcept {
            const Iterator before = *this;
            ++position_;
            return before;
        }
        friend bool operator==(const Iterator& one, const Iterator& other) noexcept = default;

    private:
        const char* base_ = nullptr;
        const FieldPosition* position_ = nullptr;
    };

    /// No fields.
    FieldList() = default;
    /// Those at `positions` of the head that begins at `base`.
    FieldList(const char* base, std::span<const FieldPosition> positions) noexcept
        : base_(base), positions_(positions) {}

    [[nodiscard]] Iterator begin() const noexcept { return {base_, positions_.data()}; }
    [[nodiscard]] Iterator end() const noexcept { return {base_, positions_.data() + positions_.size()}; }
    /// How many there are.
    [[nodiscard]] std::size_t size() const noexcept { return positions_.size(); }
    /// Whether there is none.
    [[nodiscard]] bool empty() const noexcept { return positions_.empty(); }
    /// The field at an index below size().
    [[nodiscard]] Field operator[](std::size_t index) const noexcept { return text_of(base_, positions_[index]); }

    /// The value of the first field of that name; nothing: there is none. An empty value is a value.
    [[nodiscard]] std::optional<std::string_view> find(KnownField field) const noexcept;
    [[nodiscard]] std::optional<std::string_view> find(std::string_view name) const noexcept;

private:
    static Field text_of(const char* base, const FieldPosition& at) noexcept {
        return {{base + at.name, at.name_size}, {base + at.value, at.value_size}, at.known};
    }

    const char* base_ = nullptr;
    std::span<const FieldPosition> positions_;
};

}  // namespace ferrule::inline v0::http
