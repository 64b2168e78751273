// What the examples of the documentation find around them: examples.py compiles each fragment behind this header. A
// fragment shows Ferrule; what stands for the reader's own program is declared here.
#pragma once

#include <ferrule/admin/admin_port.hpp>
#include <ferrule/fs/directory.hpp>
#include <ferrule/fs/file.hpp>
#include <ferrule/http/compressed_body.hpp>
#include <ferrule/http/compression.hpp>
#include <ferrule/http/content_coding.hpp>
#include <ferrule/http/json_writer.hpp>
#include <ferrule/http/server.hpp>
#include <ferrule/net/address.hpp>
#include <ferrule/net/address_prefix.hpp>
#include <ferrule/net/buffered_reader.hpp>
#include <ferrule/net/byte_stream.hpp>
#include <ferrule/net/connect.hpp>
#include <ferrule/net/connection.hpp>
#include <ferrule/net/listen_socket.hpp>
#include <ferrule/net/network.hpp>
#include <ferrule/net/proxy_header.hpp>
#include <ferrule/net/resolver.hpp>
#include <ferrule/net/send_file.hpp>
#include <ferrule/net/shared_bytes.hpp>
#include <ferrule/net/stream.hpp>
#include <ferrule/net/udp_group.hpp>
#include <ferrule/net/udp_socket.hpp>
#include <ferrule/reactor/broadcast.hpp>
#include <ferrule/reactor/call.hpp>
#include <ferrule/reactor/cron_schedule.hpp>
#include <ferrule/reactor/cross_channel.hpp>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/reactor/interval.hpp>
#include <ferrule/reactor/offload.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/reactor/resume_on.hpp>
#include <ferrule/reactor/retry.hpp>
#include <ferrule/reactor/sharded.hpp>
#include <ferrule/reactor/stop_token.hpp>
#include <ferrule/ring/buffer_ring.hpp>
#include <ferrule/ring/prepare.hpp>
#include <ferrule/ring/probe.hpp>
#include <ferrule/ring/ring.hpp>
#include <ferrule/server/inherited_sockets.hpp>
#include <ferrule/server/server.hpp>
#include <ferrule/task/channel.hpp>
#include <ferrule/task/event.hpp>
#include <ferrule/task/gate.hpp>
#include <ferrule/task/mutex.hpp>
#include <ferrule/task/scope.hpp>
#include <ferrule/task/select.hpp>
#include <ferrule/task/semaphore.hpp>
#include <ferrule/task/spawn.hpp>
#include <ferrule/task/stream.hpp>
#include <ferrule/task/task.hpp>
#include <ferrule/task/task_group.hpp>
#include <ferrule/task/when_all.hpp>
#include <ferrule/task/when_any.hpp>
#include <ferrule/task/yield.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace ferrule;               // NOLINT: fragments are read without the prefix
using namespace std::chrono_literals;  // NOLINT

/// Work of the reader's that waits for something.
Task<> work();
/// A question to another server.
Task<std::string> ask(std::string_view whom);
/// A call that blocks its thread, and what it gives.
std::string read_configuration(const std::string& path);
/// How many of the first bytes are whole messages.
std::size_t find_messages(std::string_view text);
/// Keeps an answer where its reactor's handlers find it.
void keep_on_its_thread(SharedBytes page);
/// Serves one connection.
Task<> serve(Connection connection);
