// The generator's modes and the pieces that they share. Each mode returns the exit status of the program.
#pragma once

#include "options.hpp"

#include <string>

namespace load {

int run_keep_alive(const Options& options);
int run_churn(const Options& options);
int run_hold(const Options& options);
int run_start(const Options& options);
int run_echo(const Options& options);
int run_stream(const Options& options);
int run_fetch(const Options& options);

// The request head. With `close`, it asks the server to close the connection after its answer.
std::string request(const Options& options, bool close);

// A connected blocking socket; ends the program with a message when the server refuses it.
int connect_blocking(const Options& options, unsigned index);

// Sends `head` on a blocking socket and reads one answer. Returns the length of the answer, head and body, or ends the
// program with what is wrong with it.
size_t ask(int descriptor, const std::string& head);

// Checks one whole answer: status 200, and Content-Length in agreement with its size. Returns its length, head and
// body, as soon as that is known, or 0 when `received` ends before the head does.
size_t answer_length(const char* received, size_t bytes);

}  // namespace load
