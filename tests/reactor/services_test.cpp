#include <ferrule/reactor/services.hpp>

#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using ferrule::Services;

struct Cache {
    explicit Cache(int initial) : size(initial) {}
    int size;
};

struct First {
    explicit First(std::vector<std::string>& record) : ended(&record) {}
    ~First() { ended->push_back("first"); }
    std::vector<std::string>* ended;
};
struct Second {
    explicit Second(std::vector<std::string>& record) : ended(&record) {}
    ~Second() { ended->push_back("second"); }
    std::vector<std::string>* ended;
};
struct Failing {
    Failing() { throw std::runtime_error("no"); }
};

TEST(Services, FindsWhatWasAdded) {
    Services services;
    EXPECT_EQ(services.find<Cache>(), nullptr);
    Cache& added = services.add<Cache>(3);
    EXPECT_EQ(services.find<Cache>(), &added);
    EXPECT_EQ(services.get<Cache>().size, 3);
    EXPECT_EQ(services.find<int>(), nullptr);
}

TEST(Services, KeepsWhatCannotMove) {
    Services services;
    auto& value = services.add<std::unique_ptr<int>>(std::make_unique<int>(7));
    EXPECT_EQ(*value, 7);
}

TEST(Services, SecondOfATypeIsMisuse) {
    Services services;
    services.add<Cache>(1);
    EXPECT_THROW(services.add<Cache>(2), std::logic_error);
    EXPECT_EQ(services.get<Cache>().size, 1);
}

TEST(Services, MissingServiceIsNamed) {
    const Services services;
    try {
        static_cast<void>(services.get<Cache>());
        FAIL() << "there is none";
    } catch (const std::logic_error& failure) {
        EXPECT_NE(std::string(failure.what()).find("Cache"), std::string::npos);
    }
}

TEST(Services, FailedConstructionLeavesNothing) {
    Services services;
    EXPECT_THROW(services.add<Failing>(), std::runtime_error);
    EXPECT_EQ(services.find<Failing>(), nullptr);
}

TEST(Services, EndInTheOppositeOrder) {
    std::vector<std::string> ended;
    {
        Services services;
        services.add<First>(ended);
        services.add<Second>(ended);
    }
    EXPECT_EQ(ended, (std::vector<std::string>{"second", "first"}));
}

}  // namespace
