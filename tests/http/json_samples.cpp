// Random JSON texts for json_round_trip.py: of each a line that says what was written, and the text as the next line.
//
// What was written, in words of Python's own: texts as the bytes they had, fractions in hexadecimal.
#include <ferrule/http/json_writer.hpp>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>

namespace {

using ferrule::http::JsonWriter;
using ferrule::http::StringSink;

class Sequence {
public:
    std::uint64_t next() {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return state_ * 0x2545'f491'4f6c'dd1d;
    }
    std::uint64_t below(std::uint64_t bound) { return (next() >> 11) % bound; }

private:
    std::uint64_t state_ = 0x9e37'79b9'7f4a'7c15;
};

class Samples {
public:
    void write_one() {
        said_.clear();
        std::string text;
        StringSink sink(text);
        JsonWriter json(sink);
        write_value(json, 0);
        static_cast<void>(json.finish());
        std::printf("%s\n%s\n", said_.c_str(), text.c_str());
    }

private:
    /// Plain parts, bytes that tend to belong to UTF-8 sequences, and any other.
    std::string any_text() {
        static constexpr std::string_view frequent =
            "\xc2\xdf\xe0\xed\xef\xf0\xf4\x80\x8f\x90\x9f\xa0\xbf\"\\\n\x7f\x1f";
        std::string text;
        for (std::uint64_t parts = sequence_.below(12); parts > 0; --parts) {
            switch (sequence_.below(4)) {
                case 0:
                    text.append(sequence_.below(40), static_cast<char>('a' + sequence_.below(26)));
                    break;
                case 1:
                    text += static_cast<char>(sequence_.below(256));
                    break;
                case 2:
                    for (int count = 0; count < 4; ++count) text += frequent[sequence_.below(frequent.size())];
                    break;
                case 3:
                    text += "\xe2\x82\xac\xf0\x9f\x98\x80";
                    break;
            }
        }
        return text;
    }

    void say_text(const std::string& text) {
        said_ += "text('";
        for (const char character : text) {
            char digits[3];
            std::snprintf(digits, sizeof(digits), "%02x", static_cast<unsigned char>(character));
            said_ += digits;
        }
        said_ += "')";
    }

    void write_value(JsonWriter& json, int depth) {
        switch (sequence_.below(depth < 6 ? 8 : 5)) {
            case 0: {
                const std::string text = any_text();
                say_text(text);
                json.value(text);
                break;
            }
            case 1: {
                const auto number = static_cast<std::int64_t>(sequence_.next() >> sequence_.below(64));
                said_ += std::to_string(number);
                json.value(number);
                break;
            }
            case 2: {
                const std::uint64_t number = sequence_.next() >> sequence_.below(64);
                said_ += std::to_string(number);
                json.value(number);
                break;
            }
            case 3: {
                auto number = std::bit_cast<double>(sequence_.next());
                if (!std::isfinite(number)) number = 0.25;
                char digits[40];
                std::snprintf(digits, sizeof(digits), "fraction('%a')", number);
                said_ += digits;
                json.value(number);
                break;
            }
            case 4:
                if (sequence_.below(3) == 0) {
                    said_ += "None";
                    json.value(nullptr);
                } else {
                    const bool truth = sequence_.below(2) == 0;
                    said_ += truth ? "True" : "False";
                    json.value(truth);
                }
                break;
            case 5:
            case 6:
                said_ += '[';
                json.begin_array();
                for (std::uint64_t count = sequence_.below(5); count > 0; --count) {
                    write_value(json, depth + 1);
                    said_ += ',';
                }
                json.end_array();
                said_ += ']';
                break;
            case 7:
                said_ += '{';
                json.begin_object();
                for (std::uint64_t count = sequence_.below(5); count > 0; --count) {
                    const std::string name = any_text();
                    say_text(name);
                    said_ += ':';
                    json.key(name);
                    write_value(json, depth + 1);
                    said_ += ',';
                }
                json.end_object();
                said_ += '}';
                break;
        }
    }

    Sequence sequence_;
    std::string said_;
};

}  // namespace

int main() {
    Samples samples;
    for (int count = 0; count < 5000; ++count) samples.write_one();
}
