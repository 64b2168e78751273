# Cross build for 64-bit ARM with the distribution's compiler (g++-aarch64-linux-gnu). What needs no io_uring runs under
# qemu-user, which has no io_uring of its own; linking libgcc, libstdc++ and libc statically makes that independent of the host.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_EXE_LINKER_FLAGS_INIT -static)

set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)

find_program(FERRULE_QEMU_AARCH64 NAMES qemu-aarch64-static qemu-aarch64)
if(FERRULE_QEMU_AARCH64)
    set(CMAKE_CROSSCOMPILING_EMULATOR ${FERRULE_QEMU_AARCH64})
endif()
