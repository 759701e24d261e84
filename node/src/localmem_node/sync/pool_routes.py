"""The daemon's routes for pools. `{pool}` is a name, an id, or the first digits of one.

GET  /v1/pools                                                what there is
POST /v1/pools {"hub", "name", "label"?, "invitation"?, "everything"?}    with "phrase"
POST /v1/pools/recover {"hub", "phrase", "label"?, "lost"?, "everything"?}
POST /v1/pools/join {"hub", "code", "label"?, "everything"?}              {"fingerprint", "pairing"}
POST /v1/pools/pairing {"pairing"?, "known"?, "wait_s"?}      {"state", "peer", "problem"}
POST /v1/pools/pairing/answer {"pairing"?, "agreed"}
POST /v1/pools/{pool}/invite {"role"?, "label"?}    {"code", "hub", "fingerprint", "pairing"}
GET  /v1/pools/{pool}/members
POST /v1/pools/{pool}/members {"device", "role"}              role null removes it
POST /v1/pools/{pool}/rotate {}                               {"epoch"}
POST /v1/pools/{pool}/leave {"force"?}
POST /v1/pools/{pool}/sending {"references"?, "padding"?}     both, as they are then
POST /v1/pools/{pool}/share {"projects"?, "name"?, "everything"?, "shared"?, "preview"?}
"""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from localmem_node.daemon.app import json_response
from localmem_node.errors import QueryError
from localmem_node.sync.sending import Sending, sending_json
from localmem_node.sync.sharing import EVERYTHING, NOTHING, Rule, rule_json
from localmem_protocol.padding import Padding

if TYPE_CHECKING:
    from localmem_node.sync.pools import Pools

Role = Literal["owner", "member", "reader"]
State = Literal["waiting", "introduced", "done", "failed"]

Body = TypeVar("Body", bound=msgspec.Struct)

WAIT_MAX_S: Final = 30.0


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Making(_Strict, frozen=True):
    """The body of POST /v1/pools."""

    hub: str
    name: str
    label: str = ""
    invitation: str | None = None
    everything: bool = False


class Recovering(_Strict, frozen=True):
    """The body of POST /v1/pools/recover."""

    hub: str
    phrase: str
    label: str = ""
    lost: list[str] = []
    everything: bool = True


class Joining(_Strict, frozen=True):
    """The body of POST /v1/pools/join."""

    hub: str
    code: str
    label: str = ""
    everything: bool = False


class Waiting(_Strict, frozen=True):
    """The body of POST /v1/pools/pairing: answered when the state is another than `known`."""

    pairing: int | None = None
    known: State = "failed"
    wait_s: float = 0.0


class Agreeing(_Strict, frozen=True):
    """The body of POST /v1/pools/pairing/answer."""

    agreed: bool
    pairing: int | None = None


class Inviting(_Strict, frozen=True):
    """The body of POST /v1/pools/{pool}/invite."""

    role: Role = "member"
    label: str = ""


class Changing(_Strict, frozen=True):
    """The body of POST /v1/pools/{pool}/members."""

    device: str
    role: Role | None


class Nothing(_Strict, frozen=True):
    """The body of POST /v1/pools/{pool}/rotate."""


class Leaving(_Strict, frozen=True):
    """The body of POST /v1/pools/{pool}/leave."""

    force: bool = False


class Sharing(_Strict, frozen=True):
    """The body of POST /v1/pools/{pool}/share: what to share from now on, or not to; or only to see."""

    projects: list[str] = []
    name: str = ""
    everything: bool | None = None
    shared: bool = True
    preview: bool = False


class Setting(_Strict, frozen=True):
    """The body of POST /v1/pools/{pool}/sending: how to send from now on; nothing, only to see."""

    references: bool | None = None
    padding: Padding | None = None


def default_label() -> str:
    """What this device is called if nobody says: the machine's name."""
    return platform.node().partition(".")[0][:64] or "a device"


class PoolRoutes:
    """The routes; `pools` gives what they are about, and makes it for the first of them."""

    def __init__(self, pools: Callable[[], Awaitable[Pools]]) -> None:
        self._pools = pools

    def routes(self) -> Sequence[BaseRoute]:
        """Every route of the module's table."""
        one = "/v1/pools/{pool:path}"  # names may have a "/" in them
        table: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
            ("GET", "/v1/pools", self.listed),
            ("POST", "/v1/pools", self.create),
            ("POST", "/v1/pools/recover", self.recover),
            ("POST", "/v1/pools/join", self.join),
            ("POST", "/v1/pools/pairing", self.pairing),
            ("POST", "/v1/pools/pairing/answer", self.answer),
            ("POST", f"{one}/invite", self.invite),
            ("GET", f"{one}/members", self.members),
            ("POST", f"{one}/members", self.change),
            ("POST", f"{one}/rotate", self.rotate),
            ("POST", f"{one}/leave", self.leave),
            ("POST", f"{one}/share", self.share),
            ("POST", f"{one}/sending", self.send),
        ]
        return [Route(path, handler, methods=[method]) for method, path, handler in table]

    async def listed(self, request: Request) -> Response:
        """GET /v1/pools."""
        return json_response((await self._pools()).status())

    async def create(self, request: Request) -> Response:
        """POST /v1/pools."""
        asked = await _body(request, Making)
        made = await (await self._pools()).create(
            asked.hub,
            asked.name,
            _rule(asked.everything),
            label=asked.label or default_label(),
            invitation=asked.invitation,
        )
        return json_response(made)

    async def recover(self, request: Request) -> Response:
        """POST /v1/pools/recover."""
        asked = await _body(request, Recovering)
        found = await (await self._pools()).recover(
            asked.hub,
            asked.phrase,
            _rule(asked.everything),
            label=asked.label or default_label(),
            lost=asked.lost,
        )
        return json_response(found)

    async def join(self, request: Request) -> Response:
        """POST /v1/pools/join."""
        asked = await _body(request, Joining)
        label = asked.label or default_label()
        rule = _rule(asked.everything)
        return json_response(await (await self._pools()).join(asked.hub, asked.code, rule, label))

    async def pairing(self, request: Request) -> Response:
        """POST /v1/pools/pairing."""
        asked = await _body(request, Waiting)
        if not 0 <= asked.wait_s <= WAIT_MAX_S:
            raise QueryError("wait_s", f"must be from 0 to {WAIT_MAX_S:.0f} seconds")
        return json_response(
            await (await self._pools()).meeting(asked.known, asked.wait_s, asked.pairing)
        )

    async def answer(self, request: Request) -> Response:
        """POST /v1/pools/pairing/answer."""
        asked = await _body(request, Agreeing)
        (await self._pools()).agree(asked.pairing, agreed=asked.agreed)
        return json_response({"agreed": asked.agreed})

    async def invite(self, request: Request) -> Response:
        """POST /v1/pools/{pool}/invite."""
        asked = await _body(request, Inviting)
        label = asked.label or default_label()
        return json_response(await (await self._pools()).invite(_pool(request), asked.role, label))

    async def members(self, request: Request) -> Response:
        """GET /v1/pools/{pool}/members."""
        return json_response(await (await self._pools()).members(_pool(request)))

    async def change(self, request: Request) -> Response:
        """POST /v1/pools/{pool}/members."""
        asked = await _body(request, Changing)
        if asked.role is None:
            return json_response(
                {"epoch": await (await self._pools()).remove(_pool(request), asked.device)}
            )
        await (await self._pools()).set_role(_pool(request), asked.device, asked.role)
        return json_response({"device": asked.device, "role": asked.role})

    async def rotate(self, request: Request) -> Response:
        """POST /v1/pools/{pool}/rotate."""
        await _body(request, Nothing)
        return json_response({"epoch": await (await self._pools()).rotate(_pool(request))})

    async def leave(self, request: Request) -> Response:
        """POST /v1/pools/{pool}/leave."""
        asked = await _body(request, Leaving)
        await (await self._pools()).leave(_pool(request), force=asked.force)
        return json_response({"left": True})

    async def share(self, request: Request) -> Response:
        """POST /v1/pools/{pool}/share."""
        asked = await _body(request, Sharing)
        pool = _pool(request)

        def changed(rule: Rule) -> Rule:
            if asked.everything is not None:
                rule = EVERYTHING if asked.everything else NOTHING
            if not asked.projects:
                return rule
            change = rule.sharing if asked.shared else rule.keeping_out
            return change(asked.projects, asked.name)

        if asked.preview:
            rule = changed((await self._pools()).rule(pool))
        else:
            rule = await (await self._pools()).share(pool, changed)
        shares = await (await self._pools()).preview(rule)
        return json_response(
            {"rule": rule_json(rule), "shared": [msgspec.to_builtins(one) for one in shares]}
        )

    async def send(self, request: Request) -> Response:
        """POST /v1/pools/{pool}/sending."""
        asked = await _body(request, Setting)

        def changed(sending: Sending) -> Sending:
            return Sending(
                sending.references if asked.references is None else asked.references,
                sending.padding if asked.padding is None else asked.padding,
            )

        sending = await (await self._pools()).send(_pool(request), changed)
        return json_response(sending_json(sending))


def _rule(everything: bool) -> Rule:
    return EVERYTHING if everything else NOTHING


def _pool(request: Request) -> str:
    return str(request.path_params["pool"])


async def _body(request: Request, kind: type[Body]) -> Body:
    """The body as this struct. Raises QueryError."""
    data: Any = await request.body() or b"{}"
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise QueryError("body", str(error)) from None
    except UnicodeDecodeError:
        raise QueryError("body", "must be UTF-8") from None
