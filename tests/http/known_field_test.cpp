#include <ferrule/http/field.hpp>

#include "http/known_field_table.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <string_view>

namespace {

namespace http = ferrule::http;
using http::KnownField;

std::string upper(std::string_view text) {
    std::string result(text);
    for (char& letter : result)
        if (letter >= 'a' && letter <= 'z') letter = static_cast<char>(letter - 'a' + 'A');
    return result;
}

TEST(KnownField, IsFoundByItsNameInAnyCase) {
    for (std::size_t index = 1; index <= http::known_field_count; ++index) {
        const auto field = static_cast<KnownField>(index);
        const std::string name(name_of(field));
        ASSERT_FALSE(name.empty());
        EXPECT_EQ(http::known_field_of(name), field) << name;
        EXPECT_EQ(http::known_field_of(upper(name)), field) << name;
        std::string mixed = name;
        mixed.front() = upper(name).front();
        EXPECT_EQ(http::known_field_of(mixed), field) << name;
    }
    EXPECT_EQ(name_of(KnownField::unknown), "");
    EXPECT_EQ(name_of(static_cast<KnownField>(255)), "");
}

// With any byte changed, any byte more or any byte less it is another name, or none.
TEST(KnownField, IsNotFoundByAnotherName) {
    const auto expected = [](std::string_view name) {
        for (std::size_t index = 1; index <= http::known_field_count; ++index)
            if (http::same_name(name, http::known_field_names[index - 1])) return static_cast<KnownField>(index);
        return KnownField::unknown;
    };
    for (const std::string_view known : http::known_field_names) {
        std::string name(known);
        for (std::size_t at = 0; at < name.size(); ++at) {
            for (unsigned byte = 0; byte < 256; ++byte) {
                name[at] = static_cast<char>(byte);
                ASSERT_EQ(http::known_field_of(name), http::is_token(name) ? expected(name) : KnownField::unknown)
                    << name;
            }
            name[at] = known[at];
        }
        EXPECT_EQ(http::known_field_of(name + "s"), expected(name + "s"));
        EXPECT_EQ(http::known_field_of(known.substr(1)), expected(known.substr(1)));
        EXPECT_EQ(http::known_field_of(known.substr(0, known.size() - 1)), expected(known.substr(0, known.size() - 1)));
    }
    EXPECT_EQ(http::known_field_of(""), KnownField::unknown);
    EXPECT_EQ(http::known_field_of(std::string(10'000, 'x')), KnownField::unknown);
}

TEST(Field, ListsAreSearchedForTokens) {
    EXPECT_TRUE(http::has_token("close", "close"));
    EXPECT_TRUE(http::has_token(" te ,\tClose\t", "close"));
    EXPECT_TRUE(http::has_token(",,close,", "close"));
    EXPECT_FALSE(http::has_token("closed", "close"));
    EXPECT_FALSE(http::has_token("not close", "close"));
    EXPECT_FALSE(http::has_token("", "close"));
}

TEST(Field, NamesAndValuesAreChecked) {
    EXPECT_TRUE(http::is_token("X-Y_z.0"));
    EXPECT_FALSE(http::is_token(""));
    EXPECT_FALSE(http::is_token("X Y"));
    EXPECT_FALSE(http::is_token("X:"));
    EXPECT_TRUE(http::is_field_value(""));
    EXPECT_TRUE(http::is_field_value("a\tb \xff"));
    for (const std::string_view value : {" a", "a ", "\ta", "a\r", "a\nb", "a\r\nB: c", "\x7f"})
        EXPECT_FALSE(http::is_field_value(value)) << value;
    EXPECT_FALSE(http::is_field_value(std::string_view("a\0b", 3)));
    EXPECT_TRUE(http::same_name("aZ-@[`{", "Az-@[`{"));
    EXPECT_FALSE(http::same_name("@", "`"));
    EXPECT_FALSE(http::same_name("a", "ab"));
}

}  // namespace
