// The JSON answers of the arena, by Boost.Beast as its documentation would write this server, on one thread. Beast has
// no JSON: the text is put together by hand, in a buffer that each connection keeps.
#include <boost/asio.hpp>
#include <boost/beast.hpp>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace beast = boost::beast;
namespace http = beast::http;
using boost::asio::ip::tcp;

struct Entry {
    std::int64_t id, price, quantity, score, count;
    bool active;
    std::string name, category;
    std::vector<std::string> tags;
};

void append(std::string& text, std::int64_t number) {
    char digits[20];
    text.append(digits, std::to_chars(digits, digits + sizeof digits, number).ptr);
}

void append_quoted(std::string& text, std::string_view value) {
    text += '"';
    for (const char letter : value) {
        if (letter == '"' || letter == '\\') text += '\\';
        text += letter;
    }
    text += '"';
}

void append(std::string& text, const Entry& entry, std::int64_t factor) {
    text += R"({"id":)";
    append(text, entry.id);
    text += R"(,"name":)";
    append_quoted(text, entry.name);
    text += R"(,"category":)";
    append_quoted(text, entry.category);
    text += R"(,"price":)";
    append(text, entry.price);
    text += R"(,"quantity":)";
    append(text, entry.quantity);
    text += entry.active ? R"(,"active":true,"tags":[)" : R"(,"active":false,"tags":[)";
    for (std::size_t index = 0; index < entry.tags.size(); ++index) {
        if (index != 0) text += ',';
        append_quoted(text, entry.tags[index]);
    }
    text += R"(],"rating":{"score":)";
    append(text, entry.score);
    text += R"(,"count":)";
    append(text, entry.count);
    text += R"(},"total":)";
    append(text, entry.price * entry.quantity * factor);
    text += '}';
}

std::vector<Entry> read_items(const char* path) {
    std::ifstream file(path);
    std::vector<Entry> items;
    for (const auto& item : nlohmann::json::parse(file)) {
        items.push_back({item["id"], item["price"], item["quantity"], item["rating"]["score"], item["rating"]["count"],
                         item["active"], item["name"], item["category"], item["tags"]});
    }
    return items;
}

// /json/{count}?m={factor}: 0 when it is something else.
std::size_t count_of(std::string_view target, std::int64_t& factor) {
    constexpr std::string_view path = "/json/", query = "?m=";
    if (target.substr(0, path.size()) != path) return 0;
    std::size_t count = 0;
    const char* const end = target.data() + target.size();
    const char* at = std::from_chars(target.data() + path.size(), end, count).ptr;
    if (std::string_view(at, static_cast<std::size_t>(end - at)).substr(0, query.size()) != query) return 0;
    return std::from_chars(at + query.size(), end, factor).ptr == end ? count : 0;
}

class Session : public std::enable_shared_from_this<Session> {
public:
    Session(tcp::socket socket, const std::vector<Entry>& items) : stream_(std::move(socket)), items_(items) {}

    void read() {
        request_ = {};
        http::async_read(stream_, buffer_, request_, [self = shared_from_this()](beast::error_code error, std::size_t) {
            if (!error) self->answer();
        });
    }

private:
    void answer() {
        std::int64_t factor = 0;
        const std::string_view target(request_.target().data(), request_.target().size());
        const std::size_t count = count_of(target, factor);
        response_ = {};
        response_.version(11);
        response_.keep_alive(request_.keep_alive());
        if (count == 0 || count > items_.size()) {
            response_.result(http::status::not_found);
        } else {
            response_.result(http::status::ok);
            response_.set(http::field::content_type, "application/json");
            std::string& text = response_.body();
            text.reserve(text_bytes_);
            text += R"({"items":[)";
            for (std::size_t index = 0; index < count; ++index) {
                if (index != 0) text += ',';
                append(text, items_[index], factor);
            }
            text += R"(],"count":)";
            append(text, static_cast<std::int64_t>(count));
            text += '}';
            text_bytes_ = text.size();
        }
        response_.prepare_payload();
        http::async_write(stream_, response_, [self = shared_from_this()](beast::error_code error, std::size_t) {
            if (!error && self->response_.keep_alive()) self->read();
        });
    }

    beast::tcp_stream stream_;
    const std::vector<Entry>& items_;
    beast::flat_buffer buffer_;
    http::request<http::empty_body> request_;
    http::response<http::string_body> response_;
    std::size_t text_bytes_ = 0;
};

void accept(tcp::acceptor& acceptor, const std::vector<Entry>& items) {
    acceptor.async_accept([&](beast::error_code error, tcp::socket socket) {
        if (!error) {
            socket.set_option(tcp::no_delay(true));
            std::make_shared<Session>(std::move(socket), items)->read();
        }
        accept(acceptor, items);
    });
}

}  // namespace

int main(int count, char** arguments) {
    std::uint16_t port = 8080;
    const char* dataset = "";
    for (int index = 1; index + 1 < count; index += 2) {
        const std::string_view name = arguments[index];
        if (name == "--port") port = static_cast<std::uint16_t>(std::atoi(arguments[index + 1]));
        if (name == "--dataset") dataset = arguments[index + 1];
    }
    try {
        const std::vector<Entry> items = read_items(dataset);
        boost::asio::io_context context(1);
        tcp::acceptor acceptor(context, {boost::asio::ip::address_v4::loopback(), port});
        accept(acceptor, items);
        context.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "beast_json: %s\n", error.what());
        return 1;
    }
}
