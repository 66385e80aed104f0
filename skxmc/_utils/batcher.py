"""`skxmc.serving.Batcher`: texts that wait for the model are predicted together, by one thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from queue import Full
from typing import Any, NamedTuple

# One call of the model takes so many texts, unless a single request has more.
MAX_BATCH = 256
# Texts that may wait. A request that would exceed them is refused.
MAX_WAITING = 1024
# After a call for several requests, the next one waits so many seconds. By then, clients that got
# their answers have asked again, and are predicted together instead of the first one alone.
GATHER_SECONDS = 0.005


class _Job(NamedTuple):
    texts: list[str]
    settings: tuple[Hashable, ...]
    answers: Future[list[Any]]


class Batcher:
    """One thread that predicts. Texts that arrive while it is busy make up its next call.

    Threads of a server call it like a function, and each waits for its own answers. A call of the
    model takes at most 256 texts, unless a single request has more.

    Read more in the user guide: :doc:`/guide/other_systems`.

    Parameters
    ----------
    predict : callable
        ``predict(texts, *settings)`` returns a list with one answer per text. Only texts with
        equal settings are predicted together.

    See Also
    --------
    LightXMLClassifier.predict_topk : The best labels of many texts in one call.

    Examples
    --------
    >>> from skxmc.serving import Batcher
    >>> batcher = Batcher(lambda texts, k: [text[:k] for text in texts])
    >>> batcher(["shares and bonds"], 6)
    ['shares']
    >>> batcher.close()
    """

    def __init__(self, predict: Callable[..., list[Any]]) -> None:
        self._predict = predict
        self._waiting: deque[_Job] = deque()
        self._n_waiting = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="skxmc-batcher", daemon=True)
        self._thread.start()

    def __call__(self, texts: list[str], *settings: Hashable) -> list[Any]:
        """Wait for the answers to some texts.

        Parameters
        ----------
        texts : list of str
            Texts of one request.
        *settings : hashable
            What `predict` takes besides.

        Returns
        -------
        list
            One answer per text.

        Raises
        ------
        queue.Full
            If more than 1,024 texts would wait, or if the batcher is closed.
        Exception
            What `predict` raised for these texts.
        """
        job = _Job(texts, settings, Future())
        with self._changed:
            has_room = not self._waiting or self._n_waiting + len(texts) <= MAX_WAITING
            if self._closed or not has_room:
                raise Full
            self._waiting.append(job)
            self._n_waiting += len(texts)
            self._changed.notify()
        return job.answers.result()

    def close(self) -> None:
        """Answer the requests that wait, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        jobs: list[_Job] = []
        while jobs := self._next_jobs(GATHER_SECONDS if len(jobs) > 1 else 0.0):
            try:
                self._answer(jobs)
            except Exception as error:
                if len(jobs) == 1:
                    jobs[0].answers.set_exception(error)
                    continue
                for job in jobs:  # one at a time, so that only the culprit fails
                    try:
                        self._answer([job])
                    except Exception as its_error:
                        job.answers.set_exception(its_error)

    def _next_jobs(self, seconds: float) -> list[_Job]:
        """Wait for a job and some seconds more, and take it and those that fit to it.

        No job is left after `close`.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            self._changed.wait_for(lambda: self._closed, seconds)
            jobs: list[_Job] = []
            others: deque[_Job] = deque()
            n_texts = 0
            for job in self._waiting:
                fits = not jobs or (
                    job.settings == jobs[0].settings and n_texts + len(job.texts) <= MAX_BATCH
                )
                (jobs if fits else others).append(job)
                n_texts += len(job.texts) * fits
            self._waiting = others
            self._n_waiting -= n_texts
            return jobs

    def _answer(self, jobs: list[_Job]) -> None:
        answers = iter(
            self._predict([text for job in jobs for text in job.texts], *jobs[0].settings)
        )
        for job in jobs:
            job.answers.set_result([next(answers) for _ in job.texts])
