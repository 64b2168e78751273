#include <ferrule/net/network.hpp>
#include <ferrule/net/port_group.hpp>

#include "support/client_socket.hpp"
#include "support/network_engine.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace ferrule_test {
namespace {

using namespace ferrule;

/// Reactors on threads of their own whose sockets share a port in one group.
class GroupedReactors {
public:
    explicit GroupedReactors(unsigned count) {
        ListenSocketOptions socket{.address = Address::loopback(0)};
        std::vector<std::promise<void>> started(count);
        for (unsigned number = 0; number < count; ++number) {
            const int descriptor = *open_listen_socket(linux_kernel(), socket);
            address = *local_address(linux_kernel(), descriptor);
            socket.address = address;
            group->add(descriptor);
            reactors.push_back(std::make_unique<Reactor>(number));
            reactors.back()->on_start([this, descriptor, &started, number](Reactor& reactor) {
                Network::of(reactor).listen(descriptor, echo, group);
                started[number].set_value();
            });
        }
        for (unsigned number = 0; number < count; ++number) {
            threads.emplace_back([reactor = reactors[number].get()] { reactor->run(); });
        }
        for (auto& one : started) one.get_future().wait();
    }
    ~GroupedReactors() {
        for (const auto& reactor : reactors) reactor->stop();
    }

    void drain(unsigned number) {
        Reactor* reactor = reactors[number].get();
        reactor->post([reactor] { reactor->drain(std::chrono::seconds(10)); });
        threads[number].join();
    }
    std::uint64_t accepted(unsigned number) const {
        return reactors[number]->find_service<Network>()->counters().accepted.value();
    }

    Address address = Address::loopback(0);
    std::shared_ptr<PortGroup> group = std::make_shared<PortGroup>();
    std::vector<std::unique_ptr<Reactor>> reactors;
    std::vector<std::jthread> threads;
};

TEST(PortGroup, a_socket_that_has_left_gets_no_client_any_more) {
    ListenSocketOptions socket{.address = Address::loopback(0)};
    std::vector<int> sockets;
    PortGroup group;
    for (unsigned number = 0; number < 3; ++number) {
        sockets.push_back(*open_listen_socket(linux_kernel(), socket));
        socket.address = *local_address(linux_kernel(), sockets.back());
        group.add(sockets.back());
    }
    ASSERT_TRUE(group.leave(linux_kernel(), sockets[1]));
    std::vector<ClientSocket> clients;
    for (unsigned client = 0; client < 60; ++client) clients.push_back(ClientSocket::connect(socket.address));
    timeval no_wait{.tv_sec = 0, .tv_usec = 1};
    ASSERT_EQ(::setsockopt(sockets[1], SOL_SOCKET, SO_RCVTIMEO, &no_wait, sizeof no_wait), 0);
    EXPECT_EQ(::accept(sockets[1], nullptr, nullptr), -1);
    group.close(linux_kernel(), sockets[1]);
    EXPECT_EQ(group.size(), 2u);
    for (unsigned client = 0; client < 60; ++client) clients.push_back(ClientSocket::connect(socket.address));
    group.close(linux_kernel(), sockets[0]);
    EXPECT_FALSE(group.leave(linux_kernel(), sockets[2])) << "the last one has nobody to leave to";
    group.close(linux_kernel(), sockets[2]);
}

TEST(PortGroup, no_client_is_reset_when_one_reactor_of_several_is_drained_under_load) {
    GroupedReactors server(3);
    std::atomic<bool> drained{false};
    std::vector<std::future<unsigned>> clients;
    for (unsigned thread = 0; thread < 2; ++thread) {
        clients.push_back(std::async(std::launch::async, [&] {
            unsigned served = 0;
            for (unsigned after = 0; after < 50; after += drained ? 1 : 0) {
                // Refused or reset, this throws or tells. A connection that was idle when its reactor was drained ends
                // orderly, unserved.
                ClientSocket client = ClientSocket::connect(server.address);
                client.send("still here?");
                client.shutdown_write();
                const ClientSocket::Rest rest = client.receive_rest();
                if (rest.error != 0 || (!rest.bytes.empty() && rest.bytes != "still here?")) {
                    throw std::runtime_error("a client was reset");
                }
                ++served;
            }
            return served;
        }));
    }
    server.drain(1);
    drained = true;
    for (auto& client : clients) EXPECT_GE(client.get(), 50u);
    EXPECT_EQ(server.group->size(), 2u);
}

}  // namespace
}  // namespace ferrule_test
