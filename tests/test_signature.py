"""A call that cannot work is refused before anything is written."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from slurmapply.errors import InvalidArgumentError
from slurmapply.signature import check_call, check_count, function_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator


def two(mu: float, sigma: float = 1.0) -> float:
    return mu + sigma


def any_keyword(mu: float, **more: float) -> float:
    return mu + sum(more.values())


def any_position(*values: float, scale: float = 1.0) -> float:
    return sum(values) * scale


def by_position(x: float, /, y: float = 0.0) -> float:
    return x + y


def by_position_and_any(x: float, /, **more: float) -> float:
    return x + sum(more.values())


def by_keyword(*, x: float) -> float:
    return x


def generator(mu: float) -> Iterator[float]:
    yield mu


async def coroutine(mu: float) -> float:
    return mu


async def async_generator(mu: float) -> AsyncIterator[float]:
    yield mu


class Model:
    def __init__(self, mu: float = 0.0) -> None:
        self.mu = mu

    def fit(self, sigma: float) -> float:
        return self.mu + sigma

    def steps(self, sigma: float) -> Iterator[float]:
        yield self.mu + sigma

    def __call__(self, sigma: float) -> float:
        return self.mu + sigma


class GeneratorObject:
    def __call__(self, mu: float) -> Iterator[float]:
        yield mu


class CoroutineObject:
    async def __call__(self, mu: float) -> float:
        return mu


def decorated(f: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return f(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize(
    ("f", "names", "more"),
    [
        (two, ["mu"], {}),
        (two, ["mu", "sigma"], {}),
        (two, ["sigma"], {"mu": 1}),
        (any_keyword, ["mu", "anything"], {"more_still": 1}),
        (by_position_and_any, ["y"], {"positional": 1}),
        (functools.partial(two, 1.0), ["sigma"], {}),
        (functools.partial(two, mu=1.0), [], {}),
        (functools.partial(two, mu=1.0), ["mu"], {}),
        (functools.partial(two, mu=1.0), [], {"mu": 2.0}),
        (lambda mu: mu, ["mu"], {}),
        (Model, ["mu"], {}),
        (Model().fit, ["sigma"], {}),
        (Model(), ["sigma"], {}),
        (decorated(two), ["mu"], {}),
        (functools.lru_cache(two), ["mu"], {}),
        (dict, ["anything"], {}),
        (max, ["key"], {}),
        (GeneratorObject, [], {}),
    ],
)
def test_what_fits_is_accepted(f: Any, names: list[str], more: dict[str, Any]) -> None:
    positional = 1 if f is by_position_and_any else 0
    check_call(f, names, more_args=more, positional=positional)


@pytest.mark.parametrize(
    ("f", "names", "more", "argument", "message"),
    [
        (two, ["mu", "sgma"], {}, "params",
         r"no argument 'sgma' \(did you mean 'sigma'\?\), which params.*: mu, sigma=\.\.\.\.$"),
        (two, ["mu", "zzz"], {}, "params", "two has no argument 'zzz', which"),
        (two, ["mu"], {"sgma": 1}, "more_args", r"'sgma' \(did you mean 'sigma'\?\), which more_a"),
        (two, ["sigma"], {}, "params", "two needs 'mu', which nothing gives"),
        (two, ["m"], {}, "params", "(?s)no argument 'm'.*needs 'mu'"),
        (any_keyword, ["sigma"], {}, "params", "needs 'mu'"),
        (by_keyword, [], {}, "params", "by_keyword needs 'x'"),
        (two, ["mu"], {"mu": 1}, "more_args", "'mu' stand both in params and in more_args"),
        (two, ["mu"], ["sigma"], "more_args", r"\(list\), not a mapping"),
        (two, ["mu"], {1: 2}, "more_args", "not a mapping of arguments"),
        (by_position, ["x"], {}, "params", "takes 'x' by position only.*lambda x: f"),
        (by_position, ["y"], {}, "params", "takes 'x' by position only"),
        (functools.partial(two, 1.0), ["mu"], {}, "params", "two has no argument 'mu'"),
        (Model, ["nu"], {}, "params", "Model has no argument 'nu'"),
        (Model().fit, ["self", "sigma"], {}, "params", "fit has no argument 'self'"),
        (decorated(two), ["nu"], {}, "params", "Where a decorator changes"),
        (lambda: 1, ["mu"], {}, "params", "lambda has no argument 'mu'.*no keyword arguments"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(
    f: Any, names: list[str], more: Any, argument: str, message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message) as refusal:
        check_call(f, names, more_args=more)
    assert refusal.value.argument == argument


def test_an_argument_that_some_rows_lack_needs_a_default() -> None:
    check_call(two, ["mu", "sigma"], sometimes_absent={"sigma"})
    with pytest.raises(InvalidArgumentError, match="needs 'mu', which some rows lack"):
        check_call(two, ["mu", "sigma"], sometimes_absent={"mu"})


@pytest.mark.parametrize(
    ("f", "more", "message"),
    [
        (two, {}, None),
        (two, {"sigma": 2}, None),
        (any_position, {"scale": 2}, None),
        (by_position, {"y": 2}, None),
        (by_position_and_any, {"x": 2}, None),
        (math.sqrt, {}, None),
        (str.upper, {}, None),
        (two, {"mu": 2}, "more_args names 'mu', the argument that each item goes to"),
        (any_keyword, {"mu": 2}, "more_args names 'mu'"),
        (by_keyword, {}, "by_keyword takes no argument by position.*It takes: x."),
        (lambda: 1, {}, "takes no argument by position"),
        (functools.partial(two, mu=1.0), {}, "takes no argument by position"),
        (lambda a, b: a + b, {}, "needs 'b'"),
    ],
)
def test_an_item_goes_to_the_first_argument(
    f: Any, more: dict[str, Any], message: str | None
) -> None:
    if message is None:
        check_call(f, [], more_args=more, positional=1, what="items")
        return
    with pytest.raises(InvalidArgumentError, match=message):
        check_call(f, [], more_args=more, positional=1, what="items")


@pytest.mark.parametrize(
    ("f", "message"),
    [
        ("two", "'two' \\(str\\), not a function. Pass the function itself, without quotes"),
        (pd.DataFrame({"mu": [1]}), "swapped"),
        ({"mu": [1]}, "swapped"),
        ([1, 2], "swapped"),
        (range(3), "swapped"),
        (np.arange(3), "swapped"),
        (3.5, "without calling it"),
        (None, "without calling it"),
        (generator, "generator is a generator function"),
        (coroutine, "coroutine is an async function"),
        (async_generator, "async_generator is an async generator function"),
        (functools.partial(generator, 1), "a generator function"),
        (functools.partial(functools.partial(coroutine), 1), "an async function"),
        (Model().steps, "steps is a generator function"),
        (functools.partial(Model().steps, 1), "a generator function"),
        (GeneratorObject(), "GeneratorObject is a generator function"),
        (functools.partial(GeneratorObject(), 1), "a generator function"),
        (CoroutineObject(), "an async function"),
    ],
)
def test_what_is_no_plain_function_is_refused(f: Any, message: str) -> None:
    message = message.replace(" is a", r"\)? is a")
    with pytest.raises(InvalidArgumentError, match=f"(?s){message}") as refusal:
        check_call(f, ["mu"])
    assert refusal.value.argument == "f"


@pytest.mark.parametrize(
    ("f", "name"),
    [
        (two, "two"),
        (lambda x: x, "lambda"),
        (functools.partial(two, 1), "two"),
        (functools.partial(functools.partial(lambda x: x)), "lambda"),
        (Model, "Model"),
        (Model().fit, "fit"),
        (Model(), "Model"),
        (functools.partial(Model(), 1), "Model"),
        (len, "len"),
        ([].append, "append"),
        (np.sin, "sin"),
    ],
)
def test_a_function_has_a_readable_name(f: Any, name: str) -> None:
    assert function_name(f) == name


@pytest.mark.parametrize("value", [1, 7, 10**30, np.int8(4), np.uint64(4)])
def test_a_count_is_a_whole_number(value: Any) -> None:
    count = check_count(value, "nodes")
    assert count == value
    assert type(count) is int


def test_a_count_may_begin_at_zero() -> None:
    assert check_count(0, "retries", minimum=0) == 0


@pytest.mark.parametrize(
    "value", [0, -1, True, np.True_, 2.0, 2.5, np.float64(2), "4", None, [4], math.nan, math.inf]
)
def test_all_else_is_no_count(value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="nodes must be a whole number, 1 or more") as e:
        check_count(value, "nodes")
    assert e.value.argument == "nodes"
    assert repr(value) in str(e.value)
