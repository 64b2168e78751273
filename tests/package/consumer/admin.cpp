// An admin port of the installed library: it starts, is asked by its own machine, and ends.
#include <ferrule/admin/admin_port.hpp>
#include <ferrule/net/connect.hpp>
#include <ferrule/server.hpp>

#include <cstdio>
#include <string>

namespace {

// Asks for the page, and stops the reactor with it.
ferrule::Task<> ask(ferrule::Reactor& reactor, ferrule::Address address, std::string* answer) {
    auto connected = co_await ferrule::connect(reactor, address);
    if (connected) {
        connected->write("GET /metrics HTTP/1.0\r\n\r\n");
        co_await connected->flush();
        while (auto received = co_await connected->read()) {
            for (const auto slice : received) answer->append(reinterpret_cast<const char*>(slice.data()), slice.size());
        }
    }
    reactor.stop();
}

}  // namespace

int main() {
    ferrule::AdminOptions options;
    options.port = 0;
    ferrule::AdminPort admin(options);
    ferrule::Reactor reactor;
    admin.watch(reactor);
    admin.start();
    std::string answer;
    reactor.on_start([&](ferrule::Reactor& started) { started.spawn(ask(started, admin.address(), &answer)); });
    reactor.run();
    const bool shown = answer.find("ferrule_loop_passes_total{reactor=\"0\"} ") != std::string::npos;
    if (!shown) std::fprintf(stderr, "%s\n", answer.c_str());
    return shown ? 0 : 1;
}
