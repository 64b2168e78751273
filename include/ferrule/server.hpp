#pragma once

/// What a server is written with: Server, Connection, Task, and what a handler awaits.
#include <ferrule/net/address.hpp>
#include <ferrule/net/buffered_reader.hpp>
#include <ferrule/net/byte_stream.hpp>
#include <ferrule/net/connection.hpp>
#include <ferrule/net/network.hpp>
#include <ferrule/reactor/deadline.hpp>
#include <ferrule/reactor/offload.hpp>
#include <ferrule/reactor/reactor.hpp>
#include <ferrule/reactor/resume_on.hpp>
#include <ferrule/server/inherited_sockets.hpp>
#include <ferrule/server/options.hpp>
#include <ferrule/server/server.hpp>
#include <ferrule/task/task.hpp>
#include <ferrule/version.hpp>
