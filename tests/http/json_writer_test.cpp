#include <ferrule/http/json_writer.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace shop {

struct Item {
    int id;
    std::string name;
};

void write_json(ferrule::http::JsonWriter& json, const Item& item) {
    json.begin_object();
    json.member("id", item.id);
    json.member("name", item.name);
    json.end_object();
}

}  // namespace shop

namespace {

using namespace ferrule::http;
using namespace std::string_view_literals;
using testing::HasSubstr;
using testing::ThrowsMessage;

/// Gives what is asked for and so many bytes more, each time in memory of its own, until it has given enough.
class PiecesSink {
public:
    explicit PiecesSink(std::size_t more, std::size_t pieces = SIZE_MAX) : more_(more), left_(pieces) {}

    std::span<std::byte> span(std::size_t minimum) {
        if (left_ == 0) return {};
        --left_;
        size_ = minimum + more_;
        memory_ = std::make_unique<std::byte[]>(size_);
        return {memory_.get(), size_};
    }
    void advance(std::size_t bytes) {
        ASSERT_LE(bytes, size_);
        text_.append(reinterpret_cast<const char*>(memory_.get()), bytes);
        memory_.reset();
    }
    [[nodiscard]] const std::string& text() const { return text_; }

private:
    std::size_t more_;
    std::size_t left_;
    std::size_t size_ = 0;
    std::unique_ptr<std::byte[]> memory_;
    std::string text_;
};

template <class Write>
std::string text_of(Write write) {
    std::string text;
    StringSink sink(text);
    JsonWriter json(sink);
    write(json);
    EXPECT_TRUE(json.finish());
    return text;
}
template <class Value>
std::string text_of_value(const Value& value) {
    return text_of([&](JsonWriter& json) { json.value(value); });
}

TEST(JsonWriter, WritesObjectsAndArraysWithoutWhiteSpace) {
    const std::string text = text_of([](JsonWriter& json) {
        json.begin_object();
        json.member("first", 1);
        json.begin_array("second");
        json.value("a");
        json.value(true);
        json.value(false);
        json.value(nullptr);
        json.begin_array();
        json.end_array();
        json.begin_object();
        json.end_object();
        json.value(-2);
        json.end_array();
        json.begin_object("third");
        json.key("key");
        json.value(std::string("value"));
        json.key("array");
        json.begin_array();
        json.value(1.5);
        json.end_array();
        json.key(std::string_view("object"));
        json.begin_object();
        json.end_object();
        json.end_object();
        json.end_object();
    });
    EXPECT_EQ(
        text,
        R"({"first":1,"second":["a",true,false,null,[],{},-2],"third":{"key":"value","array":[1.5],"object":{}}})");
}

TEST(JsonWriter, WritesASingleValueAsTheWholeText) {
    EXPECT_EQ(text_of_value("text"), "\"text\"");
    EXPECT_EQ(text_of_value(""), "\"\"");
    EXPECT_EQ(text_of_value(true), "true");
    EXPECT_EQ(text_of_value(false), "false");
    EXPECT_EQ(text_of_value(nullptr), "null");
    EXPECT_EQ(text_of_value(7), "7");
}

TEST(JsonWriter, TakesWhatHasAWriteJsonAndContainersOfIt) {
    const std::vector<shop::Item> items{{1, "nut"}, {2, "bolt"}};
    EXPECT_EQ(text_of_value(items), R"([{"id":1,"name":"nut"},{"id":2,"name":"bolt"}])");
    EXPECT_EQ(text_of_value(std::map<std::string, shop::Item>{{"a\n", {1, "nut"}}, {"b", {2, "bolt"}}}),
              R"({"a\n":{"id":1,"name":"nut"},"b":{"id":2,"name":"bolt"}})");
    EXPECT_EQ(text_of_value(std::optional<shop::Item>{}), "null");
    EXPECT_EQ(text_of_value(std::optional<int>{3}), "3");
    EXPECT_EQ(text_of_value(std::vector<bool>{true, false}), "[true,false]");
    EXPECT_EQ(text_of_value(std::set<std::string>{"x", "y"}), R"(["x","y"])");
    EXPECT_EQ(text_of_value(std::vector<std::vector<std::optional<double>>>{{}, {0.5, std::nullopt}}),
              "[[],[0.5,null]]");
    EXPECT_EQ(text_of([&](JsonWriter& json) {
                  json.begin_object();
                  json.member("items", items);
                  json.member("none", std::vector<int>{});
                  json.member(std::string("count"), items.size());
                  json.end_object();
              }),
              R"({"items":[{"id":1,"name":"nut"},{"id":2,"name":"bolt"}],"none":[],"count":2})");
}

TEST(JsonWriter, TakesJsonAsItIs) {
    const std::string long_text = "[" + std::string(1000, ' ') + "]";
    EXPECT_EQ(text_of([&](JsonWriter& json) {
                  json.begin_array();
                  json.raw_value(R"(["a", 1])");
                  json.raw_value(long_text);
                  json.value(1);
                  json.end_array();
              }),
              "[[\"a\", 1]," + long_text + ",1]");
}

TEST(JsonWriter, WritesIntegersAtTheirLimits) {
    EXPECT_EQ(text_of_value(std::numeric_limits<std::int64_t>::min()), "-9223372036854775808");
    EXPECT_EQ(text_of_value(std::numeric_limits<std::int64_t>::max()), "9223372036854775807");
    EXPECT_EQ(text_of_value(std::numeric_limits<std::uint64_t>::max()), "18446744073709551615");
    EXPECT_EQ(text_of_value(std::numeric_limits<std::int32_t>::min()), "-2147483648");
    EXPECT_EQ(text_of_value(std::numeric_limits<std::uint32_t>::max()), "4294967295");
    EXPECT_EQ(text_of_value(std::numeric_limits<std::int8_t>::min()), "-128");
    EXPECT_EQ(text_of_value(std::numeric_limits<std::uint8_t>::max()), "255");
    EXPECT_EQ(text_of_value(std::numeric_limits<long long>::min()), "-9223372036854775808");
}

TEST(JsonWriter, WritesIntegersOfEachLength) {
    for (std::uint64_t power = 1, digits = 1; digits <= 20; ++digits) {
        for (const std::uint64_t number : {power - 1, power, power + 1, power + power / 2, power * 5 + 7, power * 9}) {
            EXPECT_EQ(text_of_value(number), std::to_string(number));
            EXPECT_EQ(text_of_value(static_cast<std::int64_t>(0 - number)),
                      std::to_string(static_cast<std::int64_t>(0 - number)));
        }
        power *= 10;
    }
    for (int number = -11'111; number <= 11'111; ++number) {
        std::array<char, 20> digits;
        ASSERT_EQ(std::string_view(digits.data(), detail::write_integer(digits.data(), number)),
                  std::to_string(number));
    }
}

TEST(JsonWriter, WritesTheShortestDigitsOfFractions) {
    EXPECT_EQ(text_of_value(0.1), "0.1");
    EXPECT_EQ(text_of_value(0.1F), "0.1");
    EXPECT_EQ(text_of_value(0.1 + 0.2), "0.30000000000000004");
    EXPECT_EQ(text_of_value(1.0), "1");
    EXPECT_EQ(text_of_value(-0.0), "-0");
    EXPECT_EQ(text_of_value(1e300), "1e+300");
    EXPECT_EQ(text_of_value(5e-324), "5e-324");
    EXPECT_EQ(text_of_value(-2.2250738585072014e-308), "-2.2250738585072014e-308");
    EXPECT_EQ(text_of_value(std::numeric_limits<double>::max()), "1.7976931348623157e+308");
    EXPECT_EQ(text_of_value(std::numeric_limits<float>::max()), "3.4028235e+38");
}

TEST(JsonWriter, WritesNullForWhatIsNoNumber) {
    EXPECT_EQ(text_of_value(std::numeric_limits<double>::quiet_NaN()), "null");
    EXPECT_EQ(text_of_value(std::numeric_limits<double>::infinity()), "null");
    EXPECT_EQ(text_of_value(-std::numeric_limits<float>::infinity()), "null");
}

/// What a byte below 0x80 has to become between quotation marks.
std::string escaped(char character) {
    static constexpr std::string_view short_ones = "\"\"\\\\\bb\tt\nn\ff\rr";
    for (std::size_t index = 0; index < short_ones.size(); index += 2) {
        if (short_ones[index] == character) return {'\\', short_ones[index + 1]};
    }
    if (static_cast<unsigned char>(character) >= 0x20) return {character};
    std::array<char, 8> escape;
    std::snprintf(escape.data(), escape.size(), "\\u%04x", static_cast<unsigned>(character));
    return escape.data();
}

TEST(JsonWriter, EscapesEachCharacterAtEachPlaceOfEachLength) {
    for (std::size_t size = 1; size <= 40; ++size) {
        for (std::size_t place = 0; place < size; ++place) {
            for (int character = 0; character < 0x80; ++character) {
                if (size > 18 && character > 0x23 && character != '\\' && character != 0x7f) continue;
                std::string text(size, 'x');
                text[place] = static_cast<char>(character);
                ASSERT_EQ(text_of_value(text), '"' + std::string(place, 'x') + escaped(static_cast<char>(character)) +
                                                   std::string(size - place - 1, 'x') + '"');
            }
        }
    }
}

TEST(JsonWriter, EscapesTheNamesOfMembers) {
    EXPECT_EQ(text_of([](JsonWriter& json) {
                  json.begin_object();
                  json.member("a\"b", 1);
                  json.member("\xc3\xa4", 2);
                  json.member(std::string("\n\xff"), 3);
                  json.member("", 4);
                  json.begin_array("\t");
                  json.end_array();
                  json.end_object();
              }),
              "{\"a\\\"b\":1,\"\xc3\xa4\":2,\"\\n\xef\xbf\xbd\":3,\"\":4,\"\\t\":[]}");
}

TEST(JsonWriter, KeepsTextOfAllScripts) {
    for (const std::string_view text :
         {"\x7f"sv, "\xc2\x80"sv, "\xdf\xbf"sv, "\xe0\xa0\x80"sv, "\xed\x9f\xbf"sv, "\xee\x80\x80"sv, "\xef\xbf\xbf"sv,
          "\xf0\x90\x80\x80"sv, "\xf4\x8f\xbf\xbf"sv, "Gr\xc3\xb6\xc3\x9f\x65 \xe2\x82\xac \xf0\x9f\x98\x80"sv}) {
        EXPECT_EQ(text_of_value(text), '"' + std::string(text) + '"');
    }
}

TEST(JsonWriter, ReplacesEachMaximalPartThatIsNotUtf8) {
    const auto replaced = [](std::string_view text) {
        std::string shown = text_of_value(text);
        for (std::size_t at; (at = shown.find("\xef\xbf\xbd")) != std::string::npos;) shown.replace(at, 3, "?");
        return shown.substr(1, shown.size() - 2);
    };
    // Unicode 15, table 3-8 and its neighbours.
    EXPECT_EQ(replaced("\x61\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63\x80\xbf\x64"), "a???b?c??d");
    EXPECT_EQ(replaced("\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41"), "????????A");
    EXPECT_EQ(replaced("\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41"), "????????A");
    EXPECT_EQ(replaced("\xf4\x91\x92\x93\xff\x41\x80\xbf\x42"), "?????A??B");
    EXPECT_EQ(replaced("\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41"), "????A");
    // At the end.
    EXPECT_EQ(replaced("a\xc3"), "a?");
    EXPECT_EQ(replaced("a\xe2\x82"), "a?");
    EXPECT_EQ(replaced("a\xf0\x9f\x98"), "a?");
    EXPECT_EQ(replaced("\xf5"), "?");
    EXPECT_EQ(replaced("\xc1\x81"), "??");
}

template <class Text>
void expect_copies_plain() {
    for (std::size_t size = 0; size <= 70; ++size) {
        for (std::size_t place = 0; place <= size; ++place) {
            for (int byte = 0; byte < 256; ++byte) {
                // All values where they are alone with the loads of a size; where those repeat, the edges.
                if (size > 18 && byte != 0x1f && byte != '"' && byte != '\\' && byte != 0x80 && byte != 'y') continue;
                const auto from = std::make_unique<char[]>(size);
                const auto to = std::make_unique<char[]>(size);
                std::fill_n(from.get(), size, 'x');
                if (place < size) from[place] = static_cast<char>(byte);
                const bool plain = place == size || (byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\');
                const std::size_t expected = plain ? size : place;
                ASSERT_EQ(Text::copy_plain(to.get(), from.get(), size), expected)
                    << "byte " << byte << " at " << place << " of " << size;
                ASSERT_TRUE(std::equal(from.get(), from.get() + expected, to.get()));
                if (place == size) break;
            }
        }
    }
}

TEST(JsonText, CopiesUpToWhatIsNotPlain) {
    expect_copies_plain<detail::FastText>();
}

TEST(JsonText, CopiesTheSameOnAnyMachine) {
    expect_copies_plain<detail::PortableText>();
}

/// Something of everything, and texts longer than any piece.
void write_mixture(JsonWriter& json) {
    json.begin_object();
    json.member("plain", "The quick brown fox jumps over the lazy dog, and another time, and once more after that.");
    json.member("a name that is much longer than what a piece of the least size has room for, with all beside it",
                12345);
    json.member("escapes", "\"\\\x01\x1f\n\r\t\b\f/\x7f and a plain end that goes on for longer than sixteen bytes");
    json.member("scripts",
                "\xf0\x9f\x98\x80\xe2\x82\xac\xc3\xa4 \xff\xe2\x82 \xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f");
    json.member(std::string("run time \n\xc3\xa4"), std::numeric_limits<std::int64_t>::min());
    json.member("fraction", -2.2250738585072014e-308);
    json.begin_array("array");
    for (int number = 0; number < 30; ++number) json.value(number * number * number);
    for (const bool truth : {true, false}) json.value(truth);
    json.value(nullptr);
    json.raw_value(
        "{ \"as\": [\"it\", \"is\"], \"and\": \"longer than the least piece has room for, which is 64 bytes\" }");
    for (std::size_t size = 0; size < 80; ++size) json.value(std::string(size, 'x'));
    json.end_array();
    json.end_object();
}

TEST(JsonWriter, WritesTheSameIntoPiecesOfEachSize) {
    const std::string expected = text_of(write_mixture);
    for (std::size_t more = 0; more <= 150; ++more) {
        PiecesSink sink(more);
        JsonWriter json(sink);
        write_mixture(json);
        ASSERT_TRUE(json.finish());
        ASSERT_EQ(sink.text(), expected) << "pieces of " << more << " bytes more than asked for";
    }
}

TEST(JsonWriter, FailsOnceAndForAllWhereTheSinkRefuses) {
    std::size_t pieces = 0;
    {
        const std::string expected = text_of(write_mixture);
        for (;; ++pieces) {
            PiecesSink sink(0, pieces);
            JsonWriter json(sink);
            write_mixture(json);
            const bool failed = json.failed();
            const bool finished = json.finish();
            ASSERT_TRUE(expected.starts_with(sink.text()));
            ASSERT_EQ(finished, !failed);
            if (finished) {
                ASSERT_EQ(sink.text(), expected);
                break;
            }
        }
    }
    EXPECT_GT(pieces, 10u);
}

TEST(JsonWriter, HandsOverWhatIsWrittenInBetween) {
    std::string text = "before ";
    StringSink sink(text);
    JsonWriter json(sink);
    json.commit();
    EXPECT_EQ(text, "before ");
    json.begin_array();
    json.value(1);
    json.commit();
    EXPECT_EQ(text, "before [1");
    json.commit();
    json.value("two");
    json.end_array();
    EXPECT_TRUE(json.finish());
    EXPECT_EQ(text, "before [1,\"two\"]");
}

TEST(JsonWriter, NestsAsDeepAsItSays) {
    std::string text;
    StringSink sink(text);
    JsonWriter json(sink);
    std::string expected;
    for (std::size_t depth = 0; depth < JsonWriter::depth_max; ++depth) {
        // An irregular order of both.
        const bool object = (depth * 7 / 3) % 2 == 0;
        if (object) {
            json.begin_object();
            if (depth + 1 < JsonWriter::depth_max) json.key("k");
        } else {
            json.begin_array();
        }
        expected += object ? depth + 1 < JsonWriter::depth_max ? "{\"k\":" : "{" : "[";
    }
    // The innermost is an array or has no key: both refuse to begin another.
    EXPECT_THROW(json.begin_array(), std::logic_error);
    for (std::size_t depth = JsonWriter::depth_max; depth-- > 0;) {
        const bool object = (depth * 7 / 3) % 2 == 0;
        object ? json.end_object() : json.end_array();
        expected += object ? '}' : ']';
    }
    EXPECT_TRUE(json.finish());
    EXPECT_EQ(text, expected);
}

TEST(JsonWriter, RefusesMoreLevelsThanItSays) {
    std::string text;
    StringSink sink(text);
    JsonWriter json(sink);
    for (std::size_t depth = 0; depth < JsonWriter::depth_max; ++depth) json.begin_array();
    EXPECT_THAT([&] { json.begin_array(); }, ThrowsMessage<std::logic_error>(HasSubstr("more than 512 levels")));
}

template <class Write>
auto writing(Write write) {
    return [write] {
        std::string text;
        StringSink sink(text);
        JsonWriter json(sink);
        write(json);
        static_cast<void>(json.finish());
    };
}

TEST(JsonWriter, RefusesMisuse) {
    const auto refusal = [](const char* what) { return ThrowsMessage<std::logic_error>(HasSubstr(what)); };
    EXPECT_THAT(writing([](JsonWriter& json) {
                    json.begin_object();
                    json.value(1);
                }),
                refusal("a value without a key"));
    EXPECT_THAT(writing([](JsonWriter& json) {
                    json.begin_object();
                    json.begin_array();
                }),
                refusal("a value without a key"));
    EXPECT_THAT(writing([](JsonWriter& json) {
                    json.begin_object();
                    json.raw_value("1");
                }),
                refusal("a value without a key"));
    EXPECT_THAT(writing([](JsonWriter& json) {
                    json.begin_object();
                    json.key("a");
                    json.key("b");
                }),
                refusal("a key behind a key"));
    EXPECT_THAT(writing([](JsonWriter& json) {
                    json.begin_object();
                    json.key("a");
                    json.end_object();
                }),
                refusal("behind a key"));
    EXPECT_THAT(writing([](JsonWriter& json) { json.key("a"); }), refusal("a key outside"));
    EXPECT_THAT(writing([](JsonWriter& json) {
                    json.begin_array();
                    json.member("a", 1);
                }),
                refusal("a key outside"));
    EXPECT_THAT(writing([](JsonWriter& json) { json.end_array(); }), refusal("an array ends"));
    EXPECT_THAT(writing([](JsonWriter& json) { json.end_object(); }), refusal("an object ends"));
    EXPECT_THAT(writing([](JsonWriter& json) {
                    json.begin_array();
                    json.end_object();
                }),
                refusal("an object ends"));
    EXPECT_THAT(writing([](JsonWriter& json) {
                    json.begin_object();
                    json.end_array();
                }),
                refusal("an array ends"));
    EXPECT_THAT(writing([](JsonWriter& json) {
                    json.begin_object();
                    json.key("a");
                    json.end_array();
                }),
                refusal("an array ends"));
    EXPECT_THAT(writing([](JsonWriter& json) {
                    json.value(1);
                    json.value(2);
                }),
                refusal("a second text"));
    EXPECT_THAT(writing([](JsonWriter& json) {
                    json.begin_array();
                    json.end_array();
                    json.begin_array();
                }),
                refusal("a second text"));
    EXPECT_THAT(writing([](JsonWriter& json) {
                    json.begin_array();
                    json.begin_object();
                }),
                refusal("inside of 2 levels"));
    EXPECT_THAT(writing([](JsonWriter&) {}), refusal("without a value"));
}

// What was refused has changed nothing, so that who handles the exception can end the text in an orderly way.
TEST(JsonWriter, GoesOnAfterMisuse) {
    EXPECT_EQ(text_of([](JsonWriter& json) {
                  json.begin_object();
                  EXPECT_THROW(json.value(1), std::logic_error);
                  json.member("a", 1);
                  EXPECT_THROW(json.end_array(), std::logic_error);
                  json.key("b");
                  EXPECT_THROW(json.member("c", 1), std::logic_error);
                  json.value(2);
                  json.end_object();
                  EXPECT_THROW(json.value(3), std::logic_error);
              }),
              R"({"a":1,"b":2})");
}

static_assert(!detail::JsonScalar<char> && !detail::JsonScalar<char32_t> && !detail::JsonScalar<long double>);
static_assert(JsonKey("plain").plain() && !JsonKey("a\"b").plain() && !JsonKey("\xc3\xa4").plain());
static_assert(sizeof(JsonWriter) <= 192);

}  // namespace
