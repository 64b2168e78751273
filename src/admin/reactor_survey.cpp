#include "admin/reactor_survey.hpp"

#include <exception>
#include <utility>

namespace ferrule::inline v0 {

namespace {

/// Who polls a reactor that does not turn must not fill its mailbox.
constexpr std::uint32_t unanswered_max = 4;

/// Shared by the asker and by the questions that are under way.
struct Survey {
    std::shared_ptr<Inbox> home;
    SurveyFunction function;
    // The asker's.
    std::vector<SurveyAnswer> answers;
    std::size_t missing = 0;
    Operation* wait = nullptr;  // of the asker, while it waits
};

/// A question on its way to a reactor, then its answer on the way home.
struct Question : Message {
    std::shared_ptr<Survey> survey;
    std::shared_ptr<WatchedReactor> reactor;
    std::size_t index = 0;
    SurveyAnswer answer;

    static void arrive(Message* message, bool delivered) noexcept {
        std::unique_ptr<Question> self{static_cast<Question*>(message)};
        if (delivered) {
            self->ask();
        } else {
            self->answer.state = SurveyAnswer::State::ended;
        }
        const std::shared_ptr<Inbox> home = self->survey->home;
        self->run = &Question::come_home;
        // What answers must find its way: who asked has bounded how many there are.
        if (!home->put_beyond_limit(*self)) return;
        static_cast<void>(self.release());
        if (home->claim_wake()) home->wake();
    }

    static void come_home(Message* message, bool) noexcept {
        const std::unique_ptr<Question> self{static_cast<Question*>(message)};
        Survey& survey = *self->survey;
        --self->reactor->unanswered;
        survey.answers[self->index] = std::move(self->answer);
        if (--survey.missing == 0 && survey.wait != nullptr) survey.wait->cancel();
    }

private:
    void ask() noexcept {
        try {
            answer.text = survey->function(*Reactor::current());
            answer.state = SurveyAnswer::State::answered;
        } catch (const std::exception& failure) {
            answer.state = SurveyAnswer::State::failed;
            answer.text = failure.what();
        } catch (...) {
            answer.state = SurveyAnswer::State::failed;
        }
    }
};

/// Makes the operation known to the survey for as long as it is awaited.
struct Waiting {
    Waiting(Survey& its, Operation& operation) noexcept : survey(its) { survey.wait = &operation; }
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;
    ~Waiting() { survey.wait = nullptr; }
    Survey& survey;
};

void send_questions(const std::shared_ptr<Survey>& survey,
                    const std::vector<std::shared_ptr<WatchedReactor>>& reactors) {
    survey->answers.resize(reactors.size());
    for (std::size_t index = 0; index < reactors.size(); ++index) {
        const std::shared_ptr<WatchedReactor>& reactor = reactors[index];
        if (reactor->unanswered >= unanswered_max) continue;
        auto question = std::make_unique<Question>();
        question->survey = survey;
        question->reactor = reactor;
        question->index = index;
        question->run = &Question::arrive;
        if (!reactor->inbox->send(*question)) {
            survey->answers[index].state =
                reactor->inbox->closed() ? SurveyAnswer::State::ended : SurveyAnswer::State::refused;
            continue;
        }
        static_cast<void>(question.release());
        ++reactor->unanswered;
        ++survey->missing;
    }
}

}  // namespace

std::string WatchedReactor::name() const {
    std::string text = "reactor " + std::to_string(id);
    if (!server.empty()) text += " of " + server;
    return text;
}

Task<std::vector<SurveyAnswer>> ask_reactors(Reactor& asker, std::vector<std::shared_ptr<WatchedReactor>> reactors,
                                             SurveyFunction function, std::chrono::nanoseconds patience) {
    const auto survey = std::make_shared<Survey>();
    survey->home = asker.inbox();
    survey->function = std::move(function);
    send_questions(survey, reactors);
    if (survey->missing != 0) {
        Operation wait = asker.wait_until(asker.refresh_now() + static_cast<std::uint64_t>(patience.count()));
        const Waiting waiting(*survey, wait);
        co_await wait;
    }
    co_return survey->answers;
}

}  // namespace ferrule::inline v0
