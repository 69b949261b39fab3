"""Questions of other threads that only the main loop can answer, because only it may touch the engine."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

_Answer = TypeVar("_Answer")


class _Question(Generic[_Answer]):
    """Function to be called in the main loop, and its result."""

    def __init__(self, function: Callable[[], _Answer]) -> None:
        self._function = function
        self.answered = threading.Event()
        self.answer: _Answer | None = None

    def work(self) -> None:
        """Call the function."""
        self.answer = self._function()
        self.answered.set()


class Questions:
    """Queue of questions to the main loop.

    Args:
        wake: Lets the main loop call ``answer`` soon. Any thread may call it.

    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        #: Questions that wait. The main loop looks at it in each step; it is empty if nobody asks.
        self.waiting: deque[_Question[object]] = deque()

    def ask(self, function: Callable[[], _Answer], timeout_s: float) -> _Answer | None:
        """Return the result of ``function``, called in the main loop; None if it was not called within ``timeout_s``.

        The function must not raise an error, and must be quick: messages wait meanwhile.
        """
        question = _Question(function)
        self.waiting.append(question)  # type: ignore[arg-type]
        self._wake()
        if question.answered.wait(timeout_s):
            return question.answer
        try:
            self.waiting.remove(question)  # type: ignore[arg-type]
        except ValueError:  # the main loop has taken it meanwhile
            return question.answer
        return None

    def answer(self) -> None:
        """Answer what waits. The main loop calls this."""
        while self.waiting:
            try:
                question = self.waiting.popleft()
            except IndexError:  # its asker has given up meanwhile
                return
            question.work()
