"""The hub as an Azure Function (Python v2 model): the same application as on a server, without WebSocket.

Its state is in the storage account that the setting LOCALMEM_HUB_DATABASE names. Devices bring their own
tokens, so the host asks for no key of its functions. README.md says how it gets there.
"""

import os

import azure.functions as func

from localmem_hub.on_demand import OnDemand

hub = OnDemand()
adapter = func.AsgiMiddleware(hub)
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.route("{*path}", methods=["GET", "POST", "PUT", "DELETE"])
async def requests(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """Every path: the hub knows its own."""
    return await adapter.handle_async(req, context)


@app.timer_trigger("timer", os.environ.get("LOCALMEM_HUB_CARE", "0 */30 * * * *"))
async def care(timer: func.TimerRequest) -> None:
    """What a hub that runs all the time does by itself: sweeps, and compaction."""
    failed = await hub.care()
    if failed:
        raise RuntimeError(f"not seen to: {', '.join(failed)}")
