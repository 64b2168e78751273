# Compile options that every target of this project shares; none of them is exported to users.
function(ferrule_compile_options target)
    target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor)
    # GCC before 11 needs -fcoroutines for C++20; with -std=c++23 both compilers enable coroutines themselves.
endfunction()
