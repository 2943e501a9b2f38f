"""A row of the table of public functions: what every one of them is tested with."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple


class Row(NamedTuple):
    """One public function with arguments that exercise it.

    Arrays are NumPy arrays, floats among them float64: the tests cast them to float32, bfloat16 or
    float64. Typed PRNG keys are given as the array `jax.random.key` would be made from: an integer
    array under a name that starts with "key".

    Attributes:
        function: The function.
        arguments: Its array arguments (or trees of arrays) by name; None is left out.
        rows: Names of the arguments whose first axis counts the examples of a batch. There are 8
            or 16 of them, so that 8 devices can share them. The other arguments all devices have.
        options: Its other arguments, which are static.
        differentiable: Names of the arguments whose gradient is checked; none for functions that
            choose or count.
        coupled: Whether it takes `axis_name`.
        outputs: "rows": every output has a first axis that counts examples. "same": no output
            has, and all devices get the same.
        bfloat16: Largest error of any output for bfloat16 inputs against float64 ones of the
            same (rounded) values, as a share of the output's largest entry.
        float32: The same for float32 inputs.
        bad: Replacements of arguments at which value and gradient must be finite.
        errors: Replacements of arguments or options, the exception, and a regular expression that
            its message must match: it names the argument, and shapes where shapes are wrong. None
            for a function that no array is wrong for.
        name: To tell apart rows of the same function.
        check_gradient: Tolerance of the finite-difference check in float64.
    """

    function: Callable
    arguments: Mapping[str, Any]
    rows: Sequence[str] = ()
    options: Mapping[str, Any] = {}
    differentiable: Sequence[str] = ()
    coupled: bool = False
    outputs: str = "rows"
    bfloat16: float = 1e-2
    float32: float = 1e-5
    bad: Sequence[Mapping[str, Any]] = ()
    errors: Sequence[tuple[Mapping[str, Any], type[Exception], str]] = ()
    name: str = ""
    check_gradient: float = 1e-4

    @property
    def id(self) -> str:
        module = self.function.__module__.rpartition(".")[2]
        return "-".join(filter(None, [module, self.function.__name__, self.name]))
