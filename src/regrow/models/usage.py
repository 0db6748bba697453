"""What a job has used of a model: tokens, money, requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from regrow.config import ModelSection

_MILLION = 1_000_000


@dataclass(frozen=True)
class Tokens:
    """What one answer used.

    Attributes:
        input: tokens of the request that came from no cache.
        output: tokens of the answer, thinking included.
        cache_read: tokens of the request that came from the upstream's cache.
        cache_write: tokens of the request that were written to it for minutes.
        cache_write_hour: the same for an hour.
        estimated: whether the upstream has not said it (yet) and it was counted from the text.
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_hour: int = 0
    estimated: bool = False

    @property
    def total(self) -> int:
        """All of them."""
        return self.input + self.output + self.cache_read + self.cache_write + self.cache_write_hour


@dataclass(frozen=True)
class Usage:
    """What a job has used so far.

    Attributes:
        requests: requests for an answer that went to the upstream.
        refused: requests that did not: another model, a secret, a budget that is gone.
        input, output, cache_read, cache_write: tokens, as in `Tokens`; `cache_write` is both kinds.
        cost: money in `currency`, by the prices of the settings; 0 where there are none.
        currency: of `cost`.
        estimated: whether some of it was counted from the text, because an answer was cut or the upstream does not say.
    """

    requests: int = 0
    refused: int = 0
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cost: float = 0.0
    currency: str = "USD"
    estimated: bool = False

    @property
    def tokens(self) -> int:
        """All tokens."""
        return self.input + self.output + self.cache_read + self.cache_write

    def plus(self, tokens: Tokens, cost: float) -> Usage:
        """With the tokens and the money of one more answer; the number of requests stays."""
        return replace(
            self,
            input=self.input + tokens.input,
            output=self.output + tokens.output,
            cache_read=self.cache_read + tokens.cache_read,
            cache_write=self.cache_write + tokens.cache_write + tokens.cache_write_hour,
            cost=self.cost + cost,
            estimated=self.estimated or tokens.estimated,
        )


def cost(settings: ModelSection, model: str, tokens: Tokens) -> float:
    """The money for one answer of `model`; 0 for a model without prices."""
    price = settings.prices.get(model)
    if price is None:
        return 0.0

    read = price.input if price.cache_read is None else price.cache_read
    write = price.input if price.cache_write is None else price.cache_write
    hour = write if price.cache_write_hour is None else price.cache_write_hour
    return (
        tokens.input * price.input
        + tokens.output * price.output
        + tokens.cache_read * read
        + tokens.cache_write * write
        + tokens.cache_write_hour * hour
    ) / _MILLION


def least_cost(settings: ModelSection, model: str, tokens: int) -> float:
    """The least that a request of so many tokens costs: as if all of it came from the cache."""
    price = settings.prices.get(model)
    if price is None:
        return 0.0
    return tokens * min(price.input, price.input if price.cache_read is None else price.cache_read) / _MILLION


def whole(values: Mapping[str, object], name: str) -> int:
    """A number of tokens as an upstream writes it; what is none, or below 0, is 0."""
    value = values.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
