# GoogleTest, and the ways to add a test.
include(GoogleTest)

if(CMAKE_CROSSCOMPILING)
    # The distribution's GoogleTest is for the host: its packaged sources are compiled for the target instead.
    set(FERRULE_GOOGLETEST_SOURCES /usr/src/googletest CACHE PATH "GoogleTest's sources, compiled when cross-compiling")
    add_subdirectory(${FERRULE_GOOGLETEST_SOURCES} ${PROJECT_BINARY_DIR}/googletest EXCLUDE_FROM_ALL)
    foreach(library gtest gtest_main gmock)
        if(NOT TARGET GTest::${library})
            add_library(GTest::${library} ALIAS ${library})
        endif()
    endforeach()
else()
    find_package(GTest REQUIRED)
endif()

# ferrule_add_test(<name> [SOURCES ...] [LIBRARIES ...] [ARGUMENTS ...] [TIMEOUT seconds] [FILTER gtest-filter] [LABELS full|release ...] [PURE])
#
# One test program per concept: tests/<area>/<name>.cpp, registered from tests/<area>/CMakeLists.txt. CTest knows its tests one by one, as
# <preset>/<area>/<concept>/<Suite>.<Test>, so they run in parallel and a filter finds them. GTEST_SKIP() << "reason" counts as skipped.
#
#   SOURCES    default: <name>.cpp
#   TIMEOUT    seconds for each test of the program, default 120
#   LABELS     none: first tier, `./ferrule test`. `full`: only with --full. `release`: only with --release.
#   FILTER     registers only these tests. Call again with the same name, another FILTER and LABELS to put the others in another tier.
#   PURE       needs no io_uring: the only tests that the cross build runs, because qemu-user has none
function(ferrule_add_test name)
    cmake_parse_arguments(ARG "PURE" "TIMEOUT;FILTER" "SOURCES;LIBRARIES;ARGUMENTS;LABELS" ${ARGN})
    if(ARG_UNPARSED_ARGUMENTS)
        message(FATAL_ERROR "ferrule_add_test(${name}): unknown arguments ${ARG_UNPARSED_ARGUMENTS}")
    endif()
    foreach(label IN LISTS ARG_LABELS)
        if(NOT label MATCHES "^(full|release)$")
            message(FATAL_ERROR "ferrule_add_test(${name}): label ${label} is not one of: full, release")
        endif()
    endforeach()
    if(NOT ARG_SOURCES)
        set(ARG_SOURCES ${name}.cpp)
    endif()
    if(NOT ARG_TIMEOUT)
        set(ARG_TIMEOUT 120)
    endif()
    get_filename_component(area ${CMAKE_CURRENT_SOURCE_DIR} NAME)
    set(target ${area}_${name})
    if(NOT TARGET ${target})
        add_executable(${target} ${ARG_SOURCES})
        target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
        target_link_libraries(${target} PRIVATE ferrule::ferrule GTest::gtest GTest::gmock GTest::gtest_main ${ARG_LIBRARIES})
        ferrule_compile_options(${target})
        # Tests under another kernel run these programs again, without the tests of later tiers.
        if(ARG_FILTER OR NOT ARG_LABELS)
            set_property(GLOBAL APPEND PROPERTY FERRULE_TEST_PROGRAMS ${target})
        endif()
    endif()
    if(ARG_LABELS AND ARG_FILTER)
        set_property(GLOBAL APPEND PROPERTY FERRULE_LATER_TESTS ${ARG_FILTER})
    endif()
    if(CMAKE_CROSSCOMPILING AND NOT ARG_PURE)
        return()
    endif()
    set(properties TIMEOUT ${ARG_TIMEOUT})
    if(ARG_LABELS)
        string(REPLACE ";" "\\;" labels "${ARG_LABELS}")
        list(APPEND properties LABELS "${labels}")
    endif()
    set(filter)
    if(ARG_FILTER)
        set(filter TEST_FILTER "${ARG_FILTER}")
    endif()
    string(REGEX REPLACE "_test$" "" concept ${name})
    gtest_discover_tests(${target} TEST_PREFIX ${FERRULE_TEST_PREFIX}${area}/${concept}/ EXTRA_ARGS ${ARG_ARGUMENTS} ${filter}
        DISCOVERY_TIMEOUT 60 PROPERTIES ${properties})
endfunction()

# ferrule_add_command_test(<name> COMMAND ... [TIMEOUT seconds] [LABELS ...] [COST number])
#
# A test that is a command: <preset>/<area>/<name>. Exit status 77 counts as skipped; the command prints the reason after "SKIPPED: ".
# A high COST starts it early, so that a long test does not run alone at the end.
function(ferrule_add_command_test name)
    cmake_parse_arguments(ARG "" "TIMEOUT;COST" "COMMAND;LABELS" ${ARGN})
    if(ARG_UNPARSED_ARGUMENTS OR "${ARG_COMMAND}" STREQUAL "")
        message(FATAL_ERROR "ferrule_add_command_test(${name}): COMMAND is missing, or unknown arguments: ${ARG_UNPARSED_ARGUMENTS}")
    endif()
    if(NOT ARG_TIMEOUT)
        set(ARG_TIMEOUT 120)
    endif()
    get_filename_component(area ${CMAKE_CURRENT_SOURCE_DIR} NAME)
    set(test ${FERRULE_TEST_PREFIX}${area}/${name})
    add_test(NAME ${test} COMMAND ${ARG_COMMAND})
    set_tests_properties(${test} PROPERTIES TIMEOUT ${ARG_TIMEOUT} SKIP_RETURN_CODE 77)
    if(ARG_LABELS)
        set_tests_properties(${test} PROPERTIES LABELS "${ARG_LABELS}")
    endif()
    if(ARG_COST)
        set_tests_properties(${test} PROPERTIES COST ${ARG_COST})
    endif()
endfunction()

# ferrule_skipping_command(<variable> <reason>)
#
# For tests whose program cannot be built here: a command that skips, whatever comes behind it, so that they show as skipped and not as nothing.
function(ferrule_skipping_command variable reason)
    set(${variable} sh -c "echo \"SKIPPED: $0\" && exit 77" "${reason}" PARENT_SCOPE)
endfunction()

# ferrule_add_skipped_test(<name> <reason>)
#
# In the place of such a test.
function(ferrule_add_skipped_test name reason)
    ferrule_skipping_command(skip "${reason}")
    ferrule_add_command_test(${name} COMMAND ${skip})
endfunction()
