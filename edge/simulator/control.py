"""How a person talks to the running carrier simulator: a little HTTP on loopback."""

from __future__ import annotations

from aiohttp import web

from edge.simulator.carrier import Behaviour, CarrierSim

DEFAULT_CALLER = "+496990009001"
"""A Frankfurt number that is kept free for fiction."""


def control(sim: CarrierSim) -> web.Application:
    """POST /call {number, caller?, seconds?}, POST /behave {behaviour}, GET /state."""

    async def call(request: web.Request) -> web.Response:
        asked = await request.json()
        try:
            text = await sim.call_in_and_echo(
                str(asked["number"]), str(asked.get("caller") or DEFAULT_CALLER), float(asked.get("seconds") or 10)
            )
        except ConnectionError as error:
            return web.json_response({"error": str(error)}, status=409)
        return web.json_response({"result": text})

    async def behave(request: web.Request) -> web.Response:
        asked = await request.json()
        try:
            sim.behaviour = Behaviour(asked["behaviour"])
        except ValueError:
            known = ", ".join(b.value for b in Behaviour)
            return web.json_response({"error": f"the simulator can: {known}"}, status=400)
        return web.json_response({"behaviour": sim.behaviour.value})

    async def state(_request: web.Request) -> web.Response:
        registered = sim.registered
        return web.json_response(
            {
                "behaviour": sim.behaviour.value,
                "registered": registered[0] if registered is not None else None,
                "calls": sum(not talk.ended.is_set() for talk in sim.conversations.values()),
            }
        )

    app = web.Application()
    app.add_routes([web.post("/call", call), web.post("/behave", behave), web.get("/state", state)])
    return app
