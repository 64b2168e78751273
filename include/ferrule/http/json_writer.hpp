#pragma once

#include <ferrule/http/in_place_sink.hpp>
#include <ferrule/http/json_text.hpp>
#include <ferrule/version.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <ranges>
#include <string_view>
#include <type_traits>
#include <utility>

namespace ferrule::inline v0::http {

class JsonWriter;

/// The name of a member of an object. A literal is looked at by the compiler, so that at run time its bytes are only
/// copied; any other text is escaped as a value is. A view.
class JsonKey {
public:
    /// A literal.
    template <std::size_t size>
    consteval JsonKey(const char (&literal)[size]) : text_(literal, size - 1) {
        for (const char character : text_) plain_ = plain_ && detail::is_plain(character);
    }
    /// A text that is known at run time only.
    template <class Text>
    requires(std::convertible_to<const Text&, std::string_view> && !std::is_array_v<Text>) JsonKey(const Text& text)
        : text_(text), plain_(false) {}

    /// The name as it was given.
    [[nodiscard]] constexpr std::string_view text() const noexcept { return text_; }
    /// Whether it is known to need no escapes.
    [[nodiscard]] constexpr bool plain() const noexcept { return plain_; }

private:
    std::string_view text_;
    bool plain_ = true;
};

namespace detail {

template <class Number>
concept JsonInteger = std::integral<Number> && sizeof(Number) <= 8 && !std::same_as<Number, bool> &&
                      !std::same_as<Number, char> && !std::same_as<Number, wchar_t> && !std::same_as<Number, char8_t> &&
                      !std::same_as<Number, char16_t> && !std::same_as<Number, char32_t>;
template <class Number>
concept JsonFraction = std::same_as<Number, double> || std::same_as<Number, float>;
template <class Text>
concept JsonText = std::convertible_to<const Text&, std::string_view>;
/// What is written in one piece: everything but arrays and objects.
template <class Value>
concept JsonScalar = JsonInteger<Value> || JsonFraction<Value> || JsonText<Value> || std::same_as<Value, bool> ||
    std::same_as<Value, std::nullptr_t>;
template <class Value>
concept JsonWritable = requires(JsonWriter& writer, const Value& value) {
    write_json(writer, value);
};
template <class Map>
concept JsonMap = std::ranges::input_range<const Map> && requires(const Map& map) {
    { std::ranges::begin(map)->first } -> std::convertible_to<std::string_view>;
    std::ranges::begin(map)->second;
};

}  // namespace detail

/// Writes one JSON text (RFC 8259) straight into the memory of a sink, without white space and without allocating.
///
/// ```cpp
/// struct Item {
///     int id;
///     std::string name;
///     std::vector<std::string> tags;
/// };
///
/// void write_json(http::JsonWriter& json, const Item& item) {
///     json.begin_object();
///     json.member("id", item.id);
///     json.member("name", item.name);
///     json.member("tags", item.tags);
///     json.end_object();
/// }
///
/// std::string text;
/// http::StringSink sink{text};
/// http::JsonWriter json{sink};
/// json.value(Item{7, "ferrule", {"metal", "ring"}});
/// json.finish();
/// ```
///
/// Values are:
/// - texts, of which each maximal part that is not UTF-8 becomes U+FFFD (Unicode 15, section 3.9, table 3-8). Of what
///   has to be escaped, the common control characters become `\b \t \n \f \r`, others `\u00xx`; a slash stays;
/// - integers, all digits of them, although many readers lose those beyond 2^53;
/// - `double` and `float`: the shortest digits that give the same number of the same type. NaN and the infinities, for
///   which JSON has no name, become `null`, as in JavaScript;
/// - `bool`, and `nullptr` for `null`;
/// - what has a `write_json(JsonWriter&, const Value&)` beside its type;
/// - `std::optional`, maps with texts for keys (objects), and other ranges (arrays) of values.
///
/// What is no JSON text is misuse and throws std::logic_error: a value without a key in an object, a key elsewhere, an
/// end without its beginning, a second text, more than `depth_max` levels. Keys are not compared with each other.
///
/// A sink that refuses room makes it fail once and for all: the rest goes nowhere, and `finish` returns false. What was
/// written belongs to the sink from `commit` or `finish` on, and until then nobody else may write to it; the sink may
/// not move meanwhile. A writer that ends before them leaves out what it has not handed over. Single-threaded.
class JsonWriter {
public:
    /// How deep objects and arrays may lie in each other.
    static constexpr std::size_t depth_max = 512;

    template <InPlaceSink Sink>
    explicit JsonWriter(Sink& sink) noexcept : sink_(sink) {}
    JsonWriter(const JsonWriter&) = delete;
    JsonWriter& operator=(const JsonWriter&) = delete;

    /// Begins an object: as a value of the array or behind the key before it, or as the whole text.
    void begin_object() { begin(open_value(), '{', true); }
    /// Begins an object that is a member.
    [[gnu::always_inline]] void begin_object(JsonKey name) { begin(open_member(name), '{', true); }
    /// Ends the object.
    void end_object() { end('}', Wants::key); }
    /// Begins an array.
    void begin_array() { begin(open_value(), '[', false); }
    /// Begins an array that is a member.
    [[gnu::always_inline]] void begin_array(JsonKey name) { begin(open_member(name), '[', false); }
    /// Ends the array.
    void end_array() { end(']', Wants::value); }

    /// The name of the next member of an object, whose value comes next.
    [[gnu::always_inline]] void key(JsonKey name) {
        cursor_ = open_member(name);
        comma_ = 0;
        wants_ = Wants::value_of_key;
    }

    /// A value: of an array, behind a key, or the whole text.
    template <class Value>
    void value(const Value& value) {
        if constexpr (detail::JsonScalar<Value>) {
            cursor_ = put(open_value(), value);
            close_value();
        } else if constexpr (detail::JsonWritable<Value>) {
            write_json(*this, value);
        } else if constexpr (requires { []<class T>(const std::optional<T>&) {}(value); }) {
            value.has_value() ? this->value(*value) : this->value(nullptr);
        } else if constexpr (detail::JsonMap<Value>) {
            begin_object();
            for (const auto& [name, element] : value) member(name, element);
            end_object();
        } else {
            static_assert(std::ranges::input_range<const Value>, "write_json(JsonWriter&, const Value&) is missing");
            begin_array();
            for (const std::ranges::range_value_t<const Value>& element : value) this->value(element);
            end_array();
        }
    }

    /// A key and its value.
    template <class Value>
    [[gnu::always_inline]] void member(JsonKey name, const Value& value) {
        if constexpr (detail::JsonScalar<Value>) {
            cursor_ = put(open_member(name), value);
            comma_ = 1;
        } else {
            key(name);
            this->value(value);
        }
    }

    /// A value that is JSON already, such as a column of that type: as it is. It is not looked at, so it has to come
    /// from who is trusted to make JSON.
    FERRULE_EXPORT void raw_value(std::string_view json);

    /// Hands to the sink what was written, so that it can be flushed; more may follow.
    FERRULE_EXPORT void commit();
    /// Ends the text, and hands it to the sink. False when the sink has refused room for a part of it: then what the
    /// sink has is not the whole. Throws std::logic_error when something is not ended or there is no value.
    FERRULE_EXPORT bool finish();
    /// Whether the sink has refused room.
    [[nodiscard]] bool failed() const noexcept { return failed_; }

private:
    // Odd: no value may come now.
    enum class Wants : std::uint8_t { value = 0, key = 1, value_of_key = 2, nothing = 3 };

    /// What is written in one piece fits: a number, an escape, a literal.
    static constexpr std::size_t room_min = 64;
    static constexpr std::size_t number_bytes_max = 32;
    static_assert(detail::integer_bytes_max <= number_bytes_max && number_bytes_max <= room_min);

    [[nodiscard]] std::size_t room(const char* at) const noexcept { return static_cast<std::size_t>(end_ - at); }
    /// Room for at most `room_min` bytes.
    [[nodiscard]] char* reserve(char* at, std::size_t bytes) {
        if (room(at) < bytes) [[unlikely]]
            return next_room(at);
        return at;
    }

    /// Behind the comma, where there has to be one, with room for a number. No state has changed yet.
    [[nodiscard]] char* open_value() {
        if ((static_cast<std::uint8_t>(wants_) & 1) != 0) [[unlikely]]
            refuse_value();
        char* at = reserve(cursor_, number_bytes_max + 1);
        *at = ',';
        return at + comma_;
    }
    void close_value() noexcept {
        comma_ = 1;
        wants_ = after_;
    }
    /// Behind the key and its colon, with room for a number.
    // Inline always: where the name is a literal, all of it becomes a few stores of constants.
    [[nodiscard, gnu::always_inline]] char* open_member(JsonKey name) {
        if (wants_ != Wants::key) [[unlikely]]
            refuse_key();
        const std::string_view text = name.text();
        if (!name.plain() || room(cursor_) < text.size() + 4 + number_bytes_max) return open_member_slowly(text);
        char* at = cursor_;
        *at = ',';
        at += comma_;
        *at++ = '"';
        std::memcpy(at, text.data(), text.size());
        at += text.size();
        *at++ = '"';
        *at++ = ':';
        return at;
    }

    // Where there is room for a number.
    template <detail::JsonInteger Number>
    [[nodiscard]] static char* put(char* at, Number number) noexcept {
        return detail::write_integer(at, number);
    }
    template <std::same_as<bool> Truth>
    [[nodiscard]] static char* put(char* at, Truth truth) noexcept {
        std::memcpy(at, truth ? "true" : "false", 4);
        at[4] = 'e';
        return at + (truth ? 4 : 5);
    }
    [[nodiscard]] static char* put(char* at, std::nullptr_t) noexcept {
        std::memcpy(at, "null", 4);
        return at + 4;
    }
    [[nodiscard]] FERRULE_EXPORT static char* put(char* at, double number) noexcept;
    [[nodiscard]] FERRULE_EXPORT static char* put(char* at, float number) noexcept;

    [[nodiscard]] char* put(char* at, std::string_view text) {
        if (room(at) < text.size() + 2) [[unlikely]]
            return put_slowly(at, text);
        *at++ = '"';
        const std::size_t plain = detail::FastText::copy_plain(at, text.data(), text.size());
        at += plain;
        if (plain != text.size()) [[unlikely]]
            return put_rest(at, text.substr(plain));
        *at++ = '"';
        return at;
    }

    void begin(char* at, char bracket, bool object) {
        if (depth_ == depth_max) [[unlikely]]
            refuse_begin();
        *at = bracket;
        cursor_ = at + 1;
        std::uint64_t& word = objects_[depth_ / 64];
        const std::uint64_t bit = std::uint64_t{1} << depth_ % 64;
        word = object ? word | bit : word & ~bit;
        ++depth_;
        comma_ = 0;
        wants_ = after_ = object ? Wants::key : Wants::value;
    }
    void end(char bracket, Wants wants) {
        // Both are the same where something has begun, and ends complete.
        if (wants_ != wants || after_ != wants) [[unlikely]]
            refuse_end(bracket);
        char* at = reserve(cursor_, 1);
        *at = bracket;
        cursor_ = at + 1;
        const std::size_t outer = --depth_ - std::size_t{1};
        after_ = depth_ == 0                                     ? Wants::nothing
                 : (objects_[outer / 64] >> outer % 64 & 1) != 0 ? Wants::key
                                                                 : Wants::value;
        close_value();
    }

    [[nodiscard]] FERRULE_EXPORT char* open_member_slowly(std::string_view text);
    [[nodiscard]] FERRULE_EXPORT char* put_slowly(char* at, std::string_view text);
    /// With what needs escapes in it, and without the first quotation mark.
    [[nodiscard]] FERRULE_EXPORT char* put_rest(char* at, std::string_view text);
    [[nodiscard]] FERRULE_EXPORT char* next_room(char* at);
    [[noreturn]] FERRULE_EXPORT static void refuse_begin();
    [[noreturn]] FERRULE_EXPORT static void refuse_end(char bracket);
    [[noreturn]] FERRULE_EXPORT void refuse_value() const;
    [[noreturn]] FERRULE_EXPORT void refuse_key() const;

    char* cursor_ = nullptr;
    char* end_ = nullptr;
    std::uint8_t comma_ = 0;  // bytes of the comma before the next value or member
    Wants wants_ = Wants::value;
    Wants after_ = Wants::nothing;  // what is wanted behind a value of the innermost level
    bool failed_ = false;
    std::uint16_t depth_ = 0;

    char* begin_ = nullptr;
    detail::SinkReference sink_;
    std::array<std::uint64_t, depth_max / 64> objects_;  // a bit for each level that is open: whether it is an object
    std::array<char, room_min> nowhere_;                 // where the rest goes when there is no room
};

}  // namespace ferrule::inline v0::http
