"""How single values are read: numbers, flags, lists and the few keys that take more than one form.

A value that came from a variable is text, so text that reads as a number or flag counts as one.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from gateway.core.limits import RATE

MAX_S = 31_536_000  # a year: beyond it somebody wrote milliseconds, and timers overflow


def setting(default: Any, text: str, **limits: Any) -> Any:
    """Declare one: its default, what it is for (with its unit), its bounds."""
    return Field(default, description=text, **limits)


class Section(BaseModel):
    """A mapping of the file: nothing unknown in it, nothing changed afterwards, null means the default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: Any) -> Any:
        # A section whose lines are all commented out is null in YAML; so is an empty variable.
        if not isinstance(values, Mapping):
            return values
        return {name: value for name, value in values.items() if value is not None or cls._takes_null(name)}

    @classmethod
    def _takes_null(cls, name: str) -> bool:
        field = cls.model_fields.get(name)
        return field is None or type(None) in getattr(field.annotation, "__args__", ())


def _no_flag(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")  # True is 1 in Python
    return value


def _or_off(value: Any) -> Any:
    # From a variable, where null cannot be written.
    return None if value in ("off", "null") else value


def _flag(value: Any) -> Any:
    spelt = {"true": True, "false": False}
    if isinstance(value, str) and value.lower() in spelt:
        return spelt[value.lower()]
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _list(value: Any) -> Any:
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return value


def _org(value: Any) -> Any:
    if value is True or value == "true":
        return True
    if value is False or not isinstance(value, (str, list)):
        raise ValueError("must be true (any organisation), an id or slug, or a list of them")
    return _list(value)


def _ages(value: Any) -> Any:
    return value if isinstance(value, Mapping) else {"first": value}


def _rate(value: Any) -> Any:
    if not isinstance(value, str) or RATE.fullmatch(value) is None:
        raise ValueError('must be a rate per s, min or h: "100/s", or "1000/min burst 200"')
    return value


def _per_caller(value: Any) -> Any:
    return value if isinstance(value, Mapping) else {"by_caller": value}


def _workers(value: Any) -> Any:
    text = str(value)
    if (text != "auto" and not (text.isdecimal() and 1 <= int(text[:9]) <= 1024)) or isinstance(value, bool):
        raise ValueError('must be a number from 1 to 1024, or "auto"')
    return text if text == "auto" else int(text)


def _plain_value(value: Any) -> Any:
    if not isinstance(value, (str, int, float, bool)):
        raise ValueError("must be text, a number, true or false")
    return value


def _publishable(value: str) -> str:
    if value.startswith("sk_"):
        raise ValueError("this is a secret key, which belongs in secret_key: a publishable key begins with pk_")
    return value


def _secret(value: SecretStr) -> SecretStr:
    if value.get_secret_value().startswith("pk_"):
        raise ValueError("this is a publishable key, which belongs in publishable_key: a secret key begins with sk_")
    return value


# Where a key has bounds of its own, they are all it has: of two lower bounds pydantic keeps one.
Count = Annotated[int, BeforeValidator(_no_flag)]
Skew = Annotated[float, Field(ge=0, le=60, allow_inf_nan=False), BeforeValidator(_no_flag)]
Whole = Annotated[int, Field(ge=0, le=2**53), BeforeValidator(_no_flag)]
Real = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_no_flag)]
Seconds = Annotated[float, Field(ge=0, le=MAX_S, allow_inf_nan=False), BeforeValidator(_no_flag)]
Timeout = Annotated[float, Field(gt=0, le=MAX_S, allow_inf_nan=False), BeforeValidator(_no_flag)]
Minutes = Annotated[int, Field(ge=1, le=2**31), BeforeValidator(_no_flag)]
Port = Annotated[int, Field(ge=0, le=65535), BeforeValidator(_no_flag)]
AdminPort = Annotated[Port | None, BeforeValidator(_or_off)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Strings = Annotated[tuple[str, ...], BeforeValidator(_list)]
Secrets = Annotated[tuple[SecretStr, ...], BeforeValidator(_list)]
Org = Annotated[Literal[True] | tuple[str, ...], BeforeValidator(_org)]
Workers = Annotated[int | Literal["auto"], BeforeValidator(_workers)]
Plain = Annotated[Any, BeforeValidator(_plain_value)]
PublishableKey = Annotated[str, AfterValidator(_publishable)]
SecretKey = Annotated[SecretStr, AfterValidator(_secret)]
Rate = Annotated[str, Field(json_schema_extra={"pattern": f"^{RATE.pattern}$"}), BeforeValidator(_rate)]
TokenType = Literal["session", "template", "api_key", "m2m", "oauth", "any"]
TokenTypes = Annotated[tuple[TokenType, ...], BeforeValidator(_list)]
AllowEncoded = Annotated[tuple[Literal["%2f", ";", "//"], ...], BeforeValidator(_list)]


class Ages(Section):
    """How long ago the factors may have been used."""

    first: Minutes | None = setting(None, "Minutes since the first factor")
    second: Minutes | None = setting(None, "Minutes since the second factor")


MaxAge = Annotated[Ages, BeforeValidator(_ages)]


class RouteRates(Section):
    """How often one client may call a route."""

    by_ip: Rate | None = setting(None, "By address, before verification; IPv6 by /64")
    by_user: Rate | None = setting(None, "By user")
    by_org: Rate | None = setting(None, "By organisation")
    by_machine: Rate | None = setting(None, "By machine")
    by_caller: Rate | None = setting(None, "By verified user or machine, else by address: what one text means")


RateLimit = Annotated[RouteRates, BeforeValidator(_per_caller, json_schema_input_type=Rate | RouteRates)]
