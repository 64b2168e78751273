#include <ferrule/task/cancel.hpp>

#include "task_fixture.hpp"

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace ferrule;
using ferrule::testing::Source;
using ferrule::testing::TaskTest;

struct Node : CancelNode {
    Node(std::string its_name, std::vector<std::string>& calls)
        : CancelNode(&called), name(std::move(its_name)), log(&calls) {}
    ~Node() { CancelScope::remove(*this); }

    static void called(CancelNode& node, CancelReason reason) noexcept {
        auto& self = static_cast<Node&>(node);
        EXPECT_FALSE(self.linked());
        self.log->push_back(self.name + ":" + to_string(reason));
        if (self.then) {
            self.then();
        }
    }

    std::string name;
    std::vector<std::string>* log;
    std::function<void()> then;
};

class CancelTest : public TaskTest {
protected:
    std::vector<std::string> log;
};

TEST_F(CancelTest, TellsEachNodeOnceInnermostFirst) {
    CancelScope root;
    CancelScope left(&root);
    CancelScope right(&root);
    CancelScope below(&left);
    Node of_root("root", log);
    Node of_root_later("root later", log);
    Node of_left("left", log);
    Node of_right("right", log);
    Node of_below("below", log);
    EXPECT_TRUE(root.add(of_root));
    EXPECT_TRUE(root.add(of_root_later));
    EXPECT_TRUE(left.add(of_left));
    EXPECT_TRUE(right.add(of_right));
    EXPECT_TRUE(below.add(of_below));

    root.cancel(CancelReason::draining);
    ASSERT_EQ(log.size(), 5u);
    const auto position = [&](const std::string& name) {
        return std::find(log.begin(), log.end(), name + ":draining") - log.begin();
    };
    EXPECT_LT(position("below"), position("left"));
    EXPECT_LT(position("left"), position("root later"));
    EXPECT_LT(position("right"), position("root later"));
    EXPECT_LT(position("root later"), position("root"));
    EXPECT_EQ(below.reason(), CancelReason::draining);

    root.cancel(CancelReason::shutdown);
    EXPECT_EQ(log.size(), 5u);
    EXPECT_EQ(root.reason(), CancelReason::draining);
}

TEST_F(CancelTest, LeavesParentsAndSiblingsAlone) {
    CancelScope root;
    CancelScope left(&root);
    CancelScope right(&root);
    Node of_root("root", log);
    Node of_right("right", log);
    EXPECT_TRUE(root.add(of_root));
    EXPECT_TRUE(right.add(of_right));
    left.cancel(CancelReason::cancelled);
    EXPECT_TRUE(log.empty());
    EXPECT_FALSE(root.cancelled());
    EXPECT_FALSE(right.cancelled());
}

TEST_F(CancelTest, ChildThatWasCancelledBeforeKeepsItsReason) {
    CancelScope root;
    CancelScope child(&root);
    CancelScope grandchild(&child);
    CancelScope sibling(&root);
    child.cancel(CancelReason::deadline);
    root.cancel(CancelReason::shutdown);
    EXPECT_EQ(child.reason(), CancelReason::deadline);
    EXPECT_EQ(grandchild.reason(), CancelReason::deadline);
    EXPECT_EQ(sibling.reason(), CancelReason::shutdown);
}

TEST_F(CancelTest, CancelledScopeRefusesNodesAndPassesOnItsReason) {
    CancelScope root;
    root.cancel(CancelReason::shutdown);
    Node node("late", log);
    EXPECT_FALSE(root.add(node));
    EXPECT_FALSE(node.linked());
    const CancelScope child(&root);
    EXPECT_EQ(child.reason(), CancelReason::shutdown);
    EXPECT_TRUE(log.empty());
}

TEST_F(CancelTest, CallbacksMayRemoveThemselvesAndOthersAndAddElsewhere) {
    CancelScope root;
    CancelScope child(&root);
    CancelScope other;
    auto victim = std::make_unique<Node>("victim", log);
    Node first("first", log);
    Node moves("moves", log);
    EXPECT_TRUE(root.add(*victim));
    EXPECT_TRUE(root.add(moves));
    EXPECT_TRUE(child.add(first));
    first.then = [&] { victim.reset(); };
    moves.then = [&] {
        CancelScope::remove(moves);
        EXPECT_TRUE(other.add(moves));
        EXPECT_FALSE(root.add(first));
    };
    root.cancel(CancelReason::cancelled);
    EXPECT_EQ(log, (std::vector<std::string>{"first:cancelled", "moves:cancelled"}));
    EXPECT_TRUE(moves.linked());
}

TEST_F(CancelTest, CallbackMayDestroyTheScopesAndCancelOthers) {
    auto root = std::make_unique<CancelScope>();
    auto child = std::make_unique<CancelScope>(root.get());
    CancelScope other;
    Node of_other("other", log);
    Node of_root("root", log);
    Node of_child("child", log);
    EXPECT_TRUE(other.add(of_other));
    EXPECT_TRUE(root->add(of_root));
    EXPECT_TRUE(child->add(of_child));
    of_child.then = [&] {
        child.reset();
        root.reset();
        other.cancel(CancelReason::deadline);
    };
    root->cancel(CancelReason::shutdown);
    EXPECT_EQ(log, (std::vector<std::string>{"child:shutdown", "other:deadline", "root:shutdown"}));
}

TEST_F(CancelTest, RemovingFromTheMiddleKeepsTheOthers) {
    CancelScope scope;
    std::vector<std::unique_ptr<Node>> nodes;
    for (int i = 0; i < 5; ++i) {
        nodes.push_back(std::make_unique<Node>(std::to_string(i), log));
        EXPECT_TRUE(scope.add(*nodes.back()));
    }
    nodes[4].reset();
    nodes[2].reset();
    nodes[0].reset();
    scope.cancel(CancelReason::cancelled);
    EXPECT_EQ(log, (std::vector<std::string>{"3:cancelled", "1:cancelled"}));
}

TEST_F(CancelTest, DeepNestingNeedsNoStack) {
    std::vector<std::unique_ptr<CancelScope>> scopes;
    scopes.push_back(std::make_unique<CancelScope>());
    for (int depth = 0; depth < 100'000; ++depth) {
        scopes.push_back(std::make_unique<CancelScope>(scopes.back().get()));
    }
    scopes.front()->cancel(CancelReason::shutdown);
    EXPECT_EQ(scopes.back()->reason(), CancelReason::shutdown);
    while (!scopes.empty()) {
        scopes.pop_back();
    }
}

TEST_F(CancelTest, DeadlineCancelsAtItsTime) {
    CancelScope scope;
    Node node("node", log);
    EXPECT_TRUE(scope.add(node));
    scope.set_deadline(100);
    EXPECT_EQ(scope.deadline_ns(), 100u);
    host.advance_to(99);
    EXPECT_FALSE(scope.cancelled());
    scope.set_deadline(150);
    host.advance_to(149);
    EXPECT_FALSE(scope.cancelled());
    host.advance_to(150);
    EXPECT_EQ(scope.reason(), CancelReason::deadline);
    EXPECT_EQ(log, (std::vector<std::string>{"node:deadline"}));
    EXPECT_EQ(scope.deadline_ns(), 0u);
}

TEST_F(CancelTest, DeadlineIsDisarmedWhenItHasNoUse) {
    CancelScope parent;
    {
        CancelScope scope(&parent);
        scope.set_deadline(100);
        EXPECT_EQ(host.deadlines(), 1u);
    }
    EXPECT_EQ(host.deadlines(), 0u);
    CancelScope scope(&parent);
    scope.set_deadline(100);
    scope.clear_deadline();
    EXPECT_EQ(host.deadlines(), 0u);
    scope.set_deadline(100);
    parent.cancel(CancelReason::cancelled);
    EXPECT_EQ(host.deadlines(), 0u);
    scope.set_deadline(100);
    EXPECT_EQ(host.deadlines(), 0u);
}

TEST_F(CancelTest, ScopeOutlivesItsNodesAndChildren) {
    EXPECT_DEATH(
        {
            Node node("node", log);
            CancelScope scope;
            EXPECT_TRUE(scope.add(node));
        },
        "assertion failed: nodes_ == nullptr");
    EXPECT_DEATH(
        {
            auto parent = std::make_unique<CancelScope>();
            const CancelScope child(parent.get());
            parent.reset();
        },
        "assertion failed: children_ == nullptr");
}

TEST_F(CancelTest, AnotherHostsThreadMayNotTouchAScope) {
    ThreadHost other;
    CancelScope scope;
    EXPECT_EQ(scope.host(), &host);
    CancelScope root(other);
    EXPECT_EQ(root.host(), &other);
    EXPECT_DEATH(CancelScope{&root}, "a CancelScope is made below one of another host");
    EXPECT_DEATH(root.cancel(CancelReason::cancelled), "a CancelScope is cancelled on another host's thread");
    EXPECT_DEATH(root.set_deadline(1), "a CancelScope is given a deadline on another host's thread");
    EXPECT_DEATH(
        {
            auto below = std::make_unique<CancelScope>(&scope);
            const HostBinding elsewhere(other);
            below.reset();
        },
        "a CancelScope ends on another host's thread");
    const HostBinding elsewhere(other);
    const CancelScope below(&root);
    EXPECT_EQ(below.host(), &other);
}

TEST_F(CancelTest, ScopeThatNoHostMadeIsOfTheHostThatItsDeadlineIsArmedOn) {
    std::unique_ptr<CancelScope> scope;
    std::thread([&] { scope = std::make_unique<CancelScope>(); }).join();
    EXPECT_EQ(scope->host(), nullptr);
    scope->set_deadline(0);
    EXPECT_EQ(scope->host(), &host);
    EXPECT_EQ(host.deadlines(), 1u);
    scope.reset();
    EXPECT_EQ(host.deadlines(), 0u);
}

Task<CancelReason> waits(Source& source) {
    co_return co_await source.wait();
}

TEST_F(CancelTest, Law3CancelledWaitEndsOnce) {
    CancelScope scope;
    Environment environment{.scope = &scope, .host = &host};
    const Task<CancelReason> task = waits(source);
    EXPECT_TRUE(task.start(environment, std::noop_coroutine()));
    scope.cancel(CancelReason::draining);
    EXPECT_FALSE(task.done());
    EXPECT_FALSE(source.fire());
    EXPECT_EQ(host.run_ready(), 1u);
    EXPECT_TRUE(task.done());
    EXPECT_EQ(task.await_resume(), CancelReason::draining);
}

TEST_F(CancelTest, CancelledWaitThatIsDestroyedBeforeItsTurnIsForgotten) {
    CancelScope scope;
    Environment environment{.scope = &scope, .host = &host};
    Task<CancelReason> task = waits(source);
    EXPECT_TRUE(task.start(environment, std::noop_coroutine()));
    scope.cancel(CancelReason::draining);
    task.reset();
    EXPECT_EQ(host.run_ready(), 0u);
}

TEST_F(CancelTest, WaitBelowACancelledScopeEndsAtOnce) {
    CancelScope scope;
    scope.cancel(CancelReason::deadline);
    Environment environment{.scope = &scope, .host = &host};
    const Task<CancelReason> task = waits(source);
    EXPECT_FALSE(task.start(environment, std::noop_coroutine()));
    EXPECT_EQ(task.await_resume(), CancelReason::deadline);
}

}  // namespace
