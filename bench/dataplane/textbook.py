"""The reactive load balancer that a reader of Ryu's book writes: the baseline.

One handler learns hardware addresses, answers ARP for the service's address, and gives each TCP
connection to the next backend in turn with a pair of per-connection entries. It is written as such
apps are, not to lose: entries before the packet, exact matches, an idle timeout, no waiting. The
backends and the service's address come by environment variables.
"""

from __future__ import annotations

import itertools
import json
import os
from typing import Any

from ryu.base import app_manager
from ryu.controller import ofp_event
from ryu.controller.handler import CONFIG_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from ryu.lib.packet import arp, ethernet, ipv4, packet, tcp
from ryu.ofproto import ofproto_v1_3

SERVICE_MAC = "02:00:00:00:00:64"
IDLE_TIMEOUT_S = 10
TABLE_MISS, CONNECTION = 0, 100
"""Priorities."""


class Textbook(app_manager.RyuApp):  # type: ignore[misc]
    """Learning switch and round robin in one."""

    OFP_VERSIONS = (ofproto_v1_3.OFP_VERSION,)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.address = os.environ["TEXTBOOK_ADDRESS"]
        self.backends = itertools.cycle(json.loads(os.environ["TEXTBOOK_BACKENDS"]))
        self.ports: dict[str, int] = {}

    @set_ev_cls(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)  # type: ignore[untyped-decorator]
    def connected(self, event: Any) -> None:
        """Ask for every packet that no entry matches."""
        datapath = event.msg.datapath
        ofp, parser = datapath.ofproto, datapath.ofproto_parser
        ask = [parser.OFPActionOutput(ofp.OFPP_CONTROLLER, ofp.OFPCML_NO_BUFFER)]
        self.add_flow(datapath, TABLE_MISS, parser.OFPMatch(), ask)

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def packet_in(self, event: Any) -> None:
        """Learn, then answer, balance or forward."""
        message = event.msg
        got = packet.Packet(message.data)
        ether = got.get_protocol(ethernet.ethernet)
        asked, ip, segment = (got.get_protocol(kind) for kind in (arp.arp, ipv4.ipv4, tcp.tcp))
        in_port = message.match["in_port"]
        self.ports[ether.src] = in_port
        if asked and asked.opcode == arp.ARP_REQUEST and asked.dst_ip == self.address:
            self.answer(message.datapath, in_port, asked)
        elif ip and segment and ip.dst == self.address:
            self.balance(message, in_port, ether, ip, segment)
        else:
            self.forward(message, in_port, ether)

    def answer(self, datapath: Any, in_port: int, asked: Any) -> None:
        """The service's address is at a hardware address of ours."""
        reply = packet.Packet()
        reply.add_protocol(ethernet.ethernet(asked.src_mac, SERVICE_MAC, 0x0806))
        reply.add_protocol(
            arp.arp(
                opcode=arp.ARP_REPLY,
                src_mac=SERVICE_MAC,
                src_ip=self.address,
                dst_mac=asked.src_mac,
                dst_ip=asked.src_ip,
            )
        )
        reply.serialize()
        parser = datapath.ofproto_parser
        self.send(datapath, reply.data, [parser.OFPActionOutput(in_port)])

    def balance(self, message: Any, in_port: int, ether: Any, ip: Any, segment: Any) -> None:
        """The next backend gets this connection: an entry for each direction, then the packet."""
        datapath, backend = message.datapath, next(self.backends)
        parser = datapath.ofproto_parser
        there = [
            parser.OFPActionSetField(eth_dst=backend["mac"]),
            parser.OFPActionSetField(ipv4_dst=backend["ip"]),
            parser.OFPActionOutput(backend["port"]),
        ]
        back = [
            parser.OFPActionSetField(eth_src=SERVICE_MAC),
            parser.OFPActionSetField(ipv4_src=self.address),
            parser.OFPActionOutput(in_port),
        ]
        replies = parser.OFPMatch(
            in_port=backend["port"],
            eth_type=0x0800,
            ip_proto=6,
            ipv4_src=backend["ip"],
            ipv4_dst=ip.src,
            tcp_src=segment.dst_port,
            tcp_dst=segment.src_port,
        )
        requests = parser.OFPMatch(
            in_port=in_port,
            eth_type=0x0800,
            ip_proto=6,
            ipv4_src=ip.src,
            ipv4_dst=self.address,
            tcp_src=segment.src_port,
            tcp_dst=segment.dst_port,
        )
        self.add_flow(datapath, CONNECTION, replies, back, IDLE_TIMEOUT_S)
        self.add_flow(datapath, CONNECTION, requests, there, IDLE_TIMEOUT_S)
        self.send(datapath, message.data, there)

    def forward(self, message: Any, in_port: int, ether: Any) -> None:
        """To the port where the address was seen, or to all of them."""
        datapath = message.datapath
        parser, flood = datapath.ofproto_parser, datapath.ofproto.OFPP_FLOOD
        port = self.ports.get(ether.dst, flood)
        self.send(datapath, message.data, [parser.OFPActionOutput(port)], in_port)

    def add_flow(
        self, datapath: Any, priority: int, match: Any, actions: list[Any], idle_s: int = 0
    ) -> None:
        """Install one entry."""
        ofp, parser = datapath.ofproto, datapath.ofproto_parser
        apply = [parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, actions)]
        datapath.send_msg(
            parser.OFPFlowMod(
                datapath=datapath,
                priority=priority,
                match=match,
                instructions=apply,
                idle_timeout=idle_s,
            )
        )

    def send(
        self, datapath: Any, data: bytes, actions: list[Any], in_port: int | None = None
    ) -> None:
        """Send a packet on its way."""
        ofp, parser = datapath.ofproto, datapath.ofproto_parser
        datapath.send_msg(
            parser.OFPPacketOut(
                datapath=datapath,
                buffer_id=ofp.OFP_NO_BUFFER,
                in_port=ofp.OFPP_CONTROLLER if in_port is None else in_port,
                actions=actions,
                data=data,
            )
        )
