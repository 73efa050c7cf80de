"""The dict in which the paper's code keeps caches between calls, one entry a layer."""

from torch import Tensor


class KeepsIncrementalState:
    """An attention whose cache lies in an `incremental_state`, if it is called with one."""

    @property
    def _state_name(self) -> str:
        """The key of this layer in an `incremental_state`."""
        return f"{type(self).__name__}.{id(self)}"

    def reorder_incremental_state(self, incremental_state: dict, new_order: Tensor) -> dict:
        """Let row n of the state of this layer go on from row new_order[n].

        Args:
            incremental_state: of `forward`, changed in place.
            new_order: (N',) int64; N' may differ from the rows so far.

        Returns:
            `incremental_state`.
        """
        if self._state_name in incremental_state:
            incremental_state[self._state_name].reorder(new_order)
        return incremental_state
