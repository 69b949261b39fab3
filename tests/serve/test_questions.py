"""Questions of other threads to the main loop."""

from __future__ import annotations

import threading

from harstream.serve.questions import Questions


def test_the_main_loop_answers_and_is_woken():
    woken = threading.Event()
    questions = Questions(woken.set)
    answers: list[int | None] = []
    asker = threading.Thread(target=lambda: answers.append(questions.ask(threading.get_ident, 180.0)))
    asker.start()
    assert woken.wait(180.0)
    questions.answer()
    asker.join()
    assert answers == [threading.get_ident()]
    assert not questions.waiting


def test_a_question_that_is_not_answered_in_time_is_withdrawn():
    questions = Questions(lambda: None)
    called: list[int] = []
    assert questions.ask(lambda: called.append(1), 0.0) is None
    questions.answer()
    assert called == []
