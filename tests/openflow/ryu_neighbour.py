"""A Ryu app for a test: an ordinary one, beside ours, that asks for flow statistics as well."""

from __future__ import annotations

from typing import Any

from ryu.base import app_manager
from ryu.controller import ofp_event
from ryu.controller.handler import MAIN_DISPATCHER, set_ev_cls
from ryu.lib import hub

from tests.openflow.ryu_app import say


class Neighbour(app_manager.RyuApp):  # type: ignore[misc]
    """Asks for flow statistics the way Ryu's own examples do."""

    @set_ev_cls(ofp_event.EventOFPStateChange, MAIN_DISPATCHER)
    def on_state(self, change: Any) -> None:
        """Ask until the table is there."""
        hub.spawn(self.ask, change.datapath)

    def ask(self, datapath: Any) -> None:
        """A request every 100 ms, ten of them."""
        for _ in range(10):
            hub.sleep(0.1)
            datapath.send_msg(datapath.ofproto_parser.OFPFlowStatsRequest(datapath))

    @set_ev_cls(ofp_event.EventOFPFlowStatsReply, MAIN_DISPATCHER)
    def on_reply(self, event: Any) -> None:
        """A reply that Ryu has parsed, and no other app's."""
        say("neighbour", len(event.msg.body), len({stat.table_id for stat in event.msg.body}))
