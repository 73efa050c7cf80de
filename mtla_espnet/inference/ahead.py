"""Utterances read in threads before their batch comes: a GPU does not wait for files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from mtla_espnet.files import UserError
from mtla_espnet.search.batch_plan import longest_first

# Decoding flac leaves Python's lock; one thread reads some 6,000 seconds of audio a second.
_THREADS = 4


class ReadAhead[Value]:
    """Reads utterances in the order of their batches; a context.

    While a batch is decoded, those that come next are read: as much again as the batch holds in
    total length, so that memory is bounded.

    Args:
        read: reads an utterance, in any thread; it may raise a UserError.
        lengths: id -> length, of all that will be asked for.
        ahead: False: nothing is read before it is asked for.
    """

    def __init__(
        self, read: Callable[[str], Value], lengths: Mapping[str, int], ahead: bool = True
    ):
        self._read, self._lengths, self._ahead = read, lengths, ahead
        self._order = longest_first(lengths)
        self._place = {key: place for place, key in enumerate(self._order)}
        self._begun: dict[str, Future[Value]] = {}
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="read-ahead")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._pool.shutdown(cancel_futures=True)

    def __call__(self, batch: Sequence[str]) -> Iterator[tuple[str, Value | UserError]]:
        """Read a batch, which is not before the last one in order.

        Args:
            batch: ids that follow each other, the longest first.

        Yields:
            Each id, with what was read or why it cannot be.
        """
        first = self._place[batch[0]]
        for key in [key for key in self._begun if self._place[key] < first]:
            del self._begun[key]
        for key in (*batch, *self._next(batch)):
            if key not in self._begun:
                self._begun[key] = self._pool.submit(self._read, key)
        for key in batch:
            try:
                yield key, self._begun[key].result()
            except UserError as error:
                yield key, error
            except BaseException:  # such as too little memory: read again if it is asked for again
                del self._begun[key]
                raise

    def _next(self, batch: Sequence[str]) -> Iterator[str]:
        if not self._ahead:
            return
        room = sum(self._lengths[key] for key in batch)
        for key in self._order[self._place[batch[-1]] + 1 :]:
            room -= self._lengths[key]
            if room < 0:
                return
            yield key
