// Command line of the load generator.
#pragma once

#include <netinet/in.h>
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace load {

struct Options {
    std::string mode;                // one of those that --help lists
    std::string host = "127.0.0.1";  // IPv4
    std::string path = "/";          // what is asked for
    uint16_t port = 8080;
    unsigned connections = 64;
    unsigned depth = 1;                  // requests in flight on a connection
    unsigned rate = 120000;              // requests per second, of all connections together
    unsigned spread = 1;                 // consecutive addresses from host on that churn connects to in turn
    unsigned milliseconds = 1000;        // measured window
    unsigned warmup_milliseconds = 300;  // before it, not measured
    unsigned timeout_milliseconds = 10000;
    std::vector<pid_t> watched;        // processes whose CPU time is read at both ends of the window
    std::vector<unsigned> steps;       // hold: numbers of connections to reach, one after the other
    unsigned bytes = 64;               // echo: of a message
    uint16_t backend = 8081;           // relay: where the proxy leads
    int cpu = -1;                      // the servers' CPU: whose time is reported, or, for start, to pin the command to
    std::vector<std::string> command;  // start: what to run
};

// Parses or ends the program with a message that names the argument.
Options parse_options(int count, char** arguments);

// Address number `index` of the spread.
sockaddr_in server_address(const Options& options, unsigned index);

}  // namespace load
