// Against llhttp, as strict as it can be: whatever Ferrule takes as requests, llhttp takes as the same ones. The other
// way round it is not so: llhttp folds lines, takes bare line feeds and requests without Host.
#include "http/fuzz/mutation.hpp"
#include "http/messages.hpp"
#include "http/parsing.hpp"
#include "http/probe_cases.hpp"

#include <gtest/gtest.h>

#include <llhttp.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace ferrule_test;

class Llhttp {
public:
    // The whole messages in a stream, up to the first thing that it refuses.
    std::vector<Message> messages_of(std::string_view bytes) {
        llhttp_settings_t settings;
        llhttp_settings_init(&settings);
        settings.on_message_begin = [](llhttp_t* parser) { return by(parser).begin(); };
        settings.on_method = [](llhttp_t* parser, const char* at, std::size_t size) {
            return by(parser).add(by(parser).current_.method, at, size);
        };
        settings.on_url = [](llhttp_t* parser, const char* at, std::size_t size) {
            return by(parser).add(by(parser).current_.target, at, size);
        };
        settings.on_header_field = [](llhttp_t* parser, const char* at, std::size_t size) {
            return by(parser).add(by(parser).field_.first, at, size);
        };
        settings.on_header_value = [](llhttp_t* parser, const char* at, std::size_t size) {
            return by(parser).add(by(parser).field_.second, at, size);
        };
        settings.on_header_value_complete = [](llhttp_t* parser) { return by(parser).end_field(); };
        settings.on_headers_complete = [](llhttp_t* parser) { return by(parser).end_head(); };
        settings.on_body = [](llhttp_t* parser, const char* at, std::size_t size) {
            return by(parser).add(by(parser).current_.body, at, size);
        };
        settings.on_message_complete = [](llhttp_t* parser) { return by(parser).end(); };
        llhttp_t parser;
        llhttp_init(&parser, HTTP_REQUEST, &settings);
        parser.data = this;
        llhttp_execute(&parser, bytes.data(), bytes.size());
        return std::move(messages_);
    }

private:
    static Llhttp& by(llhttp_t* parser) { return *static_cast<Llhttp*>(parser->data); }
    int begin() {
        current_ = {};
        field_ = {};
        in_trailers_ = false;
        return 0;
    }
    int add(std::string& text, const char* at, std::size_t size) {
        text.append(at, size);
        return 0;
    }
    int end_field() {
        // It leaves white space at the end of a value to whoever reads it.
        while (!field_.second.empty() && (field_.second.back() == ' ' || field_.second.back() == '\t'))
            field_.second.pop_back();
        if (!in_trailers_) current_.fields.push_back(field_);
        field_ = {};
        return 0;
    }
    int end_head() {
        in_trailers_ = true;
        return 0;
    }
    int end() {
        messages_.push_back(current_);
        return 0;
    }

    std::vector<Message> messages_;
    Message current_;
    std::pair<std::string, std::string> field_;
    bool in_trailers_ = false;
};

// llhttp knows a list of methods; all others it refuses.
bool knows_method(std::string_view method) {
    for (const std::string_view known : {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"})
        if (method == known) return true;
    return false;
}

// Whether llhttp takes, as the same requests, all that Ferrule takes.
testing::AssertionResult is_taken_alike(std::string_view stream, unsigned& taken) {
    const std::vector<Message> ours = messages_of(stream);
    const std::vector<Message> theirs = Llhttp().messages_of(stream);
    for (std::size_t index = 0; index < ours.size(); ++index) {
        const Message& message = ours[index];
        if (!knows_method(message.method) || message.has_framing_trailers || message.has_tab_behind_framing) break;
        if (index >= theirs.size())
            return testing::AssertionFailure() << "it refuses request " << index << " of " << shown(stream);
        if (message != theirs[index])
            return testing::AssertionFailure() << "it has another request " << index << " in " << shown(stream);
        ++taken;
    }
    return testing::AssertionSuccess();
}

// H1-30 (3).
TEST(HttpLlhttp, TakesEveryProbeCaseThatIsTaken) {
    unsigned taken = 0;
    for (const ProbeCase& one : read_probe_cases(PROBE_CASES)) {
        std::string stream;
        for (const std::string& step : one.steps) stream += step;
        EXPECT_TRUE(is_taken_alike(stream, taken)) << one.id;
    }
    EXPECT_GT(taken, 50u);
}

// What is before the one that it refuses is compared, whatever tabs it has.
TEST(HttpLlhttp, LeavesOutOnlyTabsBehindWhatFrames) {
    const std::string tabs = "GET / HTTP/1.1\r\nHost: h\t\r\nX: y \t\r\n\r\n";
    for (const std::string refused :
         {"Content-Length: 1\t\r\n\r\nx", "Transfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n"}) {
        unsigned taken = 0;
        EXPECT_TRUE(is_taken_alike(tabs + "POST / HTTP/1.1\r\nHost: h\r\n" + refused + tabs, taken));
        EXPECT_EQ(taken, 1u);
    }
}

TEST(HttpLlhttp, TakesEveryChangedStreamThatIsTaken) {
    std::vector<std::string> corpus;
    for (const ProbeCase& one : read_probe_cases(PROBE_CASES))
        for (const std::string& step : one.steps)
            if (!step.empty() && step.size() < 2048) corpus.push_back(step);
    Mutation mutation(corpus, 81);
    unsigned taken = 0;
    for (unsigned execution = 0; execution < 50'000; ++execution)
        ASSERT_TRUE(is_taken_alike(mutation.next(), taken)) << "execution " << execution;
    EXPECT_GT(taken, 5'000u);
}

}  // namespace
